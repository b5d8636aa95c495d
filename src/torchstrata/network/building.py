"""Steps and shapes -> modules: every output shape is found by running the layer on torch's meta device."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from torchstrata.data.arrays import LENGTHS
from torchstrata.errors import ConfigError
from torchstrata.network.modules import GraphModule
from torchstrata.network.nodes import Input, Spec, Step
from torchstrata.network.sequences import following

# Numbers of rows and sizes for those that are not fixed: two of each, so that what depends on them shows.
_TRIALS = ((2, 96), (3, 144))
_DIMENSIONS = {"1d": "(channels, length)", "2d": "(channels, height, width)", "3d": "(channels, depth, height, width)"}


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step with what it reads and gives.

    Parameters
    ----------
    step : Step
        Its name, layer and sources.
    reads : tuple of Spec
        What it reads.
    gives : Spec
        What it gives.
    parameters : int
        Number of weights.
    """

    step: Step
    reads: tuple[Spec, ...]
    gives: Spec
    parameters: int


def plan(steps: Sequence[Step], shapes: Mapping[str, tuple[int, ...]], n_outputs: Any) -> list[Planned]:
    """Find the shapes of all steps, without computing anything.

    Parameters
    ----------
    steps : sequence of Step
        In an order in which they can be computed.
    shapes : Shapes
        Of the inputs.
    n_outputs : Outputs or None
        Of the network.

    Returns
    -------
    list of Planned
        One a step.

    Raises
    ------
    ConfigError
        Naming the layer and the shape it cannot take, or two layers of one name.
    """
    found: dict[str, Planned] = {}
    for step in steps:
        if step.name in found:
            raise ConfigError(
                f"two layers are called {step.name!r} once chains and blocks are written out; give one another name="
            )
        reads = tuple(found[source].gives for source in step.sources)
        if isinstance(step.layer, Input):
            found[step.name] = Planned(step, (), step.layer.spec(shapes), 0)
        else:
            found[step.name] = _planned(step, reads, n_outputs)
    return list(found.values())


def build(planned: Sequence[Planned], shapes: Mapping[str, tuple[int, ...]], n_outputs: Any) -> nn.Module:
    """Build the network.

    Parameters
    ----------
    planned : sequence of Planned
        From :func:`plan`.
    shapes : Shapes
        Of the inputs.
    n_outputs : Outputs or None
        Of the network.

    Returns
    -------
    torch.nn.Module
        A plain ``nn.Sequential`` where each step reads the one before, so that a line of linear layers, activations
        and dropout is trained by the steps that are written out; else a :class:`GraphModule`.
    """
    inputs = {p.step.name: p for p in planned if isinstance(p.step.layer, Input)}
    rows = getattr(shapes, "rows", None)
    layers = {
        p.step.name: p.step.layer.build([_with_rows(spec, shapes, rows) for spec in p.reads], n_outputs)
        for p in planned
        if p.step.name not in inputs
    }
    sources = {name: p.step.sources for p in planned if (name := p.step.name) in layers}
    names = [p.step.name for p in planned]
    line = len(inputs) == 1 and all(sources[name] == (before,) for before, name in itertools.pairwise(names))
    whole = any(p.gives.table is not None for p in inputs.values())
    alone = len(shapes) == 1 and "category" not in shapes and not getattr(shapes, "sequences", None)
    if line and (whole or alone):
        return nn.Sequential(OrderedDict(layers))
    keys = {name: None if p.gives.table is not None else _key(p.step.layer, shapes) for name, p in inputs.items()}
    lengths = {
        name: [spec.lengths and spec.lengths + LENGTHS for spec in p.reads]
        for p in planned
        if getattr(layers.get(name := p.step.name), "takes_lengths", False) and any(s.lengths for s in p.reads)
    }
    return GraphModule(keys, layers, sources, lengths)


def _with_rows(spec: Spec, shapes: Mapping[str, Any], rows: Mapping[str, Any] | None) -> Spec:
    """Show an input's training rows to the layer that is built; the plan holds none, and is remembered."""
    if rows is not None and spec.table is not None:
        return dataclasses.replace(spec, table=shapes)
    return spec if rows is None or spec.source is None else dataclasses.replace(spec, rows=rows.get(spec.source))


def _key(layer: Input, shapes: Mapping[str, Any]) -> str:
    return layer.name or next(iter(shapes))


def summary(planned: Sequence[Planned]) -> pd.DataFrame:
    """Describe a plan.

    Parameters
    ----------
    planned : sequence of Planned
        From :func:`plan`.

    Returns
    -------
    DataFrame
        A row a step: layer (its name), kind, inputs (names of what it reads), input_shapes and output_shape without the
        batch, parameters (number of weights).
    """
    rows = [
        {
            "layer": p.step.name,
            "kind": type(p.step.layer).__name__,
            "inputs": ", ".join(p.step.sources),
            "input_shapes": ", ".join(map(str, p.reads)),
            "output_shape": str(p.gives),
            "parameters": p.parameters,
        }
        for p in planned
    ]
    return pd.DataFrame(rows, columns=["layer", "kind", "inputs", "input_shapes", "output_shape", "parameters"])


