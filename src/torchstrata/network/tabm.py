"""TabM: many multi-layer perceptrons in one, that share most of their weights and learn apart.

Gorishniy, Y., Kotelnikov, A. and Babenko, A. (2025). TabM: advancing tabular deep learning with parameter-efficient
ensembling. ICLR. Defaults are those of the authors' package tabm.

n is the number of rows, k of members, o of outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.activations import check_activation, make_activation
from torchstrata.network.columns import ColumnAffine, ColumnWaves, FlatTable
from torchstrata.network.dropout import Dropout
from torchstrata.network.embeddings import as_embedding
from torchstrata.network.members import mean_of_members
from torchstrata.network.naming import check_count, check_share
from torchstrata.network.tabular import check_table
from torchstrata.params import Params

ARCHES = ("tabm", "tabm-mini", "tabm-packed")
INITS = ("random-signs", "normal")


@dataclasses.dataclass(frozen=True, repr=False)
class TabM(Params):
    """TabM: k multi-layer perceptrons in one, whose predictions are averaged.

    In training every member has a loss of its own; a prediction is the mean of the members' probabilities, or of their
    outputs in regression.

    Parameters
    ----------
    n_blocks : int, optional
        Hidden layers; None is 3, or 2 with an embedding.
    d_block : int
        Their width.
    dropout : float
        Share of hidden units that are left out in training, in [0, 1).
    activation : str or callable
        A name in :data:`~torchstrata.network.activations.ACTIVATIONS`, or a function that returns a module.
    k : int
        Members.
    arch : {"tabm", "tabm-mini", "tabm-packed"}
        What the members have of their own: factors before and after every layer and its bias (BatchEnsemble); factors
        of the inputs only; or all weights. The last layer is always their own.
    embedding : str or layer, optional
        Of the numbers: a name in :data:`~torchstrata.network.embeddings.EMBEDDINGS` or such a layer. The paper's is
        ``"piecewise_linear"``.
    init : {"random-signs", "normal"}, optional
        How the factors of the inputs begin; None is random signs, or normal with an embedding.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Notes
    -----
    Factors begin equal for all that belongs to one column of the table. Biases, linear embeddings and frequencies are
    not decayed, as in the authors' experiments, whose optimizer is ``ts.optim.AdamW(lr=2e-3, weight_decay=3e-4)``.

    Examples
    --------
    >>> from torchstrata.data.encode import Shapes
    >>> net = TabM(d_block=16, k=4)(Shapes({"number": (5,)}), 2)
    >>> x = torch.zeros(7, 5)
    >>> net(x).shape, net.eval()(x).shape
    (torch.Size([7, 4, 2]), torch.Size([7, 2]))
    """

    n_blocks: int | None = None
    _: dataclasses.KW_ONLY
    d_block: int = 512
    dropout: float = 0.1
    activation: Any = "relu"
    k: int = 32
    arch: str = "tabm"
    embedding: Any = None
    init: str | None = None

    def __post_init__(self) -> None:
        for name in ("d_block", "k", *(["n_blocks"] if self.n_blocks is not None else [])):
            check_count(getattr(self, name), f"TabM: {name}")
        check_share(self.dropout, "TabM: dropout")
        check_activation(self.activation, "TabM")
        if self.arch not in ARCHES:
            raise ConfigError(f"TabM: unknown arch {self.arch!r}. {did_you_mean(self.arch, ARCHES)}")
        if self.init is not None and self.init not in INITS:
            raise ConfigError(f"TabM: unknown init {self.init!r}. {did_you_mean(self.init, INITS)}")
        if self.init is not None and self.arch == "tabm-packed":
            raise ConfigError(f"TabM: arch 'tabm-packed' has no factors, so init must be None, got {self.init!r}")
        object.__setattr__(self, "embedding", as_embedding(self.embedding, "TabM"))

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
            Input to outputs, shape (n, k, n_outputs) in training and (n, n_outputs) in evaluation mode.
        """
        check_table(shapes, "TabM")
        embeds = self.embedding is not None and "number" in shapes
        embedding = self.embedding.from_table(shapes) if embeds else None
        flat = FlatTable(shapes, embedding, self.embedding.width if embeds else 1)
        n_blocks = self.n_blocks or (2 if embeds else 3)
        init = self.init or ("normal" if embeds else "random-signs")
        return Members(flat, self._blocks(flat.sizes, n_blocks, init), self._head(n_outputs), n_outputs)

    def _blocks(self, sizes: Sequence[int], n_blocks: int, init: str) -> nn.Sequential:
        packed, mini = self.arch == "tabm-packed", self.arch == "tabm-mini"
        layers: list[nn.Module] = [MemberScale(self.k, sizes, init)] if mini else []
        for i in range(n_blocks):
            n_inputs = self.d_block if i else sum(sizes)
            if packed:
                layers.append(MemberLinear(n_inputs, self.d_block, self.k))
            elif mini:
                layers.append(nn.Linear(n_inputs, self.d_block))
            else:
                layers.append(SharedLinear(n_inputs, self.d_block, self.k, first=None if i else (sizes, init)))
            layers.append(make_activation(self.activation))
            if self.dropout:
                layers.append(Dropout(self.dropout))
        return nn.Sequential(*layers)

    def _head(self, n_outputs: int) -> MemberLinear:
        return MemberLinear(self.d_block, int(n_outputs), self.k, bias=getattr(n_outputs, "bias", True))


