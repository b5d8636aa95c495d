"""Graph and Chain: layers joined to networks, as values whose every number has a name.

A blueprint is called with the shapes of the inputs and the number of outputs and returns a ``torch.nn.Module``; called
with nodes it is a layer of a larger one. Nothing is ever edited: ``replace`` and a learner's ``set_params`` make
another value. Shapes, modules and errors come from :mod:`torchstrata.network.building`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.network.blocks import Block as Block
from torchstrata.network.blocks import Choice as Choice
from torchstrata.network.blocks import Container
from torchstrata.network.building import build, check_output, plan, summary
from torchstrata.network.ends import Head, JoinHeads
from torchstrata.network.naming import as_layer, check_name, names_of
from torchstrata.network.nodes import Input, Layer, Node, Step, Wired


@dataclasses.dataclass(frozen=True, repr=False)
class Blueprint(Container):
    """Base of :class:`Chain` and :class:`Graph`: a network, or a part of a larger one."""

    def __call__(self, *given: Any) -> Any:
        """Build the network, or wire it to nodes as a part of a larger one.

        Parameters
        ----------
        *given : (Shapes, int) or Node, ...
            Shapes of the inputs and the number of outputs (None takes any output); or what it reads.

        Returns
        -------
        torch.nn.Module or Node
            Two blueprints with equal settings build equal modules from the same seed.

        Raises
        ------
        ConfigError
            Naming the layer and the shape of a row, if layers do not fit.
        """
        if len(given) != 2 or not isinstance(given[0], Mapping):
            return super().__call__(*given)
        shapes, n_outputs = given
        planned = plan(self._flat(), shapes, n_outputs)
        check_output(planned, n_outputs, type(self).__name__)
        return build(planned, shapes, n_outputs)

    def summary(self, shapes: Mapping[str, tuple[int, ...]], n_outputs: int | None = None) -> pd.DataFrame:
        """Describe the network for some shapes.

        Parameters
        ----------
        shapes : Shapes or dict
            Of the inputs, without the batch, such as ``{"number": (30,)}``.
        n_outputs : int, optional
            For heads; None where there is none.

        Returns
        -------
        DataFrame
            A row a layer: layer, kind, inputs, input_shapes, output_shape, parameters.

        Raises
        ------
        ConfigError
            If layers do not fit.
        """
        return summary(plan(self._flat(), shapes, n_outputs))

    def _flat(self) -> list[Step]:
        raise TypeError(f"{type(self).__name__} is abstract")


@dataclasses.dataclass(frozen=True, repr=False)
class Chain(Blueprint):
    """Layers one after the other.

    A chain of linear layers, activations and dropout is a plain ``nn.Sequential``, so it is trained by the steps that
    are written out, as ``ts.MLP`` is.

    Parameters
    ----------
    layers : list of Layer
        In order; chains, blocks, choices and graphs of one input are layers, too.
    name : str, optional
        By which settings, weights and errors call it, within a larger network.

    Raises
    ------
    ConfigError
        If there is none, something else is given, or two have one name.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> chain = Chain([layers.Linear(16, name="stem"), layers.ReLU(), layers.Head()])
    >>> chain({"number": (30,)}, 2)
    Sequential(
      (stem): Linear(in_features=30, out_features=16, bias=True)
      (relu): ReLU()
      (head): Linear(in_features=16, out_features=2, bias=True)
    )
    >>> chain.replace(stem__out_features=64)
    Chain([Linear(64, name='stem'), ReLU(), Head()])
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if isinstance(self.layers, Layer) or not isinstance(self.layers, Sequence) or isinstance(self.layers, str):
            raise ConfigError(f"Chain takes a list of layers, got {self.layers!r}: write ts.Chain([...])")
        if not self.layers:
            raise ConfigError("Chain needs at least one layer: ts.Chain([ts.layers.Head()])")
        object.__setattr__(self, "layers", tuple(as_layer(given, "Chain") for given in self.layers))
        self._names()

    def _names(self) -> list[str]:
        return names_of(self.layers, "Chain", self._own_names())

    def parts(self) -> dict[str, Layer]:
        """Return the layers by name."""
        return dict(zip(self._names(), self.layers, strict=True))

    def with_parts(self, parts: dict[str, Layer]) -> Chain:
        """Return the same with other layers; one that takes the place of another takes its name."""
        return dataclasses.replace(self, layers=_keep_names(self.parts(), parts))

    @property
    def reads(self) -> tuple[int, int | None]:
        """What the first layer reads."""
        return self.layers[0].reads

    def steps(self, name: str, sources: tuple[str, ...]) -> tuple[list[Step], str]:
        """Write out the layers, each reading the one before."""
        out: list[Step] = []
        for inner, layer in self.parts().items():
            steps, last = layer.steps(f"{name}_{inner}" if name else inner, sources)
            out, sources = out + steps, (last,)
        return out, sources[0]

    def _flat(self) -> list[Step]:
        return _ending([Step("input", Input(), ())], *self.steps("", ("input",)))

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Chain([{', '.join(map(repr, self.layers))}]{name})"


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Graph(Blueprint):
    """Layers that read each other: several inputs, several readers of a node, joins.

    Parameters
    ----------
    output : Node, or dict of str to Node
        The last node; what it reads, and what that reads, is the graph. Any node may be the output of another graph. A
        dict gives each head of a loss of several (:class:`ts.Heads`) its node, whatever their order.
    wiring : tuple, optional
        The same as plain values, as :meth:`get_params` gives it: for each node its name, its layer or input, and the
        names of what it reads; the last one is the output.
    name : str, optional
        By which settings, weights and errors call it, within a larger network.

    Raises
    ------
    ConfigError
        If output is no node, there is no input, or two layers have one name.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> x = Input("number")
    >>> stem = layers.Linear(16, name="stem")(x)
    >>> hidden = layers.Linear(16)(layers.ReLU()(stem))
    >>> Graph(layers.Head()(layers.Add()(stem, hidden)))
    Graph(
      number = Input('number')
      stem = Linear(16, name='stem')(number)
      relu = ReLU()(stem)
      linear = Linear(16)(relu)
      add = Add()(stem, linear)
      head = Head()(add)
    )
    """

    wiring: tuple[tuple[str, Any, tuple[str, ...]], ...]

    def __init__(self, output: Any = None, *, wiring: Any = None, name: str | None = None):
        if wiring is None:
            output = _joined(output) if isinstance(output, Mapping) else output
            if not isinstance(output, Node):
                raise ConfigError(
                    "Graph takes the last node, as in ts.Graph(ts.layers.Head()(ts.Input('number'))), "
                    f"got {output!r}; for a list of layers write ts.Chain([...])"
                )
            wiring = _wiring(output, self._own_names())
        try:
            plain = tuple((str(entry), layer, tuple(map(str, sources))) for entry, layer, sources in wiring)
        except (TypeError, ValueError):
            raise ConfigError(f"Graph: wiring must be (name, layer, (names)) for each node, got {wiring!r}") from None
        object.__setattr__(self, "wiring", plain)
        object.__setattr__(self, "name", name)
        _check_wiring(self.wiring)

    def parts(self) -> dict[str, Layer]:
        """Return the layers by name."""
        return {name: layer for name, layer, _ in self.wiring if not isinstance(layer, Input)}

    def with_parts(self, parts: dict[str, Layer]) -> Graph:
        """Return the same with other layers."""
        wiring = tuple((name, parts.get(name, layer), sources) for name, layer, sources in self.wiring)
        return Graph(wiring=wiring, name=self.name)

    @property
    def reads(self) -> tuple[int, int | None]:
        """One node for each input."""
        n = sum(isinstance(layer, Input) for _, layer, _ in self.wiring)
        return (n, n)

    def steps(self, name: str, sources: tuple[str, ...]) -> tuple[list[Step], str]:
        """Write out the layers; inputs, in the order of the wiring, are what it reads."""
        self.check_reads(len(sources))
        given, at, out = list(sources), {}, []
        for inner, layer, reads in self.wiring:
            if isinstance(layer, Input):
                at[inner] = given.pop(0)
                continue
            steps, at[inner] = layer.steps(f"{name}_{inner}" if name else inner, tuple(at[r] for r in reads))
            out += steps
        return out, at[self.wiring[-1][0]]

    def _flat(self) -> list[Step]:
        inputs = [Step(*entry) for entry in self.wiring if isinstance(entry[1], Input)]
        return _ending(inputs, *self.steps("", tuple(step.name for step in inputs)))

    def __repr__(self) -> str:
        lines = [f"  {n} = {layer!r}" + f"({', '.join(reads)})" * bool(reads) for n, layer, reads in self.wiring]
        tail = [] if self.name is None else [f"  name={self.name!r}"]
        return "\n".join(["Graph(", *lines, *tail, ")"])


