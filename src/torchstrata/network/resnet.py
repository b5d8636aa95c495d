"""A residual network for tables.

Gorishniy, Y., Rubachev, I., Khrulkov, V. and Babenko, A. (2021). Revisiting deep learning models for tabular data.
NeurIPS. Defaults are those of the example of the authors' package rtdl_revisiting_models.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.activations import check_activation, make_activation
from torchstrata.network.dropout import Dropout
from torchstrata.network.embeddings import as_embedding
from torchstrata.network.naming import check_count, check_share
from torchstrata.network.tabular import first_layer
from torchstrata.params import Params


@dataclasses.dataclass(frozen=True, repr=False)
class ResNet(Params):
    """A residual network for tables: blocks of two linear layers, each added to what it reads.

    Parameters
    ----------
    n_blocks : int
        Blocks.
    d_block : int
        Width between blocks.
    d_hidden_multiplier : float
        Width within a block, as a multiple of d_block.
    dropout1, dropout2 : float
        Share of units that are left out in training, in [0, 1): within a block, and of what it adds.
    activation : str or callable
        A name in :data:`~torchstrata.network.activations.ACTIVATIONS`, or a function that returns a module.
    embedding : str or layer, optional
        Of the numbers: a name in :data:`~torchstrata.network.embeddings.EMBEDDINGS` or such a layer. Categories enter
        as in :class:`~torchstrata.network.tabular.MLP`.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Notes
    -----
    The authors train it by ``ts.optim.AdamW(lr=3e-4, weight_decay=1e-5)`` in their example. It holds batch
    normalisation: batches of one row cannot train it.

    Examples
    --------
    >>> from torchstrata.data.encode import Shapes
    >>> ResNet(1, d_block=8)(Shapes({"number": (5,)}), 2)
    Sequential(
      (input): Linear(in_features=5, out_features=8, bias=True)
      (blocks): Sequential(
        (0): Residual(
          (norm): BatchNorm1d(8, ...)
          (linear1): Linear(in_features=8, out_features=16, bias=True)
          (activation): ReLU()
          (dropout1): Dropout(p=0.3, inplace=False)
          (linear2): Linear(in_features=16, out_features=8, bias=True)
        )
      )
      (norm): BatchNorm1d(8, ...)
      (activation): ReLU()
      (head): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    n_blocks: int = 2
    _: dataclasses.KW_ONLY
    d_block: int = 192
    d_hidden_multiplier: float = 2.0
    dropout1: float = 0.3
    dropout2: float = 0.0
    activation: Any = "relu"
    embedding: Any = None

    def __post_init__(self) -> None:
        for name in ("n_blocks", "d_block"):
            check_count(getattr(self, name), f"ResNet: {name}")
        for name in ("dropout1", "dropout2"):
            check_share(getattr(self, name), f"ResNet: {name}")
        check_activation(self.activation, "ResNet")
        check_multiplier(self.d_hidden_multiplier, self.d_block, "ResNet: d_hidden_multiplier")
        object.__setattr__(self, "embedding", as_embedding(self.embedding, "ResNet"))

    @property
    def uses_rows(self) -> bool:
        """Whether the embedding looks at training rows."""
        return self.embedding is not None and self.embedding.uses_rows

    def __call__(self, shapes: Shapes, n_outputs: int) -> nn.Module:
        """Build the network.

        Parameters
        ----------
        shapes : Shapes
            Of the inputs.
        n_outputs : int
            Number of outputs.

        Returns
        -------
        torch.nn.Module
            Input to outputs, shape (n, n_outputs).
        """
        blocks = [self._block() for _ in range(self.n_blocks)]
        return nn.Sequential(
            OrderedDict(
                input=first_layer(shapes, self.d_block, embedding=self.embedding, where="ResNet"),
                blocks=nn.Sequential(*blocks),
                norm=nn.BatchNorm1d(self.d_block),
                activation=make_activation(self.activation),
                head=nn.Linear(self.d_block, int(n_outputs), bias=getattr(n_outputs, "bias", True)),
            )
        )

    def _block(self) -> Residual:
        d_hidden = int(self.d_block * self.d_hidden_multiplier)
        layers = {
            "norm": nn.BatchNorm1d(self.d_block),
            "linear1": nn.Linear(self.d_block, d_hidden),
            "activation": make_activation(self.activation),
            "dropout1": Dropout(self.dropout1) if self.dropout1 else None,
            "linear2": nn.Linear(d_hidden, self.d_block),
            "dropout2": Dropout(self.dropout2) if self.dropout2 else None,
        }
        return Residual(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


class Residual(nn.Sequential):
    """Layers in a line, whose output is added to what the first reads."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute it."""
        return x + super().forward(x)


def check_multiplier(value: Any, width: int, what: str) -> None:
    """Refuse what gives no width.

    Parameters
    ----------
    value : object
        A setting.
    width : int
        That it multiplies.
    what : str
        Which, for the message.

    Raises
    ------
    ConfigError
        If it is no finite number that leaves at least one unit.
    """
    good = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(float(value))
    if not good or int(width * float(value)) < 1:
        raise ConfigError(f"{what} must be a number that makes a width >= 1 of {width}, got {value!r}")
