"""The scikit-learn face: prepare -> train -> keep."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from torchstrata.batches.loader import Rows, move
from torchstrata.batches.samplers import BatchPlan, plan_batches
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.learner.inputs import encode, fit_encoder, read_X, shapes_of
from torchstrata.learner.parts import Part, read_parts
from torchstrata.learner.settings import Settings, resolve_settings
from torchstrata.network.tabular import Outputs, build_network
from torchstrata.params import replace_nested
from torchstrata.training.callbacks import Callback
from torchstrata.training.engine import Evaluation, check_network, predict_blocks, train
from torchstrata.training.loss import LossTraits, resolve_loss
from torchstrata.training.optim import resolve_optimizer
from torchstrata.training.runtime import Decisions, Seeds, resolve_runtime
from torchstrata.training.schedules import resolve_schedule
from torchstrata.training.state import TrainState


class Target(Protocol):
    """A target as the loss wants it; made from the training rows."""

    def encode(self, y: Any) -> np.ndarray:
        """Return class numbers, or standardised numbers."""

    def truth(self, y: Any) -> np.ndarray:
        """Return what scorers compare with: class numbers, or the numbers themselves."""

    def n_outputs(self, traits: LossTraits) -> int:
        """Return how many outputs the network needs."""

    def response(self, output: torch.Tensor, traits: LossTraits) -> BaseEstimator:
        """Return outputs in the shape of a fitted estimator."""

    def weigh(self, part: Part, class_weight: Any) -> np.ndarray | None:
        """Return the weights of rows."""


@dataclasses.dataclass
class Job:
    """A prepared fit: everything is checked, nothing is trained.

    Parameters
    ----------
    module : torch.nn.Module
        With its initial weights, on the device.
    rows, valid : Rows
        Training and validation rows there.
    target : Target
        What was learnt about y.
    encoder : object
        Fitted on the training rows.
    parts : tuple of Part
        Training and validation rows as given.
    settings : Settings
        Resolved.
    plan : BatchPlan
        Draws the batches.
    seeds, decisions
        As of :mod:`torchstrata.training.runtime`.
    """

    module: torch.nn.Module
    rows: Rows
    valid: Rows | None
    target: Target
    encoder: Any
    parts: tuple[Part, Part | None]
    settings: Settings
    plan: BatchPlan
    seeds: Seeds
    decisions: Decisions

    def evaluation(self, every: int) -> Evaluation:
        """Say what is measured after an epoch.

        Parameters
        ----------
        every : int
            Evaluate every so many epochs.

        Returns
        -------
        Evaluation
            Scores of training outputs, loss and scores of validation rows.
        """
        measures, loss, traits = self.settings.measures, self.settings.loss, self.settings.loss.traits
        truths = {name: self.target.truth(p.y) for name, p in zip(("train", "valid"), self.parts, strict=True) if p}

        def measure(output: torch.Tensor, split: str, order: np.ndarray | None) -> dict[str, float]:
            truth = truths[split] if order is None else truths[split][order]
            scores = {}
            if split == "valid" and self.valid is not None:
                scores["loss"] = _loss_or_nan(loss, output, self.valid)
            return {**scores, **measures.score(self.target.response(output, traits), truth)}

        return Evaluation(measure, measures.first, measures.sign, self.valid, every, bool(measures.scorers))


class _Keeper(Callback):
    """Keep the state at hand, for a fit that ends by Ctrl-C."""

    state: TrainState | None = None

    def on_fit_begin(self, state: TrainState) -> None:
        self.state = state


class TorchLearner(BaseEstimator):
    """Base of TorchClassifier and TorchRegressor: prepare, train, keep, predict."""

    _kind = ""

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, stratum: Any = None, valid_set: Any = None
    ) -> Any:
        """Fit the network.

        Parameters
        ----------
        X : DataFrame (pandas or polars), array or tensor of shape (n, p), Dataset, or Task
            Training rows. A Task brings its own y, strata and weights.
        y : array-like of shape (n,) or (n, k)
            Targets.
        sample_weight : array-like of shape (n,), optional
            A row of weight zero is an absent row.
        stratum : array-like, Series or DataFrame of n rows, optional
            For batch samplers that need it, and for the validation split; several columns are crossed.
        valid_set : tuple (X, y) or Task, optional
            Validation rows, instead of ``valid=``.

        Returns
        -------
        TorchLearner
            This one, fitted.

        Raises
        ------
        ConfigError, DataError
            Before any training.
        NonFiniteError
            If the loss became NaN or infinite; ``history_`` holds the epochs before.
        """
        self._forget()
        job, keeper = self._prepare(X, y, sample_weight, stratum, valid_set), _Keeper()
        try:
            with job.decisions.active(job.seeds.dropout):
                state = train(
                    job.module,
                    job.rows,
                    loss=job.settings.loss,
                    optimizer=job.settings.optimizer,
                    plan=job.plan,
                    max_epochs=self.max_epochs,
                    decisions=job.decisions,
                    seeds=job.seeds,
                    evaluation=job.evaluation(self.eval_every),
                    early_stopping=self.early_stopping,
                    schedule=job.settings.schedule,
                    callbacks=(keeper, *job.settings.callbacks),
                    augment=job.settings.augment,
                    trainable=self.trainable,
                )
        except NonFiniteError as error:
            self.history_ = history_table(error.history)
            raise
        except KeyboardInterrupt:
            if keeper.state is not None and keeper.state.history:
                self._keep(job, keeper.state)  # the best so far is there for whoever catches this
            raise
        return self._keep(job, state)

    def check_fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, stratum: Any = None, valid_set: Any = None
    ) -> Any:
        """Do all of fit but the training: what it would refuse is refused.

        Parameters
        ----------
        X, y, sample_weight, stratum, valid_set : object
            As of :meth:`fit`.

        Returns
        -------
        TorchLearner
            This one, not fitted.

        Raises
        ------
        ConfigError, DataError
            As of :meth:`fit`.
        """
        self._prepare(X, y, sample_weight, stratum, valid_set)
        self._forget()
        return self

    def set_params(self, **params: Any) -> Any:
        """Change settings by name; ``part__setting`` replaces the part and never edits it.

        Parameters
        ----------
        **params
            New settings.

        Returns
        -------
        TorchLearner
            This one.
        """
        own = self.get_params(deep=False)
        for role in {name.partition("__")[0] for name in params if "__" in name}:
            given = params.get(role, own.get(role))
            if isinstance(given, str):  # a name has no settings; the part it stands for has
                params[role] = self._named_part(role, given)
        for name, value in replace_nested(own, params, type(self).__name__).items():
            if value is not own[name]:
                setattr(self, name, value)
        return self

    def _named_part(self, role: str, given: str) -> Any:
        by_role = {
            "loss": lambda name: resolve_loss(name, self._kind),
            "runtime": resolve_runtime,
            "optimizer": resolve_optimizer,
            "schedule": resolve_schedule,
        }
        return by_role[role](given) if role in by_role else given

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    # prepare

    def _learn_target(self, part: Part, traits: LossTraits) -> Target:
        raise TypeError("TorchLearner is abstract: use TorchClassifier or TorchRegressor")

    def _prepare(self, X: Any, y: Any, sample_weight: Any, stratum: Any, valid_set: Any) -> Job:
        has_valid = valid_set is not None or (self.valid is not None and self.valid != "test")
        settings = resolve_settings(self, self._kind, has_valid=has_valid)
        seeds = Seeds(self._root_seed())
        part, valid_part = read_parts(
            self,
            X,
            y,
            sample_weight=sample_weight,
            stratum=stratum,
            valid_set=valid_set,
            seed=seeds.valid,
            stratify=self._kind == "classification",
        )
        target = self._learn_target(part, settings.loss.traits)
        plan = self._plan(settings.sampler, part)
        encoder = fit_encoder(self.encoder, part.X)
        dtype = torch.float64 if settings.runtime.precision == "float64" else torch.float32
        x, n_outputs = encode(encoder, part.X, dtype), target.n_outputs(settings.loss.traits)
        module = self._build(shapes_of(encoder, x), n_outputs, settings, seeds, dtype)
        largest = int(np.diff(plan.draw(1, seeds.batches)[1]).max())
        decisions = settings.runtime.decide(parameters=sum(p.numel() for p in module.parameters()), batch_rows=largest)
        module = module.to(decisions.device)
        rows = _rows(x, target.encode(part.y), target.weigh(part, self.class_weight), n_outputs, dtype, decisions)
        check_network(module, rows.x, n_outputs)
        valid = None
        if valid_part is not None:
            valid_x = encode(encoder, valid_part.X, dtype)
            valid = _rows(valid_x, target.encode(valid_part.y), valid_part.weight, n_outputs, dtype, decisions)
        return Job(module, rows, valid, target, encoder, (part, valid_part), settings, plan, seeds, decisions)

    def _plan(self, sampler: Any, part: Part) -> BatchPlan:
        if getattr(sampler, "needs_strata", False) and part.stratum is None:
            raise ConfigError(
                f"batch_sampler {sampler!r} needs a stratum for every row and there is none: pass fit(X, y, stratum=y), "
                "give the task a stratum role (task.with_roles(stratum='Class')), or in a search call "
                "learner.set_fit_request(stratum=True) and pass params={'stratum': y}"
            )
        return plan_batches(sampler, len(part.X), part.stratum)

    def _build(
        self, shapes: Shapes, n_outputs: int, settings: Settings, seeds: Seeds, dtype: torch.dtype
    ) -> torch.nn.Module:
        outputs = Outputs(n_outputs, bias=not settings.loss.traits.shift_invariant)
        with torch.random.fork_rng([]):
            torch.manual_seed(seeds.weights)
            return build_network(self.network, shapes, outputs).to(dtype)

    def _root_seed(self) -> int:
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(self.random_state, int | np.integer) and not isinstance(self.random_state, bool):
            if self.random_state < 0:
                raise ConfigError(f"random_state must be an int >= 0, got {self.random_state!r}")
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # keep

    def _keep(self, job: Job, state: TrainState) -> Any:
        self.history_ = history_table(state.history)
        self.best_epoch_, self.best_score_ = state.best_epoch, state.best_score
        self.stop_reason_ = state.stop or "max_epochs"
        self.network_, self.encoder_, self.loss_ = job.module, job.encoder, job.settings.loss
        self.runtime_, self.seed_, self._target = job.decisions, job.seeds.root, job.target
        return self

    # predict

    def _outputs(self, X: Any) -> torch.Tensor:
        """Outputs of the network; a row's result depends on nothing but the row."""
        check_is_fitted(self, "network_")
        table = read_X(self, X, reset=False)
        x = move(encode(self.encoder_, table, self.runtime_.dtype), self.runtime_.device)
        with self.runtime_.active():
            return predict_blocks(self.network_, x).cpu()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.encoder is not None
        tags.input_tags.string = tags.input_tags.categorical = self.encoder is not None
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")


