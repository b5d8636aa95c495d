"""What one epoch leaves behind: losses, scores, a row of the history; and what is kept when a fit ends."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from torchstrata.batches.loader import Rows
from torchstrata.errors import NonFiniteError
from torchstrata.interrupts import check
from torchstrata.network.freeze import Freezer
from torchstrata.training.callbacks import Hooks
from torchstrata.training.predict import predict_blocks
from torchstrata.training.state import BestSoFar, TrainState, weights_of, write_weights


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured, on what, and how often.

    Parameters
    ----------
    measure : callable
        ``(output, split, order) -> dict`` of scores by name. ``split`` is ``"train"`` or ``"valid"``; ``order`` says to
        which training rows the outputs belong.
    first : str
        The measure that decides.
    sign : int
        1 where it is better when greater, -1 when smaller.
    valid : Rows, optional
        Validation rows.
    every : int
        Evaluate when ``epoch % every == 0`` and after the last epoch.
    train_scores : bool
        Whether outputs of training rows are kept and measured too.
    """

    measure: Callable[..., dict[str, float]]
    first: str = "loss"
    sign: int = -1
    valid: Rows | None = None
    every: int = 1
    train_scores: bool = False


def sign_of(evaluation: Evaluation | None) -> int:
    """Say whether the deciding measure is better when greater (1) or smaller (-1)."""
    return evaluation.sign if evaluation else 1


class EpochRecord:
    """What one epoch leaves behind: losses on the device, outputs where they are measured, a row of the history.

    Parameters
    ----------
    state : TrainState
        Of the fit.
    evaluation : Evaluation, optional
        What is measured.
    order, bounds : ndarray of int64
        The batches of this epoch.
    """

    def __init__(self, state: TrainState, evaluation: Evaluation | None, order: np.ndarray, bounds: np.ndarray):
        self.state, self.evaluation, self.order, self.bounds = state, evaluation, order, bounds
        check()  # Ctrl-C in the epoch before, where somebody swallowed it
        state.order, state.bounds = order, bounds
        self.n_steps = len(bounds) - 1
        self.started = time.perf_counter()
        self.lr = float(state.optimizer.param_groups[0]["lr"])
        due = evaluation is not None and (state.epoch % evaluation.every == 0 or state.epoch == state.max_epochs)
        self.evaluates = due and evaluation is not None
        self.keeps_outputs = evaluation is not None and due and evaluation.train_scores

    def seconds(self) -> float:
        """Return how long the epoch has taken so far."""
        return time.perf_counter() - self.started

    def read(self, losses: torch.Tensor, masses: torch.Tensor | None, norm: torch.Tensor) -> dict[str, Any]:
        """Wait for the device, once: the losses, and the norm of the weights.

        Parameters
        ----------
        losses, masses : Tensor of shape (batches,)
            Loss and sum of weights of each batch.
        norm : Tensor
            Of the weights.

        Returns
        -------
        dict
            The row of the history.

        Raises
        ------
        NonFiniteError
            If a loss or a weight is not finite.
        """
        wide = torch.float32 if losses.device.type == "mps" else torch.float64
        parts = [losses, norm[None]] if masses is None else [losses, masses, norm[None]]
        values = torch.cat([part.to(wide) for part in parts]).cpu().numpy()
        weights = np.diff(self.bounds) if masses is None else values[self.n_steps : -1]
        return self.take(values[: self.n_steps], weights, values[-1])

    def take(self, losses: np.ndarray, masses: np.ndarray, norm: float) -> dict[str, Any]:
        """Make the row of the history.

        Parameters
        ----------
        losses, masses : ndarray of shape (batches,)
            Loss and sum of weights of each batch.
        norm : float
            Of the weights; a finite loss can have a gradient that is not, so the weights are looked at too.

        Returns
        -------
        dict
            The row; it stands in the history.

        Raises
        ------
        NonFiniteError
            If a loss or a weight is not finite.
        """
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            self.state.step = int(bad[0]) + 1
            raise NonFiniteError(f"the loss became {losses[bad[0]]}")
        if not math.isfinite(norm):
            raise NonFiniteError("the weights became NaN or infinite")
        total = masses.sum()
        mean = float(np.dot(losses, masses) / total) if total else 0.0
        row = {"epoch": self.state.epoch, "train_loss": mean, "lr": self.lr}
        self.state.history.append(row)
        return row

    def watched(self, row: dict[str, Any]) -> float | None:
        """Return the loss that a schedule may follow: of validation rows where there are any, when it is known."""
        if self.evaluation is None or self.evaluation.valid is None:
            return row["train_loss"]
        return row.get("valid_loss")

    def evaluate(
        self,
        row: dict[str, Any],
        outputs: torch.Tensor | None,
        best: BestSoFar,
        hooks: Hooks,
        predicted: torch.Tensor | None = None,
    ) -> None:
        """Measure, remember the best, and stop where nothing gets better.

        Parameters
        ----------
        row : dict
            Of the history; gets the scores.
        outputs : Tensor, optional
            Of the training rows, where they are measured.
        best : BestSoFar
            Is told.
        hooks : Hooks
            Are called.
        predicted : Tensor, optional
            Outputs of the validation rows; computed here where they are not given.
        """
        state, evaluation = self.state, self.evaluation
        assert evaluation is not None
        if self.keeps_outputs:
            scores = evaluation.measure(outputs, "train", self.order)
            row.update({f"train_{name}": value for name, value in scores.items()})
        if evaluation.valid is None:
            return
        hooks.call("on_valid_begin", state)
        predicted = predict_blocks(state.module, evaluation.valid.x) if predicted is None else predicted
        state.scores = evaluation.measure(predicted, "valid", None)
        row.update({f"valid_{name}": value for name, value in state.scores.items()})
        hooks.call("on_valid_end", state)
        if best.update(state.epoch, state.scores[evaluation.first], state.module) and not state.stop:
            state.stop = f"no improvement in {best.waited} evaluations"
        state.best_epoch, state.best_score = best.epoch, best.score


