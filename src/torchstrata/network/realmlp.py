"""RealMLP: a multi-layer perceptron with well-chosen defaults, as its authors train it.

Of the package pytabkit (1.7) by the same authors: layers, initial values, learning-rate and weight-decay factors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network import fast
from torchstrata.network.dropout import Dropout
from torchstrata.network.realmlp_columns import Columns
from torchstrata.network.tabular import ACTIVATIONS
from torchstrata.params import Params

# Initial values are set from so many rows at most, drawn at random; of wide tables fewer, for the memory.
INIT_ROWS, INIT_NUMBERS = 10_000, 2**26
LR_SCALE, LR_SMALL = 6.0, 0.1  # factors of the learning rate: of the scaling layer; of biases, activations, embeddings


@dataclasses.dataclass(frozen=True, repr=False)
class RealMLP(Params):
    """RealMLP of Holzmueller, Grinsztajn and Steinwart: strong on tables without tuning.

    Numbers get a small periodic embedding each, categories of few levels one column a level, others a learnt vector. A
    scaling layer with a fast learning rate, linear layers in the neural tangent parametrization whose initial values
    are set from the training rows, activations with a learnt strength, and dropout follow. ``ts.recipes.realmlp`` holds
    the settings of a learner with which its authors train it, and they matter: the learning rate of 0.001 that a
    learner has by itself is far too small here. ``ts.Encoder()`` is its preprocessing.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : str or None
        A name in :data:`torchstrata.network.tabular.ACTIVATIONS`; None is ``"mish"`` for regression, else ``"selu"``.
    dropout : float
        Share of hidden units that are left out in training, in [0, 1).
    n_frequencies : int
        Cosines a number; 0 leaves numbers as they are.
    number_size : int
        Length of the embedding of a number, the number itself included; at least 2.
    frequency_scale : float
        Standard deviation of the initial frequencies.
    one_hot : int
        Categories of at most so many levels become a column a level (one of 1 and -1 where there are two levels).
    category_size : int
        Length of the vectors of all other categories. That of values not seen in training is zero.
    clamp : bool
        Whether predictions of a number stay within the range of the training targets.

    References
    ----------
    Holzmueller, D., Grinsztajn, L. and Steinwart, I. (2024). Better by default: strong pre-tuned MLPs and boosted trees
    on tabular data. NeurIPS.

    Examples
    --------
    >>> import torchstrata as ts
    >>> learner = ts.TorchClassifier(**ts.recipes.realmlp("classification"))
    >>> learner.set_params(network__hidden=(64, 64), max_epochs=20).network
    RealMLP(hidden=(64, 64))
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    _: dataclasses.KW_ONLY
    activation: str | None = None
    dropout: float = 0.15
    n_frequencies: int = 16
    number_size: int = 4
    frequency_scale: float = 0.1
    one_hot: int = 8
    category_size: int = 8
    clamp: bool = True
    uses_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        widths = tuple(self.hidden) if isinstance(self.hidden, Iterable) else (self.hidden,)
        for width in widths:
            _check_count("hidden", width, 1, "must be widths")
        object.__setattr__(self, "hidden", tuple(map(int, widths)))
        for name, least in (("n_frequencies", 0), ("number_size", 2), ("one_hot", 0), ("category_size", 1)):
            _check_count(name, getattr(self, name), least)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, numbers.Real) or not 0 <= self.dropout < 1:
            raise ConfigError(f"RealMLP: dropout must be in [0, 1), got {self.dropout!r}")
        if not (isinstance(self.frequency_scale, numbers.Real) and 0 < self.frequency_scale < math.inf):
            raise ConfigError(f"RealMLP: frequency_scale must be a positive number, got {self.frequency_scale!r}")
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"RealMLP: activation must be a name or None, got {self.activation!r}. "
                + did_you_mean(str(self.activation), ACTIVATIONS)
            )

    def __call__(self, shapes: Shapes, n_outputs: int) -> nn.Module:
        """Build the network.

        Parameters
        ----------
        shapes : Shapes
            Of the inputs; its rows and target set the initial values.
        n_outputs : int
            Number of outputs.

        Returns
        -------
        torch.nn.Module
            Input to outputs, shape (n, n_outputs).
        """
        _check_shapes(shapes)
        link = getattr(n_outputs, "link", "identity")
        activation = self.activation or ("mish" if link in ("identity", "log") else "selu")
        module = RealMLPNetwork(self, shapes, n_outputs, activation, link)
        rows = shapes.rows
        if rows is not None and len(next(iter(rows.values()))):
            module.set_initial(rows, shapes.target)
        return module