def _rows(
    x: Any, values: np.ndarray, weight: np.ndarray | None, n_outputs: int, dtype: torch.dtype, decisions: Decisions
) -> Rows:
    y = torch.from_numpy(values)
    # class numbers stay integers for several outputs; the single logit and regression compare floats
    y = y.to(dtype) if values.dtype.kind == "f" or n_outputs == 1 else y
    w = None if weight is None else torch.from_numpy(np.ascontiguousarray(weight)).to(dtype)
    return Rows(x, y, w).to(decisions.device)


def _loss_or_nan(loss: Any, output: torch.Tensor, rows: Rows) -> float:
    with torch.no_grad():
        try:
            return float(loss(output, rows.y, rows.weight))
        except NonFiniteError:
            return float("nan")  # a validation score may be undefined; the training loss may not


def history_table(history: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the table of a fit.

    Parameters
    ----------
    history : list of dict
        A row an epoch.

    Returns
    -------
    DataFrame
        Columns epoch, train_loss, lr, seconds, then scores of training rows, then of validation rows.
    """
    first = ["epoch", "train_loss", "lr", "seconds"]
    table = pd.DataFrame(history, columns=None if history else first)
    rest = [name for name in table.columns if name not in first]
    ordered = [n for n in rest if n.startswith("train_")] + [n for n in rest if n.startswith("valid_")]
    return table[first + ordered + [name for name in rest if name not in ordered]]
