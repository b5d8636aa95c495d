"""FT-Transformer: each column of a table becomes a token, and a transformer reads the tokens.

Gorishniy, Y., Rubachev, I., Khrulkov, V. and Babenko, A. (2021). Revisiting deep learning models for tabular data.
NeurIPS. Defaults are those of the authors' package rtdl_revisiting_models.

n is the number of rows, t of tokens, d the size of a token.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.columns import Tokens
from torchstrata.network.dropout import Dropout
from torchstrata.network.embeddings import LinearEmbedding, as_embedding, sized
from torchstrata.network.naming import check_count, check_share
from torchstrata.network.resnet import check_multiplier
from torchstrata.network.tabular import check_table
from torchstrata.network.tokens import FeatureTokenizer
from torchstrata.params import Params

# By the number of blocks: size of a token, dropout of attention, dropout of the feed-forward part.
_DEFAULTS = {
    1: (96, 0.10, 0.00),
    2: (128, 0.15, 0.05),
    3: (192, 0.20, 0.10),
    4: (256, 0.25, 0.15),
    5: (320, 0.30, 0.20),
    6: (384, 0.35, 0.25),
}


@dataclasses.dataclass(frozen=True, repr=False)
class FTTransformer(Params):
    """FT-Transformer: a transformer over the columns of a table.

    Parameters
    ----------
    n_blocks : int
        Blocks of attention and feed-forward layers.
    d_block : int, optional
        Size of a token, a multiple of n_heads. None is the authors' for 1 to 6 blocks: 96, 128, 192, 256, 320, 384; and
        so with the two dropouts.
    n_heads : int
        Heads of attention.
    attention_dropout, ffn_dropout : float, optional
        Share that is left out in training, in [0, 1): of the attention's weights, and of the units of the feed-forward
        part. None is the authors': 0.1 to 0.35, and 0 to 0.25.
    residual_dropout : float
        The same, of what attention and feed-forward part add.
    d_hidden_multiplier : float
        Width of the feed-forward part (ReGLU), as a multiple of d_block.
    embedding : str or layer, optional
        Of the numbers: a name in :data:`~torchstrata.network.embeddings.EMBEDDINGS` or such a layer, of size d_block
        where it says one. None is linear, as in the paper.

    Raises
    ------
    ConfigError
        If a setting cannot work, or has no default for so many blocks.

    Notes
    -----
    Tokens, norms of the blocks and biases are not decayed. The authors train it by
    ``ts.optim.AdamW(lr=1e-4, weight_decay=1e-5)``.

    Examples
    --------
    >>> from torchstrata.data.encode import Shapes
    >>> net = FTTransformer(1)(Shapes({"number": (2,), "category": (1,)}, levels=(4,)), 3)
    >>> net({"number": torch.zeros(5, 2), "category": torch.zeros(5, 1, dtype=torch.int64)}).shape
    torch.Size([5, 3])
    """

    n_blocks: int = 3
    _: dataclasses.KW_ONLY
    d_block: int | None = None
    n_heads: int = 8
    attention_dropout: float | None = None
    ffn_dropout: float | None = None
    residual_dropout: float = 0.0
    d_hidden_multiplier: float = 4 / 3
    embedding: Any = None

    def __post_init__(self) -> None:
        for name in ("n_blocks", "n_heads"):
            check_count(getattr(self, name), f"FTTransformer: {name}")
        for name in ("d_block", "attention_dropout", "ffn_dropout"):
            if getattr(self, name) is None and self.n_blocks not in _DEFAULTS:
                raise ConfigError(
                    f"FTTransformer: {name}=None has a default for 1 to {max(_DEFAULTS)} blocks, got n_blocks="
                    f"{self.n_blocks!r}: give {name}="
                )
        size, attention_dropout, ffn_dropout = self._sizes()
        check_count(size, "FTTransformer: d_block")
        check_share(attention_dropout, "FTTransformer: attention_dropout")
        check_share(ffn_dropout, "FTTransformer: ffn_dropout")
        check_share(self.residual_dropout, "FTTransformer: residual_dropout")
        check_multiplier(self.d_hidden_multiplier, size, "FTTransformer: d_hidden_multiplier")
        if size % self.n_heads:
            raise ConfigError(f"FTTransformer: d_block must be a multiple of n_heads={self.n_heads}, got {size}")
        object.__setattr__(self, "embedding", as_embedding(self.embedding, "FTTransformer"))
        sized(self.embedding or LinearEmbedding(), size, "FTTransformer: d_block")

    @property
    def uses_rows(self) -> bool:
        """Whether the embedding looks at training rows."""
        return self.embedding is not None and self.embedding.uses_rows

    def _sizes(self) -> tuple[int, float, float]:
        own = (self.d_block, self.attention_dropout, self.ffn_dropout)
        defaults = _DEFAULTS.get(self.n_blocks, own)
        return tuple(b if a is None else a for a, b in zip(own, defaults, strict=True))  # type: ignore[return-value]

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
        check_table(shapes, "FTTransformer")
        size, attention_dropout, ffn_dropout = self._sizes()
        tokens = FeatureTokenizer(size, embedding=self.embedding).tokens(shapes)
        width = int(size * self.d_hidden_multiplier)
        blocks = [
            TransformerBlock(
                Attention(size, self.n_heads, attention_dropout),
                ReGLU(size, width, ffn_dropout),
                self.residual_dropout,
                norm=i > 0,  # what the tokenizer gives is not normalised
            )
            for i in range(self.n_blocks)
        ]
        head = nn.Linear(size, int(n_outputs), bias=getattr(n_outputs, "bias", True))
        return TokenTransformer(tokens, blocks, head)


class TokenTransformer(nn.Module):
    """A tokenizer, a transformer, and a head that reads the first token.

    Parameters
    ----------
    tokens : Tokens
        A table to (n, t, d), the first token that of the row.
    blocks : list of TransformerBlock
        Of the transformer; the last one computes the first token only.
    head : torch.nn.Linear
        d to outputs.
    """

    def __init__(self, tokens: Tokens, blocks: list[TransformerBlock], head: nn.Linear):
        super().__init__()
        self.tokens, self.blocks = tokens, nn.ModuleList(blocks)
        self.norm, self.activation, self.head = nn.LayerNorm(head.in_features), nn.ReLU(), head

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        """Compute it."""
        out = self.tokens(x)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            out = block(out, first_only=i == last)
        return self.head(self.activation(self.norm(out[:, 0])))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say which weights are not decayed: tokens, norms of the blocks and biases.

        Returns
        -------
        list of dict
            For the optimizer: ``params``, and ``weight_decay_factor`` where it is not 1.
        """
        spared = [
            name.startswith("tokens.") or name.endswith(".bias") or (name.startswith("blocks.") and "norm" in name)
            for name, _ in self.named_parameters()
        ]
        pairs = list(zip(self.parameters(), spared, strict=True))
        decayed, rest = ([parameter for parameter, spare in pairs if spare is side] for side in (False, True))
        return [{"params": decayed}, {"params": rest, "weight_decay_factor": 0.0}]


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, each normalised before and added to what it reads.

    Parameters
    ----------
    attention : Attention
        (n, t, d) to itself.
    ffn : torch.nn.Module
        d to d.
    dropout : float
        Share left out of what is added.
    norm : bool
        Whether attention reads normalised tokens.
    """

    def __init__(self, attention: Attention, ffn: ReGLU, dropout: float, *, norm: bool):
        super().__init__()
        size = attention.qkv.in_features
        self.attention_norm = nn.LayerNorm(size) if norm else nn.Identity()
        self.attention, self.ffn_norm, self.ffn = attention, nn.LayerNorm(size), ffn
        self.dropout1, self.dropout2 = (Dropout(dropout) if dropout else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """Compute all tokens, or the first only: (n, t, d) or (n, 1, d)."""
        attended = self.attention(self.attention_norm(x), first_only=first_only)
        x = (x[:, :1] if first_only else x) + self.dropout1(attended)
        return x + self.dropout2(self.ffn(self.ffn_norm(x)))


class Attention(nn.Module):
    """Self-attention with several heads.

    Parameters
    ----------
    size, n_heads : int
        d, and into how many heads it is divided.
    dropout : float
        Share of the weights of attention that is left out in training.

    Notes
    -----
    Input: (n, t, d). Output: (n, t, d), or (n, 1, d) of the first token. Queries, keys and values are computed by one
    layer; biases begin at zero; one head has no layer after it.
    """

    def __init__(self, size: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(size, 3 * size)
        self.out: nn.Module = nn.Linear(size, size) if n_heads > 1 else nn.Identity()
        for layer in (self.qkv, self.out):
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """Attend."""
        n, _, size = x.shape
        if first_only:  # only its query is asked
            weight, bias = self.qkv.weight, self.qkv.bias
            q = nn.functional.linear(x[:, :1], weight[:size], bias[:size])
            k, v = nn.functional.linear(x, weight[size:], bias[size:]).chunk(2, -1)
        else:
            q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = self.dropout((q * (1 / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)).softmax(-1))
        return self.out((weights @ v).transpose(1, 2).reshape(n, -1, size))


class ReGLU(nn.Module):
    """A feed-forward part: one half of a linear layer, gated by the ReLU of the other, and a second layer.

    Shazeer, N. (2020). GLU variants improve transformer. arXiv:2002.05202.

    Parameters
    ----------
    size, width : int
        d, and the width between.
    dropout : float
        Share of units between that are left out in training.
    """

    def __init__(self, size: int, width: int, dropout: float):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(size, 2 * width), nn.Linear(width, size)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Compute it."""
        value, gate = self.linear1(x).chunk(2, -1)
        return self.linear2(self.dropout(value * torch.relu(gate)))