def located(error: NonFiniteError, state: TrainState, best: BestSoFar) -> NonFiniteError:
    """Say where a loss stopped being a number, what is kept and what helps.

    Parameters
    ----------
    error : NonFiniteError
        What happened.
    state : TrainState
        Where.
    best : BestSoFar
        What is kept.

    Returns
    -------
    NonFiniteError
        With epoch, step and history.
    """
    last = best.epoch if best.weights is not None else len(state.history)
    kept = f"after epoch {last}" if last else "of the start"
    return NonFiniteError(
        f"{error} at epoch {state.epoch}, step {state.step} (lr {float(state.optimizer.param_groups[0]['lr']):g}); "
        f"the weights {kept} are kept. Lower the learning rate (optimizer__lr), clip the gradient "
        "(runtime=ts.Runtime(clip_norm=1.0)) or scale the inputs.",
        epoch=state.epoch,
        step=state.step,
        history=[row for row in state.history if row["epoch"] < state.epoch],
    )


@contextlib.contextmanager
def settling(state: TrainState, freezer: Freezer, best: BestSoFar, good: list[torch.Tensor]) -> Iterator[None]:
    """Whatever ends the epochs: put the best weights back.

    Where a loss was not finite, the last good ones; after Ctrl-C those of the last whole epoch, if there is no best.

    Parameters
    ----------
    state : TrainState
        Of the fit.
    freezer : Freezer
        Lets go of the parameters.
    best : BestSoFar
        Holds the best weights, where those are kept.
    good : list of Tensor
        The weights after the last row of the history.

    Yields
    ------
    None
    """
    try:
        yield
    except NonFiniteError as error:
        write_weights(weights_of(state.module), good)
        raise located(error, state, best) from None
    except KeyboardInterrupt:
        write_weights(weights_of(state.module), good)
        raise
    finally:
        settle(state, best)
        freezer.end()


def settle(state: TrainState, best: BestSoFar) -> None:
    """Put the best weights back and say which these are.

    Parameters
    ----------
    state : TrainState
        Of a fit that ends.
    best : BestSoFar
        What it remembers.
    """
    if best.weights is not None:
        write_weights(weights_of(state.module), best.weights)
    state.best_epoch, state.best_score = best.epoch or len(state.history), best.score
    state.output = state.target = state.loss = None