def _joined(heads: Mapping[str, Any]) -> Any:
    """Join the nodes of several heads; a Head that does not say whose it is, is of that under whose name it stands."""
    nodes = {}
    for name, node in heads.items():
        if isinstance(node, Node) and isinstance(node.layer, Head) and node.layer.of is None:
            node = Node(node.layer.replace(of=name, name=node.layer.name or f"head_{name}"), node.inputs)
        nodes[name] = node
    if not nodes:
        raise ConfigError("Graph: a dict of heads needs a node for each, {'price': ts.layers.Head()(node), ...}")
    return JoinHeads(tuple(nodes))(*nodes.values())


def _keep_names(before: dict[str, Layer], after: dict[str, Layer]) -> tuple[Layer, ...]:
    out = []
    for name, old in before.items():
        new = after[name]
        keeps = new is old or (new.name is None and old.name is None and type(new) is type(old))
        out.append(new if keeps else new.replace(name=name))
    return tuple(out)


def _ending(inputs: list[Step], steps: list[Step], last: str) -> list[Step]:
    if not steps:
        raise ConfigError("the network holds no layer: all its blocks have repeat=0")
    return [*inputs, *steps]


def _wiring(output: Node, taken: list[str]) -> list[tuple[str, Any, tuple[str, ...]]]:
    """List what an output reads, first things first; nodes are told apart by identity, inputs by name."""
    order: list[Any] = []
    done: set[Any] = set()
    stack: list[tuple[Wired, bool]] = [(output, False)]
    while stack:
        node, read = stack.pop()
        if _id(node) in done:
            continue
        if isinstance(node, Input) or read:
            done.add(_id(node))
            order.append(node)
        else:
            stack += [(node, True), *((each, False) for each in reversed(node.inputs))]  # type: ignore[attr-defined]
    names = {_id(node): node.name or "input" for node in order if isinstance(node, Input)}
    nodes = [node for node in order if isinstance(node, Node)]
    called = names_of([node.layer for node in nodes], "Graph", [*taken, *names.values()])
    names.update(zip(map(_id, nodes), called, strict=True))
    return [
        (names[_id(node)], node, ()) if isinstance(node, Input)
        else (names[_id(node)], node.layer, tuple(names[_id(each)] for each in node.inputs))
        for node in order
    ]  # fmt: skip


def _id(node: Wired) -> Any:
    return node if isinstance(node, Input) else id(node)


def _check_wiring(wiring: tuple[tuple[str, Any, tuple[str, ...]], ...]) -> None:
    known: set[str] = set()
    for name, layer, sources in wiring:
        missing = [source for source in sources if source not in known]
        if name in known or missing or not isinstance(layer, Layer | Input):
            raise ConfigError(f"Graph: wiring holds {name!r} twice, or {layer!r} reads {missing} before it is there")
        if isinstance(layer, Layer):
            check_name(name, "Graph")
        known.add(name)
    if not wiring or not any(isinstance(layer, Input) for _, layer, _ in wiring):
        raise ConfigError("Graph has no input: begin with ts.Input('number')")
