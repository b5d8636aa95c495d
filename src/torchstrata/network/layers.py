"""Every layer of ``torch.nn`` without its input size, as a value; and what joins, reshapes and ends networks.

Names and arguments are torch's. The size of the input (``in_features``, ``in_channels``, ``num_features``, ...) is
taken from the shape when the network is built, by running the layers before it on torch's meta device. What is not
required is given by name wherever a size is left out. Rows come first everywhere: ``batch_first`` is always on, and
dimensions are counted as torch counts them, so 0 is the batch and 1 the first of a row.

A layer that gives several tensors in torch (RNN, LSTM, GRU, LSTMCell, MultiheadAttention, pooling with
``return_indices``) gives the first one here: the outputs of all steps, not the last state. Recurrent layers,
attention, ``PoolSteps`` and ``StepConv`` do not read the padding of sequences of unequal length
(:mod:`~torchstrata.network.masked`).

Examples
--------
>>> import torchstrata as ts
>>> ts.layers.Conv2d(32, 3, padding=1, name="stem")
Conv2d(32, 3, padding=1, name='stem')
>>> ts.layers.Linear(64)(ts.Input("number"))
Linear(64)(Input('number'))
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.dropout import Dropout as OurDropout
from torchstrata.network.embeddings import LinearEmbedding as LinearEmbedding
from torchstrata.network.embeddings import PeriodicEmbedding as PeriodicEmbedding
from torchstrata.network.embeddings import PiecewiseLinearEmbedding as PiecewiseLinearEmbedding
from torchstrata.network.embeddings import PiecewiseLinearEncoding as PiecewiseLinearEncoding
from torchstrata.network.ends import Head as Head
from torchstrata.network.ends import JoinHeads as JoinHeads
from torchstrata.network.joins import Add as Add
from torchstrata.network.joins import Concat as Concat
from torchstrata.network.joins import Custom as Custom
from torchstrata.network.joins import Function as Function
from torchstrata.network.joins import Multiply as Multiply
from torchstrata.network.joins import Reshape as Reshape
from torchstrata.network.joins import Squeeze as Squeeze
from torchstrata.network.joins import Unsqueeze as Unsqueeze
from torchstrata.network.masked import Attention, Masked, Recurrent
from torchstrata.network.modules import Categories, First, table_layer
from torchstrata.network.naming import checked
from torchstrata.network.nodes import Layer, Spec
from torchstrata.network.sequences import PoolSteps as PoolSteps
from torchstrata.network.sequences import PositionalEncoding as PositionalEncoding
from torchstrata.network.sequences import StepConv as StepConv
from torchstrata.network.tokens import CategoryEmbedding as CategoryEmbedding
from torchstrata.network.tokens import FeatureTokenizer as FeatureTokenizer
from torchstrata.network.tokens import OneHot as OneHot

# Classes of torch.nn that are no layer of a network, and why; all others stand here under torch's name.
LEFT_OUT = {
    **dict.fromkeys(["Module", "Container", "RNNBase", "RNNCellBase"], "a base class"),
    **dict.fromkeys(["Sequential", "ModuleList"], "ts.Chain and ts.Block"),
    **dict.fromkeys(["ModuleDict", "ParameterList", "ParameterDict"], "holds things and computes nothing"),
    **dict.fromkeys(["TransformerEncoder", "TransformerDecoder"], "ts.Block(layer, repeat=n) of its layer"),
    **dict.fromkeys(["MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"], "reads the indices of a pooling, which no node has"),
    "DataParallel": "copies a network to several devices",
    "SyncBatchNorm": "BatchNorm of several processes; torch converts a network to it",
}
# Arguments that are filled from the shapes: which node, which dimension of its rows.
_SIZES: dict[str, tuple[int, int]] = {
    "in_features": (0, -1),
    "in1_features": (0, -1),
    "in2_features": (1, -1),
    "in_channels": (0, 0),
    "num_features": (0, 0),
    "num_channels": (0, 0),
    "input_size": (0, -1),
    "embed_dim": (0, -1),
    "d_model": (0, -1),
    "kdim": (1, -1),
    "vdim": (2, -1),
}
_FILLED = {*_SIZES, "normalized_shape", "num_embeddings"}
_NEVER = {"device", "dtype", "batch_first", "_weight", "_freeze", "_random_samples"}
_DEFAULTS: dict[tuple[str, str], Any] = {  # where torch's default is a function, or mixes rows
    **{(kind, "dim"): -1 for kind in ("Softmax", "Softmin", "LogSoftmax")},
    **{(kind, "activation"): "relu" for kind in ("Transformer", "TransformerEncoderLayer", "TransformerDecoderLayer")},
}
_READS: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(["Bilinear", "CosineSimilarity", "PairwiseDistance", "Transformer"], (2, 2)),
    **dict.fromkeys(["RNNCell", "GRUCell"], (1, 2)),
    "TransformerDecoderLayer": (2, 2),
    "MultiheadAttention": (1, 3),
}
# Without these, torch would take a batch of smaller rows for one row, and mix the rows.
_SEQUENCE = "(steps, features)"
_ROWS = {
    **dict.fromkeys(["RNN", "LSTM", "GRU", "MultiheadAttention", "Transformer"], _SEQUENCE),
    **dict.fromkeys(["TransformerEncoderLayer", "TransformerDecoderLayer"], _SEQUENCE),
    "Softmax2d": "(channels, height, width)",
}


@dataclasses.dataclass(frozen=True, repr=False)
class TorchLayer(Layer):
    """Base of the layers that are torch's: builds the module of the same name."""

    filled: ClassVar[tuple[str, ...]] = ()  # the arguments that the shape gives

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list | np.generic):  # numbers of a search are numpy's
                object.__setattr__(self, field.name, tuple(value) if isinstance(value, list) else value.item())
            if field.name in ("dim", "start_dim") and value == 0:
                raise ConfigError(f"{type(self).__name__}: {field.name}=0 is the batch and would mix rows")

    @property
    def reads(self) -> tuple[int, int | None]:
        """The least and largest number of nodes it reads."""
        return _READS.get(type(self).__name__, (1, 1))

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build torch's module for what it reads.

        Parameters
        ----------
        specs : sequence of Spec
            Of the nodes it reads.
        n_outputs : Outputs
            Not used.

        Returns
        -------
        torch.nn.Module
            Of the class of the same name; inside :class:`First` where torch's gives several tensors.
        """
        kind = type(self).__name__
        settings = {name: value for name, value in self.get_params(deep=False).items() if name != "name"}
        if kind == "Linear" and specs[0].table is not None:
            return table_layer(specs[0], settings["out_features"], bias=bool(settings["bias"]))
        if "num_embeddings" in self.filled:
            return self._embedding(specs[0], settings)
        _refuse_table(specs, kind)
        self._check_rows(specs)
        source: Any = OurDropout if kind == "Dropout" else getattr(nn, kind)
        sizes = self._sizes(specs, settings.pop("dims", 1))
        if "batch_first" in inspect.signature(_init_of(source)).parameters:
            sizes["batch_first"] = True
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="enable_nested_tensor"
            )  # of Transformer, which has no such setting
            made = source(**sizes, **settings)
        if isinstance(made, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            return Masked(made) if any(spec.lengths for spec in specs) else made
        if isinstance(made, nn.RNNBase | nn.MultiheadAttention):
            return Recurrent(made) if isinstance(made, nn.RNNBase) else Attention(made)
        return First(made) if isinstance(made, nn.LSTMCell) or settings.get("return_indices") else made

    def _check_rows(self, specs: Sequence[Spec]) -> None:
        """Refuse what torch would take for another batch."""
        kind, dim = type(self).__name__, getattr(self, "dim", None)
        expected = _ROWS.get(kind, "")
        if expected and any(len(spec.shape) != len(expected.split(",")) for spec in specs):
            raise ConfigError(f"{kind} takes rows of shape {expected}, got {_several(specs)}")
        if isinstance(dim, int) and dim == -len(specs[0].shape) - 1:
            raise ConfigError(f"dim={dim} is the batch for rows of shape {specs[0]} and would mix rows")

    def _sizes(self, specs: Sequence[Spec], dims: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in self.filled:
            if name == "normalized_shape":
                out[name] = [specs[0].size(i) for i in range(-dims, 0)]
            elif name not in ("kdim", "vdim") or len(specs) > 1:
                node, dim = _SIZES[name]
                out[name] = specs[min(node, len(specs) - 1)].size(dim)
        return out

    def _embedding(self, spec: Spec, settings: dict[str, Any]) -> nn.Module:
        if not spec.levels:
            raise ConfigError(f"{type(self).__name__} takes categories: read them by ts.Input('category')")
        layer = getattr(nn, type(self).__name__)(num_embeddings=sum(spec.levels), **settings)
        return Categories(layer, spec.levels)


def _init_of(source: type) -> Any:
    return nn.RNNBase.__init__ if issubclass(source, nn.RNNBase) else source.__init__


def _refuse_table(specs: Sequence[Spec], kind: str) -> None:
    if any(spec.levels and spec.lengths for spec in specs):
        raise ConfigError(f"{kind} takes numbers and the input holds tokens: put ts.layers.Embedding(16) before it")
    if any(spec.table is not None or spec.levels for spec in specs):
        raise ConfigError(
            f"{kind} takes numbers and the inputs are {_several(specs)}: begin with ts.layers.Linear, which takes "
            "numbers and categories together, or wire ts.Input('number') and "
            "ts.layers.Embedding(8)(ts.Input('category')) into a ts.Graph"
        )


def _several(specs: Sequence[Spec]) -> str:
    return " and ".join(map(str, specs))


def _fields_of(source: type) -> list[tuple[str, Any, Any]]:
    """List the settings of a torch layer as fields: the order and defaults are torch's."""
    kind = source.__name__
    skip = _NEVER | {"self"} | ({"mode"} if issubclass(source, nn.RNNBase) else set())
    skip |= {"proj_size"} if kind in ("RNN", "GRU") else set()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(_init_of(source)).parameters.values() if p.kind not in several]
    sized = any(p.name in _FILLED for p in parameters)
    fields = []
    for p in parameters:
        if p.name in skip or p.name in _FILLED:
            continue
        default = _DEFAULTS.get((kind, p.name), p.default)
        required = default is p.empty
        # Linear(30, 64) by habit must not become bias=64: after the size that is left out, only what is required
        keyword = p.kind is p.KEYWORD_ONLY or (sized and not required)
        given = dataclasses.MISSING if required else default
        fields.append((p.name, Any, dataclasses.field(default=given, kw_only=keyword)))
    extra = {"LayerNorm": ("dims", 1), "RMSNorm": ("dims", 1), "RNN": ("nonlinearity", "tanh")}.get(kind)
    return fields + ([(extra[0], Any, dataclasses.field(default=extra[1], kw_only=True))] if extra else [])


