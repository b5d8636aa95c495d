"""Dropout whose draws come from a stream of its own, and cheaply.

torch's dropout draws from the one global generator, an element at a time: for a layer of 100 units that is the dearest
part of a step. Here 16 random bits an element are compared with a threshold, and every layer of every fit has a stream
of its own: a fit is the same whether its steps are taken one by one, written out, or beside those of other fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 2**16


class BitStream:
    """An endless row of random 16-bit numbers.

    Parameters
    ----------
    seed, layer : int
        Decide the stream.
    """

    def __init__(self, seed: int, layer: int):
        self._bits = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(layer,)))
        self._left = np.empty(0, dtype=np.int16)

    def take(self, n: int) -> np.ndarray:
        """Return the next n numbers; in which portions they are taken makes no difference.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        ndarray of int16, shape (n,)
            Uniform over all 65,536 values.
        """
        missing = n - len(self._left)
        if missing > 0:
            fresh = self._bits.random_raw(-(-missing // 4)).view(np.int16)
            self._left = np.concatenate([self._left, fresh]) if len(self._left) else fresh
        taken, self._left = self._left[:n], self._left[n:]
        return taken


class Dropout(nn.Dropout):
    """:class:`torch.nn.Dropout`, with draws of its own while a fit has seeded it.

    Outside a fit, on another device than the CPU and under a compiler it is torch's.

    Parameters
    ----------
    p : float
        Share of elements that are left out in training. In a seeded stream it is rounded to a multiple of 1/65536,
        and what stays is scaled by exactly the share that stays.
    """

    stream: BitStream | None = None

    @property
    def threshold(self) -> int:
        """Elements whose bits are below this are left out."""
        return min(round(self.p * _LEVELS), _LEVELS - 1) - _LEVELS // 2

    @property
    def scale(self) -> float:
        """What elements that stay are multiplied with."""
        return 0.0 if self.p >= 1 else _LEVELS / (_LEVELS // 2 - self.threshold)  # of 1 nothing stays, as torch has it

    def mask(self, bits: Tensor, dtype: torch.dtype) -> Tensor:
        """Turn bits into factors.

        Parameters
        ----------
        bits : Tensor of int16
            From :meth:`BitStream.take`.
        dtype : torch.dtype
            Of the factors.

        Returns
        -------
        Tensor
            Zero, or the scale.
        """
        # into floats at once: by way of booleans it takes five times as long
        return torch.ge(bits, self.threshold, out=torch.empty(bits.shape, dtype=dtype)).mul_(self.scale)

    def forward(self, input: Tensor) -> Tensor:
        """Leave out elements, in training."""
        own = self.stream is not None and input.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (self.training and own and self.p):
            return super().forward(input)
        mask = self.mask(torch.from_numpy(self.stream.take(input.numel())), input.dtype)  # type: ignore[union-attr]
        # of a table feature by feature, as the steps that are written out hold it
        return input * (mask.view(-1, len(input)).t() if input.ndim == 2 else mask.view(input.shape))


@contextlib.contextmanager
def seeded(module: nn.Module, seed: int) -> Iterator[None]:
    """Give every :class:`Dropout` of a network its stream, for the time of a fit.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    seed : int
        Root of the streams.

    Yields
    ------
    None
    """
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    for i, layer in enumerate(layers):
        layer.stream = BitStream(seed, i)
    try:
        yield
    finally:
        for layer in layers:
            layer.stream = None
