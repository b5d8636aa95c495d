"""Outputs of a network, a row independently of all others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from torchstrata.batches.loader import Tensors, n_rows, pick
from torchstrata.errors import ConfigError

# Rows are predicted in blocks of this size, the last one filled with zeros: then the result of a row does not depend on
# how many rows there are or in which order they come (naive batches differ by some 1e-7 in float32).
BLOCK = 64


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    modes = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m in modes:
            m.training = True


def predict_blocks(module: torch.nn.Module, x: Tensors, *, block: int = BLOCK) -> torch.Tensor:
    """Compute outputs in evaluation mode, a row independently of all others.

    Parameters
    ----------
    module : torch.nn.Module
        The network; its mode is as before afterwards.
    x : Tensor or dict of Tensor
        Inputs.
    block : int
        Rows computed together; the last block is filled with zeros.

    Returns
    -------
    Tensor
        Outputs, a row for each input row.
    """
    n = n_rows(x)
    with _evaluating(module):
        return torch.cat([module(_block(x, start, block)) for start in range(0, max(n, 1), block)])[:n]


def _block(x: Tensors, start: int, block: int) -> Tensors:
    if isinstance(x, dict):
        return {name: _block(value, start, block) for name, value in x.items()}  # type: ignore[misc]
    part = x[start : start + block]
    if len(part) == block:
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
        with _evaluating(module):
            output = module(few)
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        shapes = {name: tuple(v.shape) for name, v in few.items()} if isinstance(few, dict) else tuple(few.shape)
        raise ConfigError(f"the network cannot compute {rows} rows of shape {shapes}: {error}") from error
    expected = f"({rows}, {n_outputs})"
    if not torch.is_tensor(output) or not output.is_floating_point():
        raise ConfigError(f"the network returned {type(output).__name__}, expected a float tensor of shape {expected}")
    if tuple(output.shape) != (rows, n_outputs) and not (n_outputs == 1 and tuple(output.shape) == (rows,)):
        raise ConfigError(f"the network returned shape {tuple(output.shape)} for {rows} rows, expected {expected}")
