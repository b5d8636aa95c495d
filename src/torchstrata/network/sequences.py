"""Layers for sequences that torch has no class for, and how lengths travel through a graph."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

from torch import nn

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.masked import Pool, Sinusoids, StepConvolution
from torchstrata.network.naming import checked
from torchstrata.network.nodes import Layer, Spec

POOLS = ("mean", "max", "last")
# Layers that compute each step by itself; those of torch.nn.modules.activation do as well, but for Softmax2d.
STEPWISE = {
    *("Linear", "Identity", "Dropout", "AlphaDropout", "LayerNorm", "RMSNorm", "Embedding", "PositionalEncoding"),
    *("Add", "Multiply", "Concat", "Squeeze", "Unsqueeze"),
}
# Layers that get the lengths.
MASKED = {
    *("RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"),
    *("PoolSteps", "StepConv"),
}
# Layers of yours: what they do with the padding is yours, too.
OWN = {"Function", "Custom"}


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class PoolSteps(Layer):
    """Make one vector of the steps of a row; padding does not count.

    Parameters
    ----------
    how : {"mean", "max", "last"}
        The mean or the largest of each feature, or the last step. After a layer that reads both ways the last step has
        seen one step of the way back only: take the mean.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If how is none of these.

    Examples
    --------
    >>> from torchstrata.network.nodes import Input
    >>> PoolSteps("max")(Input("signal"))
    PoolSteps('max')(Input('signal'))
    """

    how: str = "mean"

    def __post_init__(self) -> None:
        if self.how not in POOLS:
            raise ConfigError(f"PoolSteps: unknown {self.how!r}. {did_you_mean(self.how, POOLS)}")

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        specs : sequence of Spec
            Rows of shape (steps, features).
        n_outputs : Outputs
            Not used.

        Returns
        -------
        torch.nn.Module
            To shape (n, features).

        Raises
        ------
        ConfigError
            If rows have another number of dimensions.
        """
        _check_steps(self, specs[0])
        return Pool(self.how)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class PositionalEncoding(Layer):
    """Add sines and cosines of the position, so that attention knows the order of the steps.

    There are no weights and no longest sequence. Feature 2i gets ``sin(t / 10000**(i / half))`` at step t, feature
    2i + 1 the cosine.

    Parameters
    ----------
    name : str, optional
        By which settings, weights and errors call it.

    Notes
    -----
    Vaswani, A. et al. (2017). Attention is all you need. NeurIPS, section 3.5.

    Examples
    --------
    >>> import torch
    >>> waves = PositionalEncoding().build([Spec((3, 4))], 1)
    >>> waves(torch.zeros(1, 3, 4))[0, :, 0].tolist() == torch.arange(3.0).sin().tolist()
    True
    """

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`PoolSteps.build`; rows keep their shape."""
        _check_steps(self, specs[0])
        return Sinusoids()


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class StepConv(Layer):
    """Convolve along the steps; before the first and after the last step of a row there are zeros.

    As ``torch.nn.Conv1d`` with ``padding="same"``, of rows of shape (steps, features).

    Parameters
    ----------
    out_channels : int
        Features of a step afterwards.
    kernel_size : int
        Steps that are looked at.
    dilation : int
        Distance between them.
    bias : bool
        Whether to add a constant.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If a size is no int of at least 1.
    """

    out_channels: int
    kernel_size: int
    dilation: int = dataclasses.field(default=1, kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("out_channels", "kernel_size", "dilation"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise ConfigError(f"StepConv: {name} must be an int >= 1, got {value!r}")

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`PoolSteps.build`; rows keep their steps."""
        _check_steps(self, specs[0])
        return StepConvolution(
            specs[0].size(-1), self.out_channels, self.kernel_size, dilation=self.dilation, bias=self.bias
        )


def _check_steps(layer: Layer, spec: Spec) -> None:
    if spec.levels:
        raise ConfigError(f"{layer!r} takes numbers and the rows hold tokens: put ts.layers.Embedding(16) before it")
    if len(spec.shape) != 2:
        raise ConfigError(f"{layer!r} takes rows of shape (steps, features), got {spec}")


def following(layer: Layer, reads: Sequence[Spec], gives: Spec) -> Spec:
    """Say whose lengths the output of a layer has.

    Parameters
    ----------
    layer : Layer
        A step of a graph.
    reads : sequence of Spec
        What it reads.
    gives : Spec
        What it gives, without lengths.

    Returns
    -------
    Spec
        With them.

    Raises
    ------
    ConfigError
        If the layer would mix the padding into the steps, or join sequences of different lengths.
    """
    kind, named = type(layer).__name__, list(dict.fromkeys(spec.lengths for spec in reads if spec.lengths))
    if not named:
        return gives
    open_first = gives.shape[:1] == (None,)
    if kind in MASKED:
        return dataclasses.replace(gives, lengths=reads[0].lengths) if open_first else gives
    if kind in OWN:
        return dataclasses.replace(gives, lengths=named[0]) if open_first and len(named) == 1 else gives
    if len(named) > 1:
        raise ConfigError(
            f"joins sequences of different lengths, {' and '.join(map(repr, named))}: make a vector of each first, "
            "ts.layers.PoolSteps(), or let one attend to the other, ts.layers.MultiheadAttention(4)(one, other)"
        )
    if not open_first or not _is_stepwise(layer, reads):
        raise ConfigError(
            f"mixes the steps of a row, and so would read the padding of {named[0]!r}, whose lengths differ: use "
            "ts.layers.StepConv, a recurrent layer or attention, or make a vector of it first, ts.layers.PoolSteps(). "
            f"A ts.layers.Function or Custom of yours may do it, and read ts.Input({named[0] + '_lengths'!r})"
        )
    return dataclasses.replace(gives, lengths=named[0])


def _is_stepwise(layer: Layer, reads: Sequence[Spec]) -> bool:
    kind = type(layer).__name__
    dim = getattr(layer, "dim", None)
    if dim is not None and dim in (1, -len(reads[0].shape)):  # along the steps
        return False
    source = getattr(nn, kind, None)
    activation = getattr(source, "__module__", "") == "torch.nn.modules.activation" and kind != "Softmax2d"
    return activation or kind in STEPWISE