def _layer_class(source: type) -> type:
    fields = _fields_of(source)
    filled = [p for p in inspect.signature(_init_of(source)).parameters if p in _FILLED]
    made = dataclasses.make_dataclass(
        source.__name__,
        fields,
        bases=(TorchLayer,),
        frozen=True,
        repr=False,
        namespace={"__module__": __name__, "filled": tuple(filled)},
    )
    about = {"dims": "int; how many of the last dimensions are normalised together"}
    listed = [f"{name} : {about.get(name, f'see torch.nn.{source.__name__}')}" for name, *_ in fields]
    made.__doc__ = "\n".join([
        f"``torch.nn.{source.__name__}`` as a value, with torch's own arguments.\n",
        *([f"{', '.join(filled)}: taken from the shape.\n"] if filled else []),
        "Parameters\n----------",
        *listed,
        "name : str, optional; by which settings, weights and errors call it",
    ])  # fmt: skip
    return checked(made)


def kinds() -> list[str]:
    """List torch's layers that stand here.

    Returns
    -------
    list of str
        Names in ``torch.nn``: its modules, without losses, lazy ones and :data:`LEFT_OUT`.
    """
    found = [
        name for name in dir(nn) if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    ]
    return [name for name in found if name not in LEFT_OUT and "Loss" not in name and not name.startswith("Lazy")]


for _name in kinds():
    globals()[_name] = _layer_class(getattr(nn, _name))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    known = [n for n, value in globals().items() if isinstance(value, type) and issubclass(value, Layer)]
    why = f" torch.nn.{name} is left out: {LEFT_OUT[name]}." if name in LEFT_OUT else ""
    raise AttributeError(f"ts.layers has no {name!r}.{why} {did_you_mean(name, known)}")
