"""Forward pass and loss of a batch as one function, compiled where that was asked for.

A compiled function is made for the shapes it sees. So that the last batch of an epoch does not make a second one,
smaller batches are filled up with rows of weight zero, which are absent rows for a loss.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.batches.loader import Tensors
from torchstrata.network.dropout import Dropout
from torchstrata.training.claims import takes_weight
from torchstrata.training.predict import evaluating
from torchstrata.training.runtime import Decisions

Batch = tuple[Tensors, Tensor, Tensor | None]
Step = Callable[[Tensors, Tensor, Tensor | None], tuple[Tensor, Tensor]]
_OF_BATCHES = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def plain_step(module: nn.Module, loss: Callable[..., Tensor]) -> Step:
    """Make forward pass and loss one function.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    loss : callable
        ``(output, target, sample_weight) -> scalar``.

    Returns
    -------
    callable
        ``(x, y, w) -> (output, loss)``.
    """

    def step(x: Tensors, y: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        output = module(x)
        return output, loss(output, y, w)

    return step


def compiled_step(
    module: nn.Module, loss: Callable[..., Tensor], decisions: Decisions, first: Batch, *, sizes: set[int], graphs: str
) -> Step:
    """Compile forward pass and loss, with the backward pass that torch derives; or say why not.

    Parameters
    ----------
    module : torch.nn.Module
        The network, in the mode in which it trains.
    loss : callable
        ``(output, target, sample_weight) -> scalar``.
    decisions : Decisions
        Gets the reason, with the seconds of the first call.
    first : tuple (x, y, w)
        The first batch, for the first call: neither running statistics nor random numbers know it afterwards.
    sizes : set of int
        Rows of the batches of an epoch.
    graphs : str
        Why CUDA graphs must not be used; empty where nothing is against them.

    Returns
    -------
    callable
        ``(x, y, w) -> (output, loss)``, with an output for each real row; the plain one where no compiler works.

    Warns
    -----
    UserWarning
        If torch.compile fails: what failed, and what to install.
    """
    plain = plain_step(module, loss)
    try:
        _try(plain, module, decisions, first)
    except Exception:  # the fit itself will say what is wrong, in its own words
        decisions.reasons["compile"] = (False, "the first batch fails without a compiler too")
        return plain
    why_not = "" if len(sizes) == 1 else _why_not_filled(module, loss, decisions, first)
    options, how = _options(decisions.device, sizes, why_not, graphs)
    started = time.perf_counter()
    try:
        fast: Step = torch.compile(_own_code(plain, module, loss), **options)
        if not why_not:
            ones = torch.ones(max(sizes), dtype=decisions.dtype, device=decisions.device)
            fast = Filled(fast, ones, weighted=len(sizes) > 1, graphs="mode" in options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            _try(fast, module, decisions, first)
    except Exception as error:  # whatever a missing or broken compiler raises
        _warn(error, decisions)
        return plain
    seconds = time.perf_counter() - started
    decisions.reasons["compile"] = (True, f"as given; the first call took {seconds:.1f} s; {how}")
    return fast


class Filled:
    """A compiled step that always sees batches of one size, the largest; smaller ones are filled up.

    Parameters
    ----------
    step : callable
        ``(x, y, w) -> (output, loss)``.
    ones : Tensor
        As many as the largest batch has rows: weights where there are none.
    weighted : bool
        Whether full batches get weights too: else batches with and without would be two programs.
    graphs : bool
        Whether outputs lie in memory that the next call writes anew.
    """

    def __init__(self, step: Step, ones: Tensor, *, weighted: bool, graphs: bool):
        self.step, self.ones, self.rows, self.weighted, self.graphs = step, ones, len(ones), weighted, graphs

    def __call__(self, x: Tensors, y: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute outputs of the real rows, and the loss."""
        n = len(y)
        if n > self.rows:  # a sampler that drew no batch as large as this in the first epoch: a second program
            self.rows, self.ones = n, self.ones.new_ones(n)
        if w is None and (self.weighted or n < self.rows):
            w = self.ones[:n]
        if n < self.rows:
            x, y, w = fill(x, self.rows), fill(y, self.rows), fill_weight(w, self.rows)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        output, value = self.step(x, y, w)
        if self.graphs:
            output, value = output.clone(), value.clone()
        return (output[:n] if n < self.rows else output), value


