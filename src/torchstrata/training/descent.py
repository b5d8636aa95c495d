"""Gradient descent on a linear network with the exact best step: by AUC or AUM along the line of scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params
from torchstrata.training.linesearch import best_step
from torchstrata.training.ranking import value_and_slope


@dataclasses.dataclass(frozen=True, repr=False)
class AUMLineSearch(Params):
    """Gradient descent whose every step is the best one: an optimizer for ``network=ts.Linear()``.

    The scores of a linear network are linear in the step, so AUM and AUC of all steps are known at once and no learning
    rate is left to choose. Meant for ``batch_size="all"``; with smaller batches each step is the best for its batch.
    The ``lr`` of the history is the step before the epoch. A schedule has nothing to say.

    Parameters
    ----------
    by : {"auc", "aum"}
        What the step makes best, as of :func:`torchstrata.training.linesearch.best_step`. The gradient is that of the
        learner's loss. AUM alone has its minimum where all scores are equal: prefer AUC.
    rates : bool
        As of ``ts.losses.aum``.
    max_steps : int or None
        AUC is followed over about so many crossings at most.

    References
    ----------
    Fowler, J. and Hocking, T. D. (2024). Efficient line search for optimizing area under the ROC curve in gradient
    descent. arXiv:2410.08635.

    Examples
    --------
    >>> import torchstrata as ts
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> learner = ts.TorchClassifier(
    ...     ts.Linear(), loss="aum", optimizer=ts.optim.AUMLineSearch(), batch_size="all", random_state=0
    ... )
    >>> from sklearn.metrics import roc_auc_score
    >>> bool(roc_auc_score(y, learner.fit(X, y).decision_function(X)) > 0.98)
    True
    """

    _: dataclasses.KW_ONLY
    by: str = "auc"
    rates: bool = True
    max_steps: int | None = 1_000_000

    def __post_init__(self) -> None:
        if self.by not in ("auc", "aum"):
            raise ConfigError(
                f"AUMLineSearch: by must be 'auc' or 'aum', got {self.by!r}. {did_you_mean(self.by, ['auc', 'aum'])}"
            )
        if self.max_steps is not None and (isinstance(self.max_steps, bool) or self.max_steps < 1):
            raise ConfigError(f"AUMLineSearch: max_steps must be an int >= 1 or None, got {self.max_steps!r}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """Build the optimizer.

        Parameters
        ----------
        parameters : iterable of Tensor
            Of a network that is linear in them.

        Returns
        -------
        torch.optim.Optimizer
            Its ``step`` needs what the training loop gives it: a closure that also shows the scores.
        """
        return LineSearch(list(parameters), self)


class LineSearch(torch.optim.Optimizer):
    """The optimizer of :class:`AUMLineSearch`.

    Parameters
    ----------
    parameters : list of Tensor
        Of a network that is linear in them.
    settings : AUMLineSearch
        How the step is chosen.
    """

    looks_again = True  # its step gets a closure, as that of LBFGS

    def __init__(self, parameters: list[Any], settings: AUMLineSearch):
        super().__init__(parameters, {"lr": 0.0})
        self.settings, self.is_linear = settings, False

    def step(self, closure: Any = None) -> Any:
        """Go to the best step along the negative gradient.

        Parameters
        ----------
        closure : callable
            Returns the loss and leaves its gradient; ``closure.output()`` gives the scores at the present weights,
            ``closure.target`` and ``closure.weight`` the targets and weights of the batch.

        Returns
        -------
        Tensor
            The loss before the step.
        """
        if not hasattr(closure, "output"):
            raise ConfigError(
                "AUMLineSearch must see the scores: use it as optimizer= of a TorchClassifier with "
                "network=ts.Linear(), or call torchstrata.training.descent.step_last_layer in a loop of your own"
            )
        value = closure()
        moving = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        with torch.no_grad():
            start = [p.clone() for p in moving]
            direction = [-p.grad for p in moving]
            scores = closure.output()
            _write(moving, direction)
            along = closure.output()  # linear: the scores of the direction are the direction of the scores
            step = 0.0 if self._is_one_class(closure) else self._best(scores, along, closure)
            if not self.is_linear:
                self._check_linear(moving, start, direction, closure, scores, along)
            _write(moving, [s + step * d for s, d in zip(start, direction, strict=True)])
        for group in self.param_groups:
            group["lr"] = step
        return value

    def _is_one_class(self, closure: Any) -> bool:
        positive = closure.target.flatten() > 0.5
        present = positive if closure.weight is None else positive[closure.weight > 0]
        return len(present) == 0 or bool(present.all()) or not bool(present.any())

    def _best(self, scores: Tensor, along: Tensor, closure: Any) -> float:
        positive, own = closure.target.flatten() > 0.5, self.settings
        if scores.numel() != positive.numel():
            raise ConfigError(f"AUMLineSearch needs one score a row, got outputs of shape {tuple(scores.shape)}")
        if not (torch.isfinite(scores).all() and torch.isfinite(along).all()):
            return 0.0  # the loss is not finite either, which the training loop tells
        return best_step(scores, along, positive, closure.weight, by=own.by, rates=own.rates, max_steps=own.max_steps)

    def _check_linear(
        self,
        moving: list[Tensor],
        start: list[Tensor],
        direction: list[Tensor],
        closure: Any,
        scores: Tensor,
        along: Tensor,
    ) -> None:
        """Go as far as the weights are from zero, once, and compare; the weights are put back."""
        size, speed = (float(torch.stack(torch._foreach_norm(part)).norm()) for part in (start, direction))
        far = size / speed if size and speed else 1.0
        _write(moving, [s + far * d for s, d in zip(start, direction, strict=True)])
        found, expected = closure.output(), scores + far * along
        _write(moving, start)
        self.is_linear = bool((found - expected).abs().max() <= 0.01 * (scores.abs() + far * along.abs()).max())
        if not self.is_linear and torch.isfinite(found).all():
            raise ConfigError(
                "AUMLineSearch needs a network that is linear in its weights, and this one is not: use "
                "network=ts.Linear(), or another optimizer such as ts.optim.AdamW()"
            )


def _write(parameters: list[Tensor], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@torch.no_grad()
def step_last_layer(
    layer: torch.nn.Linear,
    features: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    by: str = "auc",
    rates: bool = True,
    max_steps: int | None = 1_000_000,
) -> float:
    """Move the last layer of any network by the best step against the gradient of AUM.

    Parameters
    ----------
    layer : torch.nn.Linear
        With one output; its weights are changed, its bias, which AUM ignores, is not.
    features : Tensor, shape (n, layer.in_features)
        What the layer gets, of all rows.
    target : Tensor, shape (n,)
        0 or 1, both there.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    by, rates, max_steps
        As of :class:`AUMLineSearch`.

    Returns
    -------
    float
        The step; 0 where none is better.

    Raises
    ------
    ConfigError
        If the layer has several outputs.
    DataError
        If a class is missing or a number is not finite.

    Examples
    --------
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(layer.weight, -1.0)
    >>> step = step_last_layer(layer, torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    >>> layer.weight.item() > 0
    True
    """
    if layer.out_features != 1:
        raise ConfigError(f"step_last_layer needs a layer with one output, got {layer.out_features}")
    scores = layer(features).flatten()
    _, slope = value_and_slope(scores, target.flatten() > 0.5, sample_weight, rates)
    direction = -(slope @ features)
    along = features @ direction
    step = best_step(scores, along, target.flatten() > 0.5, sample_weight, by=by, rates=rates, max_steps=max_steps)
    layer.weight.add_(direction, alpha=step)
    return step