def _check_count(name: str, value: Any, least: int, must: str = "must be an int") -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(f"RealMLP: {name} {must} >= {least}, got {value!r}")


def _check_shapes(shapes: Shapes) -> None:
    if set(shapes) - {"number", "category"} or any(len(shape) != 1 for shape in shapes.values()):
        raise ConfigError(f"RealMLP takes rows of a table, got inputs {dict(shapes)!r}")


class RealMLPNetwork(nn.Module):
    """The module of :class:`RealMLP`.

    Parameters
    ----------
    settings : RealMLP
        The blueprint.
    shapes : Shapes
        Of the inputs.
    n_outputs : int
        Number of outputs.
    activation : str
        A name in :data:`torchstrata.network.tabular.ACTIVATIONS`.
    link : str
        As of :class:`torchstrata.network.tabular.Outputs`. One logit is the difference of two units, as in the authors'
        network, which has a unit a class.
    """

    low: Tensor
    high: Tensor

    def __init__(self, settings: RealMLP, shapes: Shapes, n_outputs: int, activation: str, link: str):
        super().__init__()
        self.columns = Columns(settings, shapes)
        widths = [self.columns.width, *settings.hidden]
        self.scale = nn.Parameter(torch.ones(widths[0]))
        self.hidden = nn.ModuleList(
            HiddenLayer(size, width, activation, settings.dropout) for size, width in itertools.pairwise(widths)
        )
        self.is_difference = link == "logit" and int(n_outputs) == 1
        bias = getattr(n_outputs, "bias", True)
        self.last = TangentLinear(widths[-1], 2 if self.is_difference else int(n_outputs), bias=bias)
        self.clamps = settings.clamp and link == "identity"
        if self.clamps:
            self.register_buffer("low", torch.full((int(n_outputs),), -math.inf))
            self.register_buffer("high", torch.full((int(n_outputs),), math.inf))

    def forward(self, x: Any) -> Tensor:
        """Compute outputs (n, n_outputs) of numbers (n, p), or of a dict with ``"number"`` and ``"category"``."""
        h = self.columns(x) * self.scale
        for layer in self.hidden:
            h = layer(h)
        out = self.last(h)
        if self.is_difference:
            return out[:, 1:] - out[:, :1]
        return out.clamp(self.low, self.high) if self.clamps and not self.training else out

    def _layers(self) -> list[HiddenLayer]:
        return list(self.hidden)  # type: ignore[arg-type]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters with the factors of their learning rate and weight decay.

        Weight decay is a step of learning rate times decay, and the authors' package multiplies it with the factor of
        the learning rate once more: hence the same factor for both.
        """
        slow = [p for layer in self._layers() for p in layer.activation.parameters()]
        if self.columns.waves is not None:
            slow += self.columns.waves.parameters()
        linear = [*(layer.linear for layer in self._layers()), self.last]
        biases = [layer.bias for layer in linear if layer.bias is not None]
        known = {id(p) for p in (*slow, *biases, self.scale)}
        return [
            {"params": [p for p in self.parameters() if id(p) not in known]},
            {"params": [self.scale], "lr_factor": LR_SCALE, "weight_decay_factor": LR_SCALE},
            {"params": biases, "lr_factor": LR_SMALL, "weight_decay_factor": 0.0},
            {"params": slow, "lr_factor": LR_SMALL, "weight_decay_factor": LR_SMALL},
        ]

    @torch.no_grad()
    def set_initial(self, rows: dict[str, Tensor], target: Tensor | None) -> None:
        """Set initial values from the training rows: each unit varies by 1, and bends where there are rows.

        Parameters
        ----------
        rows : dict of str to Tensor
            Encoded training rows.
        target : Tensor, optional
            Their targets.
        """
        self.columns.set_initial(rows)
        n = len(next(iter(rows.values())))
        most = min(INIT_ROWS, max(256, INIT_NUMBERS // max(1, self.columns.width * 4)))
        if n > most:
            few = torch.randperm(n)[:most]
            rows = {name: value[few] for name, value in rows.items()}
        if "number" in rows:
            rows["number"] = rows["number"].to(self.scale.dtype)
        h = self.columns(rows if "category" in rows else rows["number"]) * self.scale
        for layer in self._layers():
            h = layer.activation(layer.linear.set_initial(h))  # no dropout: initial values are for prediction too
        self.last.set_initial(h)
        if self.clamps and target is not None:
            seen = target.reshape(len(target), -1)
            self.low[: seen.shape[1]], self.high[: seen.shape[1]] = seen.amin(0), seen.amax(0)


class TangentLinear(nn.Module):
    """A linear layer in the neural tangent parametrization: its product is divided by the root of its inputs.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Widths.
    bias : bool
        Whether to add a constant.
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, bias: bool = True):
        super().__init__()
        self.gain = 1 / math.sqrt(max(1, n_inputs))
        self.weight = nn.Parameter(torch.randn(n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, and add the bias."""
        if self.bias is None:
            return self.gain * (x @ self.weight.t())
        return torch.addmm(self.bias, x, self.weight.t(), alpha=self.gain)

    def set_initial(self, x: Tensor) -> Tensor:
        """Set weights and bias: each output varies by 1, and is zero somewhere among the rows.

        Parameters
        ----------
        x : Tensor of shape (n, n_inputs)
            What the layer gets of the training rows.

        Returns
        -------
        Tensor of shape (n, n_outputs)
            What it makes of them.
        """
        spread = (self.gain * (x @ self.weight.t())).std(0, correction=0)
        self.weight.div_(torch.where(spread > 0, spread, 1.0)[:, None])
        out = self.gain * (x @ self.weight.t())
        if self.bias is None:
            return out
        # a random point among five rows, a random five for each output
        chosen = torch.randint(len(x), (5, out.shape[1]))
        share = torch.empty_like(out[:1].expand(5, -1)).exponential_()
        self.bias.copy_(-(out.gather(0, chosen) * share / share.sum(0)).sum(0))
        return out + self.bias


class HiddenLayer(nn.Module):
    """Linear, activation of a learnt strength, dropout.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Widths.
    activation : str
        A name in :data:`torchstrata.network.tabular.ACTIVATIONS`.
    dropout : float
        Share that is left out.
    """

    def __init__(self, n_inputs: int, n_outputs: int, activation: str, dropout: float):
        super().__init__()
        self.linear = TangentLinear(n_inputs, n_outputs)
        self.activation = LearntActivation(activation, n_outputs)
        self.dropout = RowDropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the hidden units."""
        h, mask = self.linear(x), None
        if self.dropout is not None and self.training:
            mask = self.dropout.mask_of(h)
            if mask is None:
                return self.dropout(self.activation(h))
        return self.activation(h, mask)


class RowDropout(Dropout):
    """Dropout whose own draws lie row by row, as the units do."""

    def mask_of(self, x: Tensor) -> Tensor | None:
        """Return what units are multiplied with, in a fit on a CPU.

        Parameters
        ----------
        x : Tensor
            Units.

        Returns
        -------
        Tensor or None
            None where torch's dropout is to be taken, or none at all.
        """
        if self.stream is None or not self.p or not fast.is_plain(x):
            return None
        return self.mask(torch.from_numpy(self.stream.take(x.numel())), x.dtype).view(x.shape)


class LearntActivation(nn.Module):
    """Between the identity (strength 0) and an activation (1), for each unit.

    Parameters
    ----------
    activation : str
        A name in :data:`torchstrata.network.tabular.ACTIVATIONS`.
    n_units : int
        How many.
    """

    def __init__(self, activation: str, n_units: int):
        super().__init__()
        self.name = activation
        self.activation = ACTIVATIONS[activation]()
        self.strength = nn.Parameter(torch.ones(n_units))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the units, times a mask."""
        if self.name in fast.WRITTEN and fast.is_plain(x):
            return fast.LearntActivation.apply(x, self.strength, mask, self.name)
        out = torch.lerp(x, self.activation(x), self.strength.to(x.dtype))
        return out if mask is None else out * mask
