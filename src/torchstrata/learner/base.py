"""The scikit-learn face: prepare -> train -> keep."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from torchstrata.batches.samplers import BatchPlan, plan_batches
from torchstrata.batches.stream import Stream
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.interrupts import interruptible
from torchstrata.learner.contract import warn_of_collapse
from torchstrata.learner.job import Job, Target, check_gradient, make_rows, outputs_for, rows_to_show
from torchstrata.learner.loading import choose_loading, loading
from torchstrata.learner.monitors import CallbackSupportMixin, monitors, with_callbacks
from torchstrata.learner.outputs import compute_outputs
from torchstrata.learner.parts import Part, read_parts, y_to_bin
from torchstrata.learner.settings import choose_epochs, resolve_settings
from torchstrata.learner.shared import NOTHING, Shared
from torchstrata.learner.tensors import automatic_encoder, encode, fit_encoder, lengths_of, shapes_of
from torchstrata.network.tabular import MLP, Linear, Outputs, build_network, named_network
from torchstrata.params import Params, replace_nested
from torchstrata.training.callbacks import Callback
from torchstrata.training.engine import check_network, train
from torchstrata.training.groups import groups_of
from torchstrata.training.loss import Loss, resolve_loss, with_class_counts
from torchstrata.training.many import Fit
from torchstrata.training.optim import resolve_optimizer
from torchstrata.training.runtime import Seeds, resolve_runtime
from torchstrata.training.schedules import resolve_schedule
from torchstrata.training.state import TrainState

_OF_COLUMNS = ("n_features_in_", "feature_names_in_", "_columns", "_bytes")


class _Keeper(Callback):
    """Keep the state at hand, for a fit that ends by Ctrl-C."""

    weight = -math.inf
    job: Job | None = None
    state: TrainState | None = None

    def on_fit_begin(self, state: TrainState) -> None:
        self.state = state

    def streams(self) -> list[Stream]:
        return self.job.streams() if self.job else []


class TorchLearner(CallbackSupportMixin, BaseEstimator):
    """Base of TorchClassifier and TorchRegressor: prepare, train, keep, predict."""

    _kind = ""

    @with_callbacks
    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, stratum: Any = None, valid_set: Any = None
    ) -> Any:
        """Fit the network.

        Parameters
        ----------
        X : DataFrame (pandas or polars), array or tensor of shape (n, p), dict or list of arrays, Dataset or Task
            Training rows. A Task brings its own y, strata and weights. A dict names several inputs; a list of arrays of
            unequal length is one input of sequences.
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
        keeper = _Keeper()
        with interruptible(in_workers=False):
            self._forget()
            try:
                with loading(keeper):
                    keeper.job = job = self._prepare(X, y, sample_weight, stratum, valid_set)
                    with job.decisions.active(job.seeds.dropout):
                        state = train(**vars(self._fit_of(job, keeper)))
                    return self._keep(job, state)
            except BaseException as error:
                with loading(keeper):
                    self._give_up(error, keeper)
                raise

    def _fit_of(self, job: Job, *first: Callback) -> Fit:
        """Say what is trained, and how."""
        return Fit(
            job.module,
            job.rows,
            loss=job.settings.loss,
            optimizer=job.settings.optimizer,
            plan=job.plan,
            max_epochs=job.decisions.reasons["max_epochs"][0],
            decisions=job.decisions,
            seeds=job.seeds,
            evaluation=job.evaluation(self.eval_every),
            early_stopping=self.early_stopping,
            schedule=job.settings.schedule,
            callbacks=(*first, *job.contract(), *job.settings.callbacks, *monitors(self, job)),
            augment=job.settings.augment,
            trainable=self.trainable,
        )

    def _give_up(self, error: BaseException, keeper: _Keeper | None) -> None:
        """Leave the learner unfitted, unless Ctrl-C ended a fit that has a best so far."""
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted and keeper and keeper.job is not None and keeper.state is not None and keeper.state.history:
            self._keep(keeper.job, keeper.state)
            return
        self._forget()
        self._failure = f"{type(error).__name__}: {error}"
        if isinstance(error, NonFiniteError):
            self.history_ = history_table(error.history)

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
        try:
            self._prepare(X, y, sample_weight, stratum, valid_set, self.__dict__.get("_shared", NOTHING))
        finally:
            self._forget()
        return self

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        """Return the names of the settings; scikit-learn reads the signature anew each time, twenty times a clone."""
        return super()._get_param_names()

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
            "network": named_network,
            "encoder": lambda name: automatic_encoder() if name == "auto" else name,
            "loss": lambda name: resolve_loss(name, self._kind),
            "runtime": resolve_runtime,
            "optimizer": resolve_optimizer,
            "schedule": resolve_schedule,
        }
        return by_role[role](given) if role in by_role else given

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        for name in ("_failure", "_columns", "_bytes"):
            self.__dict__.pop(name, None)

    # prepare

    def _read_y(self, y: Any) -> np.ndarray:
        raise TypeError("TorchLearner is abstract: use TorchClassifier or TorchRegressor")

    def _learn_target(self, part: Part, loss: Any) -> Target:
        raise TypeError("TorchLearner is abstract: use TorchClassifier or TorchRegressor")

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, stratum: Any, valid_set: Any, shared: Shared = NOTHING
    ) -> Job:
        has_valid = valid_set is not None or (self.valid is not None and self.valid != "test")
        settings = resolve_settings(self, self._kind, has_valid=has_valid)
        where_rows_are = choose_loading(self, X, strict=True)
        seeds = Seeds(self._root_seed())
        split = "" if self.valid is None or isinstance(self.valid, str) else (seeds.valid, float(self.valid))
        given = (X, y, sample_weight, stratum, valid_set, split, type(self))
        part, valid_part = self._read(given, seeds, shared)
        target = shared.once(
            "target", (part, repr(settings.loss), type(self)), lambda: self._learn_target(part, settings.loss)
        )
        self._know(target)
        settings = dataclasses.replace(settings, loss=with_class_counts(settings.loss, target.class_counts(part)))
        plan = shared.once("plan", (part, repr(settings.sampler)), lambda: self._plan(settings.sampler, part))
        dtype = torch.float64 if settings.runtime.precision == "float64" else torch.float32
        encoder, x, valid_x = shared.once(
            "x", (part, self.encoder, str(dtype)), lambda: self._encode(part, valid_part, dtype)
        )
        n_outputs = target.n_outputs(settings.loss.traits)
        shapes, values = shapes_of(encoder, x), target.encode(part.y)
        shown = rows_to_show(self.network, shapes, x, values, part.weight)
        module = self._build(shapes, shown, outputs_for(n_outputs, settings.loss.traits), seeds, dtype)
        groups_of(module, settings.optimizer)  # refuses those that cannot be
        first = plan.draw(1, seeds.batches)
        largest = int(np.diff(first[1]).max())
        decisions = settings.runtime.decide(parameters=sum(p.numel() for p in module.parameters()), batch_rows=largest)
        n_shown = len(part.X) if part.weight is None else int((part.weight > 0).sum())
        decisions.reasons |= {"loading": where_rows_are, "max_epochs": choose_epochs(self.max_epochs, n_shown)}
        if decisions.device.type != "cpu":
            module = module.to(decisions.device)
        weight = target.weigh(part, self.class_weight, part)
        rows = make_rows(x, values, weight, n_outputs, dtype, decisions)
        with decisions.active(seeds.dropout):
            if not self._is_plain_mlp():  # which is right by construction
                check_network(module, rows.x, n_outputs)
            check_gradient(module, rows, settings.loss, first, ours=self._is_ours(settings.loss))
        valid = None
        if valid_part is not None:
            valid_weight = target.weigh(valid_part, self.class_weight, part)
            valid = make_rows(valid_x, target.encode(valid_part.y), valid_weight, n_outputs, dtype, decisions)
        return Job(module, rows, valid, target, encoder, (part, valid_part), settings, plan, seeds, decisions)

    def _read(self, given: tuple[Any, ...], seeds: Seeds, shared: Shared) -> tuple[Part, Part | None]:
        """Read the rows; the names of the columns stay with this learner."""

        def read() -> tuple[Any, dict[str, Any]]:
            X, y, sample_weight, stratum, valid_set, *_ = given
            parts = read_parts(
                self,
                X,
                y,
                sample_weight=sample_weight,
                stratum=stratum,
                valid_set=valid_set,
                seed=seeds.valid,
                stratify=self._kind == "classification",
            )
            return parts, {name: value for name, value in vars(self).items() if name in _OF_COLUMNS}

        parts, learnt = shared.once("parts", (*given, self.encoder), read)
        self.__dict__.update(learnt)
        return parts

    def _encode(self, part: Part, valid_part: Part | None, dtype: torch.dtype) -> tuple[Any, Any, Any]:
        present = part.present()
        encoder = fit_encoder(self.encoder, present.X, present.y)
        valid_x = None if valid_part is None else encode(encoder, valid_part.X, dtype)
        return encoder, encode(encoder, part.X, dtype), valid_x

    def _know(self, target: Target) -> None:
        """Take over what a target taught."""

    def _plan(self, sampler: Any, part: Part) -> BatchPlan:
        stratum = part.stratum
        if stratum is None and getattr(sampler, "bins", None) is not None:
            stratum = y_to_bin(part.y, sampler)
        if getattr(sampler, "by_length", False) and (stratum is None or sampler.column is not None):
            stratum = lengths_of(part.X, sampler)
        if getattr(sampler, "needs_strata", False) and stratum is None:
            raise ConfigError(
                f"batch_sampler {sampler!r} needs a stratum for every row and there is none: "
                "pass fit(X, y, stratum=y), give the task a stratum role (task.with_roles(stratum='Class')), "
                "or in a search call learner.set_fit_request(stratum=True) and pass params={'stratum': y}"
            )
        return plan_batches(sampler, len(part.X), stratum)

    def _build(
        self, shapes: Shapes, rows: tuple[Any, Any], outputs: Outputs, seeds: Seeds, dtype: torch.dtype
    ) -> torch.nn.Module:
        with torch.random.fork_rng([]), shapes.showing(*rows) as shown:
            torch.default_generator.manual_seed(seeds.weights)  # torch.manual_seed would move the devices' too
            made = build_network(self.network, shown, outputs)
            # to() visits every parameter even where there is nothing to do
            return made if all(p.dtype == dtype for p in made.parameters()) else made.to(dtype)

    def _is_ours(self, loss: Any) -> bool:
        return isinstance(self.network, Params | str) and isinstance(loss, Loss)

    def _is_plain_mlp(self) -> bool:
        return isinstance(self.network, Linear | MLP) and isinstance(getattr(self.network, "activation", ""), str)

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
        self.network_, self.encoder_, self.loss_ = job.module.eval(), job.encoder, job.settings.loss
        self.runtime_, self.seed_, self._target = job.decisions, job.seeds.root, job.target
        self._shapes = shapes_of(job.encoder, job.rows.x)
        warn_of_collapse(self.loss_, self.history_)
        return self

    def save(self, path: Any) -> Any:
        """Write this fitted learner to one file, without pickle; :func:`torchstrata.load` reads it.

        Parameters
        ----------
        path : str or Path
            The file; replaced as a whole if it exists.

        Returns
        -------
        Path
            The file.
        """
        from torchstrata.learner.saving import save  # it knows the learners by name, so it cannot be imported above

        return save(self, path)

    # predict

    def _outputs(self, X: Any) -> torch.Tensor:
        """Outputs of the network; a row's result depends on nothing but the row."""
        shared = self.__dict__.get("_shared", NOTHING)
        return shared.once("outputs", (X, self), lambda: compute_outputs(self, X, shared))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.encoder is not None
        tags.input_tags.string = tags.input_tags.categorical = self.encoder is not None
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")


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
    names = list(dict.fromkeys(name for row in history for name in row))
    rest = [name for name in names if name not in first]
    ordered = [n for n in rest if n.startswith("train_")] + [n for n in rest if n.startswith("valid_")]
    ordered += [name for name in rest if name not in ordered]
    # a fit that Ctrl-C ended may lack a cell
    return pd.DataFrame({name: [row.get(name, math.nan) for row in history] for name in first + ordered})