class Members(nn.Module):
    """Members that read the same rows and learn apart.

    Parameters
    ----------
    flat : torch.nn.Module
        Input to a matrix (n, width).
    blocks : torch.nn.Sequential
        (n, 1, width) to (n, k, d), or (k, n, d) where its layers are :class:`MemberLinear`.
    head : MemberLinear
        d to o.
    n_outputs : Outputs
        Its ``link`` says what is averaged.

    Attributes
    ----------
    members : int
        k. In training mode the output is (n, k, o), and each member is to have its loss; in evaluation mode it is the
        mean prediction, (n, o).
    """

    def __init__(self, flat: FlatTable, blocks: nn.Sequential, head: MemberLinear, n_outputs: int):
        super().__init__()
        self.members = head.weight.shape[0]
        self.link = getattr(n_outputs, "link", "identity")
        self.flat, self.blocks, self.head = flat, blocks, head
        self.packed = isinstance(blocks[0], MemberLinear)

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        """Compute all members; outside of training, their mean."""
        rows = self.flat(x)
        if self.packed:
            hidden = self.blocks(rows.expand(self.members, *rows.shape))
        else:
            hidden = self.blocks(rows.unsqueeze(1)).transpose(0, 1)
        out = self.head(hidden).transpose(0, 1)
        return out if self.training else mean_of_members(out, self.link)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say which weights are not decayed: biases, linear embeddings and frequencies.

        Returns
        -------
        list of dict
            For the optimizer: ``params``, and ``weight_decay_factor`` where it is not 1.
        """
        spared = {
            parameter
            for module in self.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if name == "bias" or isinstance(module, ColumnAffine | ColumnWaves)
        }
        decayed = [parameter for parameter in self.parameters() if parameter not in spared]
        rest = [parameter for parameter in self.parameters() if parameter in spared]
        return [{"params": decayed}, {"params": rest, "weight_decay_factor": 0.0}]


class MemberLinear(nn.Module):
    """A linear layer for each member.

    Parameters
    ----------
    n_inputs, n_outputs, members : int
        Sizes.
    bias : bool
        Whether to add a constant.

    Notes
    -----
    Input: (k, n, n_inputs). Output: (k, n, n_outputs). Initial weights are uniform within 1/sqrt(n_inputs).
    """

    def __init__(self, n_inputs: int, n_outputs: int, members: int, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, n_inputs, n_outputs))
        self.bias = nn.Parameter(torch.empty(members, n_outputs)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(n_inputs**-0.5), n_inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Compute it."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class SharedLinear(nn.Module):
    """A linear layer that all members share, with factors before and after it and a bias for each (BatchEnsemble).

    Wen, Y., Tran, D. and Ba, J. (2020). BatchEnsemble: an alternative approach to efficient ensemble and lifelong
    learning. ICLR.

    Parameters
    ----------
    n_inputs, n_outputs, members : int
        Sizes.
    first : tuple (sizes, init), optional
        Of the first layer: how its factors begin, as of :class:`MemberScale`. Others begin at one.

    Notes
    -----
    Input: (n, k, n_inputs), or (n, 1, n_inputs). Output: (n, k, n_outputs). All members begin with the same bias.
    """

    def __init__(self, n_inputs: int, n_outputs: int, members: int, *, first: tuple[Sequence[int], str] | None = None):
        super().__init__()
        bound = n_inputs**-0.5
        self.weight = nn.Parameter(torch.empty(n_outputs, n_inputs).uniform_(-bound, bound))
        self.r = nn.Parameter(torch.ones(members, n_inputs) if first is None else _factors(members, *first))
        self.s = nn.Parameter(torch.ones(members, n_outputs))
        self.bias = nn.Parameter(torch.empty(n_outputs).uniform_(-bound, bound).repeat(members, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute it."""
        return torch.addcmul(self.bias, nn.functional.linear(x * self.r, self.weight), self.s)


class MemberScale(nn.Module):
    """Factors of the inputs for each member.

    Parameters
    ----------
    members : int
        k.
    sizes : sequence of int
        How many inputs belong together and begin with one factor.
    init : {"random-signs", "normal"}
        How they begin.

    Notes
    -----
    Input: (n, 1, sum of sizes). Output: (n, k, sum of sizes).
    """

    def __init__(self, members: int, sizes: Sequence[int], init: str):
        super().__init__()
        self.weight = nn.Parameter(_factors(members, sizes, init))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.weight


def _factors(members: int, sizes: Sequence[int], init: str) -> Tensor:
    drawn = torch.empty(members, len(sizes))
    drawn = drawn.normal_() if init == "normal" else drawn.bernoulli_(0.5).mul_(2).sub_(1)
    return drawn.repeat_interleave(torch.tensor(sizes), dim=1, output_size=sum(sizes))
