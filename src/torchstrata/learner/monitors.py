"""scikit-learn's own callbacks (1.9 and later): each epoch is a sub-context of the fit.

So scikit-learn's progress bar and monitors work on a learner, and inside any search that passes them on. With an older
scikit-learn nothing of this is there and nothing is missing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torchstrata.learner.job import Job
from torchstrata.training.callbacks import Callback
from torchstrata.training.state import TrainState

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's mixin where that is not there."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


class EpochContexts(Callback):
    """Open one sub-context of scikit-learn's callback tree for each epoch.

    Parameters
    ----------
    learner : TorchLearner
        Whose callbacks are called.
    job : Job
        What a fitted estimator can be made of while the fit runs.
    """

    weight = 1000.0  # after all others: the row of the history is complete

    def __init__(self, learner: Any, job: Job):
        self.learner, self.job = learner, job
        self.data = {"X": job.parts[0].X, "y": job.parts[0].y}

    def on_fit_begin(self, state: TrainState) -> None:
        """Open the context of the fit."""
        self.fit = self.learner._init_callback_context(max_subtasks=state.max_epochs)
        self.fit.call_on_fit_task_begin(estimator=self.learner, **self.data)

    def on_epoch_begin(self, state: TrainState) -> None:
        """Open the context of an epoch."""
        self.epoch = self.fit.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.learner, **self.data)

    def on_epoch_end(self, state: TrainState) -> None:
        """Close the context of the epoch; a callback may stop the fit."""
        stop = self.epoch.call_on_fit_task_end(
            estimator=self.learner, reconstruction_attributes=lambda: self._fitted(state), **self.data
        )
        if stop and not state.stop:
            state.stop = "a callback of scikit-learn"

    def on_fit_end(self, state: TrainState) -> None:
        """Close the context of the fit."""
        self.fit.call_on_fit_task_end(
            estimator=self.learner, reconstruction_attributes=lambda: self._fitted(state), **self.data
        )

    def _fitted(self, state: TrainState) -> dict[str, Any]:
        """Return what a learner holds that stopped here; only worked out for a callback that asks."""
        twin = copy.copy(self.learner)
        twin._keep(self.job, state)
        names = [n for n in vars(twin) if n.endswith("_") or n in ("_target", "_shapes")]
        made = {name: copy.deepcopy(getattr(twin, name)) for name in names}
        made["network_"].eval()
        return made


def monitors(learner: Any, job: Job) -> tuple[Callback, ...]:
    """Return the bridge to scikit-learn's callbacks, where the learner has any.

    Parameters
    ----------
    learner : TorchLearner
        Perhaps with callbacks, its own or of a search around it.
    job : Job
        The prepared fit.

    Returns
    -------
    tuple of Callback
        Empty where nobody listens, so that nothing is paid.
    """
    return (EpochContexts(learner, job),) if getattr(learner, "_skl_callbacks", None) else ()
