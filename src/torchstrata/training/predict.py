"""Outputs of a network, a row independently of all others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import _has_any_global_hook

from torchstrata.batches.bytewise import ByBatch
from torchstrata.batches.loader import Tensors, n_rows, pick
from torchstrata.errors import ConfigError, is_out_of_memory

# Rows are predicted in blocks of this size, the last one filled with zeros: then the result of a row does not depend on
# how many rows there are or in which order they come (naive batches differ by some 1e-7 in float32). A single row would
# be faster in a smaller block, but from which size on the bits agree differs from machine to machine.
BLOCK = 64
# Where layers live that draw no random numbers in evaluation mode.
_QUIET = {f"torch.nn.modules.{name}" for name in (
    "activation", "batchnorm", "container", "conv", "dropout", "flatten", "linear", "normalization", "sparse"
)} | {f"torchstrata.network.{name}" for name in (
    "columns", "dropout", "fttransformer", "realmlp", "realmlp_columns", "resnet", "tabm", "tabular"
)}  # fmt: skip


def parts_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    """List a network and all modules inside.

    torch's own walk also names them, which takes longer than a small layer.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    list of torch.nn.Module
        Each once.
    """
    found = [module]
    for part in found:
        for child in part._modules.values():
            if child is not None and child not in found:
                found.append(child)
    return found


def is_quiet(parts: Iterable[torch.nn.Module]) -> bool:
    """Say whether a network is sure to draw no random numbers in evaluation mode.

    Parameters
    ----------
    parts : iterable of torch.nn.Module
        Of :func:`parts_of`.

    Returns
    -------
    bool
        False where a layer is not known, or has hooks.
    """
    for part in parts:  # not all(...), whose generator takes longer than the question
        if type(part).__module__ not in _QUIET or part._forward_hooks or part._forward_pre_hooks:
            return False
    return True


def _computing(module: torch.nn.Module) -> Callable[[Any], torch.Tensor]:
    """Return what computes a quiet network: without hooks, the forward of each layer is all that a call does."""
    if type(module) is not torch.nn.Sequential or _has_any_global_hook():
        return module
    steps = [layer.forward for layer in module._modules.values() if layer is not None]

    def compute(x: Any) -> torch.Tensor:
        for step in steps:
            x = step(x)
        return x

    return compute


@contextlib.contextmanager
def evaluating(module: torch.nn.Module, parts: Iterable[torch.nn.Module] | None = None) -> Iterator[None]:
    """Compute as in prediction: without gradients, and in evaluation mode, which is as before afterwards.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    parts : iterable of torch.nn.Module, optional
        Of :func:`parts_of`, where they are known.

    Yields
    ------
    None
    """
    modes = [part for part in (parts_of(module) if parts is None else parts) if part.training]
    if modes:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in modes:
            part.training = True


def predict_blocks(
    module: torch.nn.Module, x: Any, *, block: int = BLOCK, quiet: Iterable[torch.nn.Module] | None = None
) -> torch.Tensor:
    """Compute outputs in evaluation mode, a row independently of all others.

    Parameters
    ----------
    module : torch.nn.Module
        The network; its mode is as before afterwards.
    x : Tensor, dict of Tensor or ByBatch
        Inputs; of those that are made batch by batch only a part is held at a time.
    block : int
        Rows computed together; the last block is filled with zeros.
    quiet : iterable of torch.nn.Module, optional
        The parts of the network, where they are known and quiet: then a call takes less time.

    Returns
    -------
    Tensor
        Outputs, a row for each input row.
    """
    n = n_rows(x)
    chunks = x.chunks(block) if isinstance(x, ByBatch) else (x,)
    compute = module if quiet is None else _computing(module)
    with evaluating(module, quiet):
        outputs = [
            compute(_block(chunk, start, block)) for chunk in chunks for start in range(0, max(n_rows(chunk), 1), block)
        ]
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    places = x.places(block) if isinstance(x, ByBatch) else None
    if places is not None:
        return whole[places.to(whole.device)]
    return whole if whole.shape[0] == n else whole[:n]


def whole_block(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Make the tensor of a few rows, filled up to a block as :func:`predict_blocks` would.

    For one row numpy does it in a third of the time that torch takes.

    Parameters
    ----------
    values : ndarray of shape (n, p)
        At most ``BLOCK`` rows.
    dtype : torch.dtype
        Float32 or float64.

    Returns
    -------
    Tensor of shape (BLOCK, p)
        Zeros after the rows.
    """
    filled = np.zeros((BLOCK, values.shape[1]), np.float32 if dtype == torch.float32 else np.float64)
    filled[: len(values)] = values
    return torch.from_numpy(filled)


def _block(x: Tensors, start: int, block: int) -> Tensors:
    if isinstance(x, dict):
        return {name: _block(value, start, block) for name, value in x.items()}  # type: ignore[misc]
    if x.shape[0] == block:
        return x
    part = x[start : start + block]
    if part.shape[0] == block:
        return part
    return torch.cat([part, part.new_zeros((block - len(part), *part.shape[1:]))])


def check_network(module: torch.nn.Module, x: Tensors, n_outputs: int) -> None:
    """Try a network on two rows before any training.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    x : Tensor or dict of Tensor
        Inputs.
    n_outputs : int
        Expected outputs a row.

    Raises
    ------
    ConfigError
        If the network cannot compute them, or the output is no tensor of floats of shape (rows, n_outputs).
    """
    few = pick(x, slice(0, 2))
    rows = n_rows(few)
    try:
        with evaluating(module):
            output = module(few)
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        if is_out_of_memory(error):  # no wrong setting: another fold may have room
            raise
        shapes = {name: tuple(v.shape) for name, v in few.items()} if isinstance(few, dict) else tuple(few.shape)
        raise ConfigError(f"the network cannot compute {rows} rows of shape {shapes}: {error}") from error
    expected = f"({rows}, {n_outputs})"
    if not torch.is_tensor(output) or not output.is_floating_point():
        raise ConfigError(f"the network returned {type(output).__name__}, expected a float tensor of shape {expected}")
    if tuple(output.shape) != (rows, n_outputs) and not (n_outputs == 1 and tuple(output.shape) == (rows,)):
        raise ConfigError(f"the network returned shape {tuple(output.shape)} for {rows} rows, expected {expected}")