def _planned(step: Step, reads: tuple[Spec, ...], n_outputs: Any) -> Planned:
    where = f"layer {step.name!r}, {step.layer!r}"
    outputs = (getattr(n_outputs, "bias", True), tuple(getattr(n_outputs, "heads", {}).items()))
    key = (step.layer, repr(step.layer), reads, n_outputs, outputs)  # the text tells 3 and 3.0 apart
    found: Callable[..., tuple[Spec, int]] = _remembered
    try:
        hash(key)
    except TypeError:  # a list among the settings, say
        found = _remembered.__wrapped__
    try:
        return Planned(step, reads, *found(*key))
    except _Misfit as error:
        raise ConfigError(f"{where}{error}") from error.__cause__


class _Misfit(Exception):
    """What is wrong with a layer, without its name."""


@functools.lru_cache(maxsize=4096)  # searches build the same layers over and over
def _remembered(layer: Any, text: str, reads: tuple[Spec, ...], n_outputs: Any, outputs: Any) -> tuple[Spec, int]:
    """Find what a layer gives, and count its weights."""
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the real layer will say it again
            module = layer.build(reads, n_outputs)
    except ConfigError as error:
        raise _Misfit(f": {error}") from error.__cause__
    except Exception as error:  # whatever torch or a function of yours raises
        raise _Misfit(f", cannot be built for rows of shape {_shapes(reads)}: {_words(error)}") from error
    try:
        gives = following(layer, reads, infer(module, reads))
    except ConfigError as error:
        raise _Misfit(f", {error}") from error.__cause__
    if 0 in gives.shape:
        raise _Misfit(f", gives rows of shape {gives}, which hold no number: a size must be at least 1")
    return gives, sum(p.numel() for p in module.parameters())


def infer(module: nn.Module, reads: Sequence[Spec]) -> Spec:
    """Find what a module on the meta device gives.

    Parameters
    ----------
    module : torch.nn.Module
        With its weights on the meta device.
    reads : sequence of Spec
        What it reads.

    Returns
    -------
    Spec
        What it gives.

    Raises
    ------
    ConfigError
        If it cannot take these shapes, gives no tensor, or mixes rows.
    """
    few, more = (_run(module, reads, *sizes) for sizes in _TRIALS)
    ok = len(few.shape) == len(more.shape) >= 1 and (len(few), len(more)) == (_TRIALS[0][0], _TRIALS[1][0])
    shape = tuple(a if a == b else None for a, b in zip(few.shape[1:], more.shape[1:], strict=ok))
    free = any(size is None for spec in reads for size in spec.shape)
    if not ok or (None in shape and not free):
        raise ConfigError(
            f"does not keep rows apart: of {_TRIALS[0][0]} rows of shape {_shapes(reads)} it gives {tuple(few.shape)}, "
            "and the first dimension must stay the batch"
        )
    return Spec(shape, few.dtype)


def _run(module: nn.Module, reads: Sequence[Spec], n: int, free: int) -> Tensor:
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = _forward(module, [_example(spec, n, free) for spec in reads])
    except Exception as error:
        raise ConfigError(
            f"cannot take rows of shape {_shapes(reads)} (without the batch){_hint(module, reads, error)}. "
            f"torch says, of {n} rows: {_words(error)}"
        ) from error
    if not isinstance(out, Tensor):
        raise ConfigError(f"gives {type(out).__name__}, expected one tensor: take it apart in a ts.layers.Function")
    return out


def _forward(module: nn.Module, x: list[Any]) -> Any:
    try:
        return module.train()(*x)
    except RuntimeError as error:
        if "meta tensors" not in str(error):
            raise
        return module.eval()(*x)  # BatchNorm(momentum=None) reads its counter in training


def _example(spec: Spec, n: int, free: int) -> Any:
    if spec.table is not None:
        kinds = {"category": torch.int64}
        return {k: torch.empty(n, *shape, dtype=kinds.get(k, torch.float32)) for k, shape in spec.table.items()}
    return torch.empty(n, *[free if size is None else size for size in spec.shape], dtype=spec.dtype)


def _shapes(reads: Sequence[Spec]) -> str:
    return " and ".join(map(str, reads))


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _hint(module: nn.Module, reads: Sequence[Spec], error: Exception) -> str:
    kind = type(module).__name__
    expected = _DIMENSIONS.get(kind[-2:])
    if "meta" in _words(error):
        return "; shapes are found on torch's meta device, where tensors hold no numbers to look at"
    if any(spec.dtype == torch.int64 for spec in reads):
        return "; these are category indices: put ts.layers.Embedding(8) first"
    if kind.startswith("Batch") and kind.endswith("1d"):
        return "; BatchNorm1d takes (features,) or (channels, length)"
    if expected and len(reads[0].shape) != len(expected.split(",")):
        return f"; {kind} takes {expected}: ts.layers.Unsqueeze(1) or ts.layers.Reshape(...) before it adds what lacks"
    return ""


def check_output(planned: Sequence[Planned], n_outputs: Any, where: str) -> None:
    """Refuse a network that does not end in as many outputs as the task needs.

    Parameters
    ----------
    planned : sequence of Planned
        From :func:`plan`.
    n_outputs : int or None
        None takes any output.
    where : str
        For the message.

    Raises
    ------
    ConfigError
        Naming the last layer and its shape.
    """
    last = planned[-1]
    if n_outputs is None or last.gives.shape == (int(n_outputs),) or (last.gives.shape == () and int(n_outputs) == 1):
        return
    raise ConfigError(
        f"{where} ends with layer {last.step.name!r}, which gives rows of shape {last.gives}, and the task needs "
        f"({int(n_outputs)},): end with ts.layers.Head()"
    )