def fill(x: Any, rows: int) -> Any:
    """Fill up a batch with copies of its last row, for which a network computes no worse numbers than for that row.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs or targets of one batch.
    rows : int
        Wanted.

    Returns
    -------
    Tensor or dict of Tensor
        So many rows.
    """
    if isinstance(x, dict):
        return {name: fill(value, rows) for name, value in x.items()}
    filled = torch.cat([x, x[-1:].expand(rows - len(x), *x.shape[1:])])
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    # strides are part of what a program is made for, and cat may change them
    return filled.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)


def fill_weight(w: Any, rows: int) -> Tensor:
    """Give the rows that fill up a batch the weight zero.

    Parameters
    ----------
    w : Tensor of shape (n,)
        Weights of the real rows.
    rows : int
        Wanted.

    Returns
    -------
    Tensor of shape (rows,)
        Zeros after the weights.
    """
    return torch.cat([w, w.new_zeros(rows - len(w))])


def _options(device: torch.device, sizes: set[int], why_not: str, graphs: str) -> tuple[dict[str, Any], str]:
    """Choose the arguments of torch.compile, and say why."""
    options: dict[str, Any] = {"dynamic": bool(why_not)}
    how = f"every batch has {max(sizes)} rows" + (", smaller ones are filled up" if len(sizes) > 1 else "")
    how = f"shapes may change, for {why_not}" if why_not else how
    if device.type != "cuda":
        return options, how
    if graphs or why_not:
        return options, f"{how}; no CUDA graphs, for {graphs or 'shapes change'}"
    return {**options, "mode": "reduce-overhead"}, f"{how}; CUDA graphs"


def _why_not_filled(module: nn.Module, loss: Any, decisions: Decisions, first: Batch) -> str:
    """Say why batches must keep their size; empty where a row of weight zero changes nothing."""
    mixing = [type(m).__name__ for m in module.modules() if isinstance(m, _OF_BATCHES)]
    if mixing:
        return f"{mixing[0]} has statistics of a batch, which rows that fill up a batch would change"
    if not takes_weight(loss):
        return "the loss takes no weights of rows"
    x, y, w = first
    rows = len(y) + 3
    weights = torch.ones(len(y), dtype=decisions.dtype, device=y.device) if w is None else w
    with _unseen(module, decisions), evaluating(module):
        output, more = module(x), module(fill(x, rows))
        if not _alike(output, more[: len(y)]):
            return "the output of a row depends on other rows"
        if not _alike(loss(output, y, w), loss(more, fill(y, rows), fill_weight(weights, rows))):
            return "a row of weight zero changes the loss"
    return ""


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def _try(step: Step, module: nn.Module, decisions: Decisions, batch: Batch) -> None:
    """Compute one batch, forward and backward, and forget it."""
    with _unseen(module, decisions):
        with decisions.autocast():
            _, value = step(*batch)
        torch.autograd.grad(value, [p for p in module.parameters() if p.requires_grad], allow_unused=True)


@contextlib.contextmanager
def _unseen(module: nn.Module, decisions: Decisions) -> Iterator[None]:
    """Compute what running statistics and random numbers must not know."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    streams = [layer.stream for layer in module.modules() if isinstance(layer, Dropout) and layer.stream is not None]
    draws = copy.deepcopy([vars(stream) for stream in streams])  # the objects stay, for a compiler remembers them
    try:
        with decisions.forked():
            yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        for stream, drawn in zip(streams, draws, strict=True):
            vars(stream).update(drawn)


def _own_code(step: Any, module: nn.Module, loss: Any) -> Any:
    """Give a step code of its own for each architecture.

    torch keeps compiled programs by code and stops compiling a code after eight: folds of one network share a program
    (the second fit compiles nothing), and a ninth network must still be compiled.
    """
    code = _code_of(step.__code__, f"{module!r} {loss!r}")
    return types.FunctionType(code, step.__globals__, step.__name__, None, step.__closure__)


@functools.lru_cache(256)
def _code_of(code: types.CodeType, architecture: str) -> types.CodeType:
    return code.replace()


def _warn(error: Exception, decisions: Decisions) -> None:
    said = next(iter(str(error).strip().splitlines()), "")[:200]
    failed = f"{type(error).__name__}: {said}".rstrip(": ")
    needed = "a C++ compiler such as g++ or clang++"
    needed = f"Triton (pip install triton) and {needed}" if decisions.device.type == "cuda" else needed
    warnings.warn(
        f"compile=True: torch.compile failed ({failed}). The fit goes on uncompiled, with the same result. "
        f"On {decisions.device.type} torch.compile needs {needed} on the PATH; or leave it off: "
        "runtime=ts.Runtime(compile=False)",
        stacklevel=2,
    )
    decisions.reasons["compile"] = (False, f"torch.compile failed: {failed}")
