"""Modules that read sequences of unequal length, padded to the longest of a batch, and do not read the padding.

All take the tensors that their node reads and ``lengths``: for each of them the steps of every row, int64 of shape
(n,), or None. Without ``lengths`` every step counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from torchstrata.network.modules import First

Lengths = Sequence[Tensor | None]


def is_padding(length: Tensor, steps: int) -> Tensor:
    """Say which steps are padding.

    Parameters
    ----------
    length : Tensor of int64, shape (n,)
        Steps of each row.
    steps : int
        Of the padded tensor.

    Returns
    -------
    Tensor of bool, shape (n, steps)
        True for padding.
    """
    return torch.arange(steps, device=length.device) >= length[:, None]


def without_padding(x: Tensor, length: Tensor | None) -> Tensor:
    """Put zeros where the padding is.

    Parameters
    ----------
    x : Tensor of shape (n, steps, features)
        Anything.
    length : Tensor of int64, shape (n,), or None
        Steps of each row.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    return x if length is None else x.masked_fill(is_padding(length, x.shape[1])[:, :, None], 0)


def key_mask(length: Tensor | None, steps: int) -> Tensor | None:
    """Say which steps attention must not look at.

    Parameters
    ----------
    length : Tensor of int64, shape (n,), or None
        Steps of each row; of a row without steps the first one is looked at, for a mean over nothing is NaN.
    steps : int
        Of the padded tensor.

    Returns
    -------
    Tensor of bool, shape (n, steps), or None
        True for padding.
    """
    return None if length is None else is_padding(length.clamp_min(1), steps)


class Recurrent(First):
    """The outputs of all steps of a recurrent layer; zeros after the last step of a row.

    Parameters
    ----------
    layer : torch.nn.RNN, torch.nn.LSTM or torch.nn.GRU
        With ``batch_first``.
    """

    takes_lengths = True

    def forward(self, *x: Tensor, lengths: Lengths = (None,)) -> Tensor:
        """Compute them."""
        length = lengths[0]
        if length is None or not self.layer.bidirectional:  # forwards, a step knows nothing of the padding after it
            return without_padding(super().forward(*x), length)
        if x[0].is_cuda:  # one kernel; the lengths must be on the CPU
            packed = pack_padded_sequence(x[0], length.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=x[0].shape[1])[0]
            return without_padding(out, length)
        return without_padding(self._both_ways(x[0], length), length)

    def _both_ways(self, x: Tensor, length: Tensor) -> Tensor:
        """Read each row from its own end as well.

        torch's way, packing, computes as many rows at a time as are still there, and so the last bits of a row depend
        on its neighbours.
        """
        layer: Any = self.layer
        steps = torch.arange(x.shape[1], device=x.device)
        back = length[:, None] - 1 - steps
        back = torch.where(back < 0, steps, back)[:, :, None]
        for number in range(layer.num_layers):
            there, again = layer.all_weights[2 * number : 2 * number + 2]
            ahead = self._one_way(x, there)
            behind = self._one_way(x.take_along_dim(back, 1), again).take_along_dim(back, 1)
            x = torch.cat([ahead, behind], 2)
            if number + 1 < layer.num_layers:
                x = nn.functional.dropout(x, layer.dropout, self.training)
        return x

    def _one_way(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        layer: Any = self.layer
        start = x.new_zeros(1, len(x), getattr(layer, "proj_size", 0) or layer.hidden_size)
        state = (start, x.new_zeros(1, len(x), layer.hidden_size)) if layer.mode == "LSTM" else start
        compute = getattr(torch, layer.mode.lower())
        return compute(x, state, weights, layer.bias, 1, 0.0, self.training, False, True)[0]


class Attention(First):
    """Attention to one to three nodes; of what is not given, the last that is.

    Parameters
    ----------
    layer : torch.nn.MultiheadAttention
        With ``batch_first``.
    """

    takes_lengths = True

    def forward(self, *x: Tensor, lengths: Lengths = (None,)) -> Tensor:
        """Compute it; the padding of what is attended to gets no weight."""
        query, key, value = (*x, *[x[-1]] * (3 - len(x)))
        mask = key_mask(lengths[min(1, len(lengths) - 1)], key.shape[1])
        return self.layer(query, key, value, key_padding_mask=mask, need_weights=False)[0]


class Masked(nn.Module):
    """A layer of a transformer.

    Parameters
    ----------
    layer : torch.nn.TransformerEncoderLayer or torch.nn.TransformerDecoderLayer
        With ``batch_first``.
    """

    takes_lengths = True

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *x: Tensor, lengths: Lengths = (None, None)) -> Tensor:
        """Compute it; no padding is attended to."""
        masks = [key_mask(length, each.shape[1]) for length, each in zip(lengths, x, strict=False)]
        if len(x) == 1:
            return self.layer(x[0], src_key_padding_mask=masks[0])
        return self.layer(*x, tgt_key_padding_mask=masks[0], memory_key_padding_mask=masks[1])


class Pool(nn.Module):
    """One vector of the steps of a row.

    Parameters
    ----------
    how : {"mean", "max", "last"}
        Over the steps that are there; zeros for a row without steps.
    """

    takes_lengths = True

    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def forward(self, x: Tensor, lengths: Lengths = (None,)) -> Tensor:
        """Compute it."""
        length = lengths[0]
        if length is None:
            return x.mean(1) if self.how == "mean" else x.amax(1) if self.how == "max" else x[:, -1]
        if self.how == "mean":
            return without_padding(x, length).sum(1) / length.clamp_min(1)[:, None]
        if self.how == "max":
            out = x.masked_fill(is_padding(length, x.shape[1])[:, :, None], -math.inf).amax(1)
        else:
            last = (length - 1).clamp_min(0)[:, None, None].expand(-1, 1, x.shape[2])
            out = x.gather(1, last)[:, 0]
        return out.masked_fill((length == 0)[:, None], 0)

    def extra_repr(self) -> str:
        """Name what is taken."""
        return repr(self.how)


class StepConvolution(nn.Module):
    """A convolution along the steps, with zeros before the first and after the last step of a row.

    Parameters
    ----------
    in_channels : int
        Features of a step.
    out_channels : int
        Features afterwards.
    kernel_size : int
        Steps that are looked at.
    **settings
        Of ``torch.nn.Conv1d``.
    """

    takes_lengths = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **settings: Any):
        super().__init__()
        self.layer = nn.Conv1d(in_channels, out_channels, kernel_size, padding="same", **settings)

    def forward(self, x: Tensor, lengths: Lengths = (None,)) -> Tensor:
        """Compute it."""
        out = self.layer(without_padding(x, lengths[0]).transpose(1, 2)).transpose(1, 2)
        return without_padding(out, lengths[0])


class Sinusoids(nn.Module):
    """Add sines and cosines of the position to the features of a step; no weights, and no longest sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """Add them."""
        steps, features = x.shape[1:]
        half = (features + 1) // 2
        # no buffer: one would have to know the longest sequence, and be there when weights are loaded
        rate = torch.exp(torch.arange(half, device=x.device, dtype=x.dtype) * (-math.log(10_000.0) / half))
        angle = torch.arange(steps, device=x.device, dtype=x.dtype)[:, None] * rate
        waves = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :features]
        return x + waves
