"""TorchRegressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from torchstrata.learner.base import TorchLearner
from torchstrata.learner.heads import Columns, learn_columns, read_columns
from torchstrata.learner.numbers import Numbers as Numbers
from torchstrata.learner.numbers import learn_numbers
from torchstrata.learner.one_head import HeadClassifier, HeadRegressor, head_of, score_heads
from torchstrata.learner.parts import Part
from torchstrata.learner.targets import read_numbers
from torchstrata.network.tabular import MLP
from torchstrata.training import optim
from torchstrata.training.several import Heads


class TorchRegressor(RegressorMixin, TorchLearner):
    """A neural network as a scikit-learn regressor.

    The target is standardised by the mean and standard deviation of the training rows for losses of ``ts.losses`` and
    their torch counterparts; a loss of your own sees the target as it is. Losses in the history are in those units,
    scores in the units of the target.

    Parameters
    ----------
    network : blueprint, torch.nn.Module, callable or str
        ``(shapes, n_outputs) -> torch.nn.Module``, such as ``ts.MLP(hidden=(100, 100))``; a module is copied.
    loss : str, loss, torch.nn.Module or dict
        ``(output, target, sample_weight=None) -> scalar``, or a name in ``ts.losses``. A dict gives each column of y a
        loss of its own, which may be one for classes: see :class:`ts.Heads`, :meth:`head` and :func:`ts.head_scorer`.
    optimizer, max_epochs, batch_size, batch_sampler, valid, scoring, eval_every, early_stopping, schedule, callbacks
        As of :class:`TorchClassifier`. A batch sampler with ``bins``, such as ``ts.StratifiedBatchSampler(2, bins=4)``,
        makes its strata of y where fit gets no stratum.
    augment, trainable, encoder, class_weight, runtime, random_state, verbose
        As of :class:`TorchClassifier`; ``class_weight`` must stay None.

    Attributes
    ----------
    history_, best_epoch_, best_score_, network_, encoder_, runtime_, seed_
        As of :class:`TorchClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> import torchstrata as ts
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> learner = ts.TorchRegressor(max_epochs=20, random_state=1).fit(X, y)
    >>> learner.score(X, y) > 0.4
    True
    """

    _kind = "regression"
    _target: Numbers | Columns

    def __init__(
        self,
        network: Any = MLP(hidden=(512,), activation="gelu", dropout=0.5),  # noqa: B008 - an immutable value
        *,
        loss: Any = "mse",
        optimizer: Any = optim.AdamW(lr=1e-3, weight_decay=0.1),  # noqa: B008
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        batch_sampler: Any = None,
        valid: Any = None,
        scoring: Any = (),
        eval_every: int = 1,
        early_stopping: Any = None,
        schedule: Any = None,
        callbacks: Any = (),
        augment: Any = (),
        trainable: Any = None,
        encoder: Any = "auto",
        class_weight: Any = None,
        runtime: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler
        self.valid = valid
        self.scoring = scoring
        self.eval_every = eval_every
        self.early_stopping = early_stopping
        self.schedule = schedule
        self.callbacks = callbacks
        self.augment = augment
        self.trainable = trainable
        self.encoder = encoder
        self.class_weight = class_weight
        self.runtime = runtime
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target.

        Parameters
        ----------
        X : DataFrame, array or tensor of shape (n, p), or Task
            Rows.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, k)
            In the units of the target; for a head of classes the number of the likeliest class.
        """
        outputs = self._outputs(X)
        if isinstance(self._target, Columns):
            return self._target.decode(outputs, self.loss_.traits)
        return self._target.decode(outputs)

    def head(self, name: str) -> HeadClassifier | HeadRegressor:
        """Return one head of a loss of several as an estimator of its own.

        Parameters
        ----------
        name : str
            Of the head, which is its column of y.

        Returns
        -------
        HeadClassifier or HeadRegressor
            Fitted; one of classes has ``predict_proba``.

        Raises
        ------
        ConfigError
            If there is no such head.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self, "network_")
        return head_of(self, name)

    @property
    def head_names(self) -> list[str]:
        """The heads in the order of the columns of y; none where the loss has no heads."""
        check_is_fitted(self, "network_")
        return list(self._target.heads) if isinstance(self._target, Columns) else []

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2, the mean over the columns of y; of a head of classes it is the accuracy.

        Parameters
        ----------
        X : object
            Rows.
        y : array of shape (n,) or (n, k)
            Their targets.
        sample_weight : array of shape (n,), optional
            Weights.

        Returns
        -------
        float
            At most 1.
        """
        if isinstance(getattr(self, "_target", None), Columns):
            return score_heads(self, X, y, sample_weight)
        return super().score(X, y, sample_weight)

    def _read_y(self, y: Any) -> np.ndarray:
        heads = Heads(self.loss) if isinstance(self.loss, Mapping) else self.loss
        return read_columns(y, heads) if isinstance(heads, Heads) else read_numbers(y)

    def _learn_target(self, part: Part, loss: Any) -> Numbers | Columns:
        return learn_columns(part, loss) if isinstance(loss, Heads) else learn_numbers(part.y, part.weight, loss)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
