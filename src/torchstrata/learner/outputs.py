"""What a fitted learner computes of rows."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from torchstrata.batches.loader import move
from torchstrata.batches.stream import Stream
from torchstrata.learner.inputs import read_few, read_X
from torchstrata.learner.loading import loading
from torchstrata.learner.shared import Shared
from torchstrata.learner.tensors import encode
from torchstrata.training.predict import is_quiet, parts_of, predict_blocks, whole_block


def compute_outputs(learner: Any, X: Any, shared: Shared) -> torch.Tensor:
    """Compute the outputs of the network; a row's result depends on nothing but the row.

    Parameters
    ----------
    learner : TorchLearner
        Fitted.
    X : object
        As given to predict.
    shared : Shared
        Where encoded rows are remembered that several learners are asked about.

    Returns
    -------
    Tensor
        On the CPU, a row for each row of X.

    Raises
    ------
    NotFittedError
        With the reason, where the last fit failed.
    """
    if not hasattr(learner, "network_"):
        failure = getattr(learner, "_failure", "").replace("%", "%%")
        why = f"This %(name)s instance is not fitted yet: the last fit failed with {failure}" if failure else None
        check_is_fitted(learner, "network_", msg=why)
    net, decisions, parts = learner.network_, learner.runtime_, parts_of(learner.network_)
    quiet = parts if is_quiet(parts) else None
    # a network that draws numbers leaves the global generators alone
    seed = learner.seed_ if quiet is None else None
    few = read_few(learner, X)
    if few is not None:
        with decisions.active(seed):
            block = whole_block(few, decisions.dtype).to(decisions.device)
            return predict_blocks(net, block, quiet=quiet).cpu()[: len(few)]
    x = shared.once(
        "test",
        (X, learner.encoder_, str(decisions.dtype)),
        lambda: encode(learner.encoder_, read_X(learner, X, reset=False), decisions.dtype),
    )
    with decisions.active(seed), loading(x) if isinstance(x, Stream) else contextlib.nullcontext():
        return predict_blocks(net, move(x, decisions.device), quiet=quiet).cpu()
