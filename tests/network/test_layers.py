"""torch's layers without their input size: inferred shapes are real shapes, rows stay apart, errors name the layer."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.network import layers
from torchstrata.network.dropout import Dropout
from torchstrata.network.tabular import Outputs, TabularLinear

L = ts.layers
small = st.integers(1, 4)
flag = st.booleans()
PLAIN = {
    "CELU": {"alpha": st.floats(0.1, 2)},
    "ELU": {"alpha": st.floats(0.1, 2)},
    "GELU": {"approximate": st.sampled_from(["none", "tanh"])},
    "Hardshrink": {"lambd": st.floats(0, 1)},
    "Hardtanh": {"min_val": st.floats(-2, -0.5), "max_val": st.floats(0.5, 2)},
    "LeakyReLU": {"negative_slope": st.floats(0, 1)},
    "PReLU": {"init": st.floats(0, 1)},
    "RReLU": {"lower": st.floats(0.1, 0.2), "upper": st.floats(0.3, 0.4)},
    "Softplus": {"beta": st.floats(0.5, 2)},
    "Softshrink": {"lambd": st.floats(0, 1)},
    "Threshold": {"threshold": st.floats(-1, 1), "value": st.floats(-1, 1)},
    **{key: {"p": st.floats(0, 0.9)} for key in ["Dropout", "AlphaDropout", "FeatureAlphaDropout"]},
    **{key: {"inplace": flag} for key in ["Hardsigmoid", "Hardswish", "Mish", "ReLU", "ReLU6", "SELU", "SiLU"]},
    **{key: {} for key in ["Identity", "LogSigmoid", "Sigmoid", "Softsign", "Tanh", "Tanhshrink"]},
}


def drawn(draw, **strategies):
    return {name: draw(strategy) for name, strategy in strategies.items()}


def row(draw, least=1, most=4, size=small):
    return tuple(draw(st.lists(size, min_size=least, max_size=most)))


def image(draw, kind, *, low=5, high=8, channels=small):
    return (draw(channels), *(draw(st.integers(low, high)) for _ in range(int(kind[-2]))))


def conv(draw, kind):
    groups = draw(st.sampled_from([1, 2]))
    found = drawn(draw, kernel_size=st.integers(1, 3), stride=st.integers(1, 2), padding=st.integers(0, 2), bias=flag)
    found |= {"out_channels": groups * draw(small), "groups": groups, "dilation": draw(st.integers(1, 2))}
    return found, [image(draw, kind, channels=small.map(lambda c: groups * c))]


def pool(draw, kind):
    found = drawn(draw, kernel_size=st.integers(1, 3), stride=st.sampled_from([None, 1, 2]), ceil_mode=flag)
    if kind.startswith("LP"):
        found["norm_type"] = draw(st.integers(1, 3))
    else:
        found["padding"] = draw(st.integers(0, found["kernel_size"] // 2))
    if kind.startswith("Max"):
        found |= drawn(draw, dilation=st.integers(1, 2), return_indices=flag)
    return found, [image(draw, kind)]


def adaptive(draw, kind):
    some = [small] if kind.endswith("1d") else [small, st.just((None, 2, 3)[: int(kind[-2])])]
    return {"output_size": draw(st.one_of(some))}, [image(draw, kind)]


def fractional(draw, kind):
    n = int(kind[-2])
    how = draw(st.sampled_from([{"output_size": (3,) * n}, {"output_ratio": (0.5,) * n}]))
    return {"kernel_size": 2, **how}, [image(draw, kind, low=6)]


def padding(draw, kind):
    value = {"value": draw(st.floats(-1, 1))} if kind.startswith("Constant") else {}
    each = st.integers(0, 2)
    n = 2 * int(kind[-2])
    return {"padding": draw(st.one_of(each, st.tuples(*[each] * n))), **value}, [image(draw, kind)]


def batch_norm(draw, kind):
    shapes = [image(draw, kind)] + ([row(draw, 1, 1)] if kind.endswith("1d") else [])
    found = drawn(draw, affine=flag, momentum=st.sampled_from([None, 0.1]), track_running_stats=st.just(True))
    return found, [draw(st.sampled_from(shapes))]


def normal(draw, kind):
    shape = row(draw, 1, 3)
    affine = drawn(draw, elementwise_affine=flag)
    return {"dims": draw(st.integers(1, len(shape))), **affine}, [shape]


def recurrent(draw, kind):
    found = drawn(draw, hidden_size=st.integers(2, 5), num_layers=st.integers(1, 2), bidirectional=flag, bias=flag)
    if kind == "RNN":
        found |= drawn(draw, nonlinearity=st.sampled_from(["tanh", "relu"]))
    if kind == "LSTM":
        found |= drawn(draw, proj_size=st.integers(0, 1))
    return found, [row(draw, 2, 2)]


def cell(draw, kind):
    hidden = draw(small)
    states = [(hidden,)] if kind != "LSTMCell" and draw(flag) else []
    return {"hidden_size": hidden}, [row(draw, 1, 1), *states]


def attention(draw, kind):
    heads, steps = draw(small), draw(small)
    found = {"num_heads": heads, **drawn(draw, bias=flag, add_bias_kv=flag, add_zero_attn=flag)}
    shapes = [(draw(small), heads * draw(small)), (steps, draw(small)), (steps, draw(small))]
    return found, shapes[: draw(st.integers(1, 3))]


def transformer(draw, kind):
    heads, n = draw(small), 1 if kind == "TransformerEncoderLayer" else 2
    found = {"nhead": heads, "dim_feedforward": draw(small), **drawn(draw, norm_first=flag, bias=flag)}
    found["activation"] = draw(st.sampled_from(["relu", "gelu"]))
    if kind == "Transformer":
        found |= {"num_encoder_layers": 1, "num_decoder_layers": draw(st.integers(1, 2)), "bias": True}
    width = heads * draw(small)
    return found, [(draw(small), width) for _ in range(n)]


def embedding(draw, kind):
    mode = {"mode": draw(st.sampled_from(["sum", "mean", "max"]))} if kind == "EmbeddingBag" else {}
    return {"embedding_dim": draw(small), **mode}, ["category"]


def fold(draw, kind):
    height, width, channels = draw(small) + 1, draw(small) + 1, draw(small)
    return {"output_size": (height, width), "kernel_size": 2}, [(4 * channels, (height - 1) * (width - 1))]


def up(draw, kind):
    plane = kind.startswith("Upsampling")
    shape = (draw(small), *row(draw, 2, 2)) if plane else row(draw, 2, 4)
    how = draw(st.sampled_from([{"scale_factor": 2}, {"size": (5,) * (len(shape) - 1)}]))
    return how, [shape]


def pairs(draw, kind):
    shape = row(draw, 1, 3)
    return ({"keepdim": draw(flag)} if kind == "PairwiseDistance" else {"dim": -1}), [shape, shape]


def shuffled(draw, kind):
    up, (height, width) = draw(st.integers(1, 3)), row(draw, 2, 2)
    if kind == "PixelUnshuffle":
        return {"downscale_factor": up}, [(draw(small), up * height, up * width)]
    if kind == "ChannelShuffle":
        return {"groups": up}, [(up * draw(small), height, width)]
    return {"upscale_factor": up}, [(up * up * draw(small), height, width)]


FAMILIES = {
    "Conv": conv,
    "MaxPool": pool,
    "AvgPool": pool,
    "LPPool": pool,
    "Adaptive": adaptive,
    "Fractional": fractional,
    "BatchNorm": batch_norm,
    "InstanceNorm": lambda draw, kind: (drawn(draw, affine=flag, track_running_stats=flag), [image(draw, kind)]),
    "GroupNorm": lambda draw, kind: ({"num_groups": 2}, [(2 * draw(small), *row(draw, 0, 3))]),
    "LayerNorm": normal,
    "RMSNorm": normal,
    "LocalResponse": lambda draw, kind: ({"size": draw(small)}, [row(draw, 2, 4)]),
    "CrossMap": lambda draw, kind: ({"size": 3}, [row(draw, 3, 3, st.integers(3, 5))]),
    "RNNCell": cell, "LSTMCell": cell, "GRUCell": cell,
    "RNN": recurrent, "LSTM": recurrent, "GRU": recurrent,
    "Multihead": attention,
    "Transformer": transformer,
    "Embedding": embedding,
    "Linear": lambda draw, kind: (drawn(draw, out_features=small, bias=flag), [row(draw)]),
    "Bilinear": lambda draw, kind: (drawn(draw, out_features=small, bias=flag), [row(draw, 1, 1), row(draw, 1, 1)]),
    "Cosine": pairs, "Pairwise": pairs,
    "Softmax2d": lambda draw, kind: ({}, [row(draw, 3, 3)]),
    "Soft": lambda draw, kind: ({"dim": draw(st.sampled_from([-1, 1]))}, [row(draw)]),
    "LogSoftmax": lambda draw, kind: ({"dim": draw(st.sampled_from([-1, 1]))}, [row(draw)]),
    "GLU": lambda draw, kind: ({"dim": 1}, [(2 * draw(small), *row(draw, 0, 2))]),
    "Dropout": lambda draw, kind: ({"p": draw(st.floats(0, 0.9))}, [image(draw, kind)]),
    "Flatten": lambda draw, kind: ({"end_dim": draw(st.integers(2, 3))}, [row(draw, 3, 4)]),
    "Unflatten": lambda draw, kind: ({"dim": 1, "unflattened_size": (2, 3)}, [(6, *row(draw, 0, 2))]),
    "Fold": fold,
    "Unfold": lambda draw, kind: ({"kernel_size": 2, "stride": draw(st.integers(1, 2))},
                                  [row(draw, 3, 3, st.integers(2, 5))]),
    "Upsampl": up,
    "Pixel": shuffled, "ChannelShuffle": shuffled,
    **dict.fromkeys(["CircularPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "ZeroPad"], padding),
}  # fmt: skip


@st.composite
def cases(draw, kind):
    if kind in PLAIN:
        return getattr(L, kind)(**drawn(draw, **PLAIN[kind])), [row(draw)]
    family = next(family for start, family in FAMILIES.items() if kind.startswith(start))
    found, shapes = family(draw, kind)
    return getattr(L, kind)(**found), shapes


def built(layer, shapes):
    """Return the module, what the library says of its output, and rows to run it on."""
    names = ["category" if shape == "category" else f"x{i}" for i, shape in enumerate(shapes)]
    known = Shapes({n: (3,) if n == "category" else s for n, s in zip(names, shapes, strict=True)}, (2, 3, 4))
    known["unread"] = (1,)
    graph = ts.Graph(layer(*map(ts.Input, names)))
    x = {n: torch.randint(0, 2, (3, 3)) if n == "category" else torch.randn(3, *known[n]) for n in names}
    return graph(known, None), graph.summary(known).output_shape.iloc[-1], x


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch has no oneDNN kernel for them
@pytest.mark.parametrize("kind", layers.kinds())
def test_inferred_shape_equals_real_shape_and_rows_stay_apart(kind):
    @settings(max_examples=10)
    @given(cases(kind))
    def check(case):
        module, said, x = built(*case)
        module.eval()
        with torch.no_grad():
            real = module({name: value.clone() for name, value in x.items()})
            assert str(tuple(real.shape[1:])) == said
            assert len(real) == 3
            if not kind.startswith("Fractional"):  # which draws
                two = module({name: value[1:].clone() for name, value in x.items()})
                torch.testing.assert_close(real[1:], two, rtol=1e-4, atol=1e-5, equal_nan=True)  # roots of LPPool

    check()


def test_no_layer_of_torch_is_forgotten():
    found = {name for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    ends = {name for name in found if "Loss" in name}  # ts.losses, and loss=
    lazy = {name for name in found if name.startswith("Lazy")}  # what all of ours do
    assert found - ends - lazy - set(layers.kinds()) == set(layers.LEFT_OUT) & found
    assert all(layers.LEFT_OUT.values())
    assert len(layers.kinds()) >= 60


@pytest.mark.parametrize("kind", layers.kinds())
def test_arguments_are_torchs_without_the_input_size(kind):
    ours, theirs = getattr(L, kind), getattr(nn, kind)
    base = nn.RNNBase if issubclass(theirs, nn.RNNBase) else theirs
    known = set(inspect.signature(base.__init__).parameters)
    names = set(inspect.signature(ours).parameters)
    assert names - known <= {"name", "dims", "nonlinearity"}
    left = {n for n in known - names if not n.startswith("_")} - {"self", "args", "kwargs", "device", "dtype"}
    assert left <= {*ours.filled, "batch_first", "mode", "proj_size"}
    assert ours.__doc__.startswith(f"``torch.nn.{kind}``")


def test_values_are_immutable_and_travel():
    layer = L.Conv2d(32, [3, 3], padding=1, name="stem")
    assert repr(layer) == "Conv2d(32, (3, 3), padding=1, name='stem')"
    assert layer.replace(out_channels=8) == L.Conv2d(8, (3, 3), padding=1, name="stem")
    assert layer.get_params()["out_channels"] == 32
    assert clone(layer) is layer
    assert pickle.loads(pickle.dumps(layer)) == layer == copy.deepcopy(layer)
    assert {layer: 1}[L.Conv2d(32, (3, 3), padding=1, name="stem")] == 1
    with pytest.raises(AttributeError):
        layer.out_channels = 3
    assert repr(L.Dropout(0.3)) == "Dropout(0.3)" and repr(L.ReLU()) == "ReLU()"


def test_the_same_modules_as_torchs():
    def make(layer, shape):
        return ts.Chain([layer])({"tensor": shape}, None)[0]

    assert type(make(L.Dropout(0.2), (4,))) is Dropout
    assert type(make(L.Linear(3), (4,))) is nn.Linear
    assert make(L.LSTM(3), (5, 4)).layer.batch_first
    norm = make(L.LayerNorm(dims=2), (5, 4))
    assert norm.normalized_shape == (5, 4)
    assert make(L.MultiheadAttention(2), (5, 4)).layer.batch_first


def test_recurrent_layers_give_the_outputs_of_all_steps():
    module = ts.Chain([L.GRU(3)])({"tensor": (5, 4)}, None)
    x = torch.randn(2, 5, 4)
    assert torch.equal(module(x), module[0].layer(x)[0])


def test_attention_to_oneself_and_to_others():
    x, y = ts.Input("x"), ts.Input("y")
    shapes = {"x": (5, 4), "y": (3, 6)}
    itself = ts.Graph(L.MultiheadAttention(2)(x))(shapes, None)
    rows = {"x": torch.randn(2, 5, 4), "y": torch.randn(2, 3, 6)}
    attention = itself.multiheadattention.layer
    assert torch.allclose(itself(rows), attention(rows["x"], rows["x"], rows["x"])[0], atol=1e-6)
    other = ts.Graph(L.MultiheadAttention(2)(x, y))(shapes, None)
    attention = other.multiheadattention.layer
    assert attention.kdim == attention.vdim == 6
    assert torch.allclose(other(rows), attention(rows["x"], rows["y"], rows["y"])[0], atol=1e-6)


JOINS = {
    "add": (L.Add(), [(3, 4), (3, 4), (1, 4)], lambda a, b, c: a + b + c),
    "multiply": (L.Multiply(), [(3, 4), (3, 1)], lambda a, b: a * b),
    "concat": (L.Concat(), [(3, 4), (2, 4)], lambda a, b: torch.cat([a, b], 1)),
    "concat last": (L.Concat(-1), [(3, 4), (3, 2)], lambda a, b: torch.cat([a, b], 2)),
    "reshape": (L.Reshape((2, -1)), [(3, 4)], lambda a: a.reshape(len(a), 2, 6)),
    "squeeze": (L.Squeeze(1), [(1, 4)], lambda a: a[:, 0]),
    "unsqueeze": (L.Unsqueeze(), [(3, 4)], lambda a: a[:, None]),
    "function": (L.Function(torch.maximum), [(3,), (3,)], torch.maximum),
}


@pytest.mark.parametrize("case", JOINS.values(), ids=list(JOINS))
def test_joins_compute_what_they_say(case):
    layer, shapes, expected = case
    module, said, x = built(layer, shapes)
    assert torch.equal(module(x), expected(*x.values()))
    assert said == str(tuple(expected(*x.values()).shape[1:]))
    pickle.dumps(module)


def test_custom_modules_are_made_for_the_shape():
    def make(shape):
        return nn.Sequential(nn.Linear(shape[0], 7), nn.PReLU())

    module, said, x = built(L.Custom(make, name="own"), [(3,)])
    assert said == "(7,)" and module(x).shape == (3, 7)
    assert not any(p.is_meta for p in module.parameters())


@pytest.mark.parametrize("bias", [None, True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_head_takes_size_and_bias_from_task_and_loss(bias, wanted):
    module = ts.Chain([L.Head(bias)])({"number": (4,)}, Outputs(3, bias=wanted))[0]
    assert (module.in_features, module.out_features) == (4, 3)
    assert (module.bias is not None) == (wanted if bias is None else bias)


def test_tables_of_numbers_and_categories_begin_with_linear_or_embedding():
    shapes = Shapes({"number": (2,), "category": (3,)}, (2, 3, 4))
    x = {"number": torch.randn(5, 2), "category": torch.randint(0, 2, (5, 3))}
    net = ts.Chain([L.Linear(8), L.ReLU(), L.Head()])(shapes, 1)
    assert type(net[0]) is TabularLinear and net(x).shape == (5, 1)
    assert type(ts.Chain([L.Head()])(shapes, 1)[0]) is TabularLinear
    embedded = L.Flatten()(L.Embedding(4)(ts.Input("category")))
    graph = ts.Graph(L.Head()(L.Concat()(ts.Input("number"), embedded)))
    assert graph(shapes, 1)(x).shape == (5, 1)
    only = Shapes({"category": (3,)}, (2, 3, 4))
    for first in ([L.Embedding(4), L.Flatten()], [L.Linear(4)]):
        assert ts.Chain([*first, L.Head()])(only, 1)({"category": x["category"]}).shape == (5, 1)
    table = torch.zeros(9, 4).copy_(torch.arange(9.0)[:, None])
    net = ts.Chain([L.Embedding(4)])(only, None)
    net[0].layer.weight.data = table
    assert net({"category": torch.tensor([[1, 2, 3]])})[0, :, 0].tolist() == [1, 4, 8]


def test_sizes_that_are_not_fixed_stay_so_where_the_layer_allows():
    sequence = {"tensor": (None, 6)}
    chain = ts.Chain([L.Linear(4), L.GRU(5), L.TransformerEncoderLayer(5), L.Reshape((5, -1))])
    assert chain.summary(sequence).output_shape.tolist()[1:] == ["(any, 4)", "(any, 5)", "(any, 5)", "(5, any)"]
    chain = ts.Chain([L.Conv1d(4, 3), L.AdaptiveAvgPool1d(1), L.Flatten(), L.Head()])
    module = chain({"tensor": (6, None)}, 2)
    assert module(torch.randn(3, 6, 20)).shape == module(torch.randn(3, 6, 9)).shape == (3, 2)
    with pytest.raises(
        ts.ConfigError, match=r"layer 'linear', Linear\(4\): rows of shape \(6, any\) have no fixed size"
    ):
        ts.Chain([L.Linear(4)])({"tensor": (6, None)}, None)


ERRORS = {
    "a size by habit": (lambda: L.Linear(30, 64), r"in_features is left out: .*Write Linear\(out_features, \*, bias"),
    "a size by name": (lambda: L.Conv2d(3, 3, in_channels=3), "in_channels is left out: it is taken from the shape"),
    "an unknown argument": (lambda: L.Linear(out_feature=3), "Did you mean 'out_features'"),
    "an unknown layer": (lambda: L.Lnear, "Did you mean 'Linear'"),
    "a layer that is left out": (lambda: L.Sequential, "torch.nn.Sequential is left out: ts.Chain"),
    "the batch": (lambda: L.Softmax(0), "dim=0 is the batch"),
    "the batch, flattened": (lambda: L.Flatten(0), "start_dim=0 is the batch"),
    "the batch, joined": (lambda: L.Concat(0), "dim must be an int other than 0"),
    "no dimension": (lambda: L.Unsqueeze(True), "dim must be an int"),
    "no shape": (lambda: L.Reshape((2, 0)), "sizes of a row"),
    "no function": (lambda: L.Function(3), "takes a function of tensors"),
    "a module as function": (lambda: L.Function(nn.ReLU()), "ts.layers.Custom"),
    "a module as custom": (lambda: L.Custom(nn.ReLU()), "makes a new module"),
    "outputs of a head": (lambda: L.Head(10), "the number of outputs comes from the task"),
    "tensors": (lambda: L.Linear(3)(torch.ones(2)), "is called with nodes"),
    "as a network": (lambda: L.Linear(3)({"number": (3,)}, 2), r"ts.Chain\(\[Linear\(3\), ts.layers.Head\(\)\]\)"),
    "one node": (lambda: L.Add()(ts.Input()), "reads 2 or more nodes, got 1"),
    "two nodes": (lambda: L.ReLU()(ts.Input(), ts.Input()), "reads 1 node, got 2"),
    "four nodes": (lambda: L.MultiheadAttention(2)(*[ts.Input()] * 4), "reads 1 to 3 nodes, got 4"),
    "no word": (lambda: ts.Input("a b"), "the name must be a word"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS.values(), ids=list(ERRORS))
def test_what_is_refused_where_it_is_typed(case):
    wrong, message = case
    with pytest.raises((ts.ConfigError, AttributeError), match=message):
        wrong()


MISFITS = {
    "channels": (L.Conv2d(3, 3, name="stem"), (64,), r"layer 'stem', Conv2d\(3, 3, name='stem'\), cannot take rows of "
                 r"shape \(64,\) \(without the batch\); Conv2d takes \(channels, height, width\)"),
    "too small": (L.Conv2d(3, 7), (1, 4, 4), r"rows of shape \(1, 4, 4\) \(without the batch\)\. torch says"),
    "heads": (L.MultiheadAttention(3), (5, 4), r"cannot be built for rows of shape \(5, 4\): embed_dim must be div"),
    "a table as a sequence": (L.GRU(3), (6,), r"GRU takes rows of shape \(steps, features\), got \(6,\)"),
    "planes": (L.Softmax2d(), (5, 6), r"Softmax2d takes rows of shape \(channels, height, width\)"),
    "batch from behind": (L.Softmax(-2), (6,), r"dim=-2 is the batch for rows of shape \(6,\)"),
    "head of images": (L.Head(), (3, 8, 8), r"rows have shape \(3, 8, 8\): put ts.layers.Flatten\(\) before"),
    "no one": (L.Squeeze(1), (3, 4), r"drops a dimension of size 1, and rows have shape \(3, 4\)"),
    "no such dimension": (L.Squeeze(4), (3, 4), "drops a dimension of size 1"),
    "nonsense": (L.Linear("a"), (3,), "layer 'linear', Linear\\('a'\\), cannot be built"),
    "numbers as categories": (L.Embedding(3), (4,), r"takes categories: read them by ts.Input\('category'\)"),
    "rows mixed": (L.Function(lambda x: x.sum(0)), (4,), "does not keep rows apart"),
    "rows joined": (L.Function(lambda x: x.reshape(1, -1)), (4,), "the first dimension must stay the batch"),
    "rows counted": (L.Function(lambda x: x @ x.T), (4,), "does not keep rows apart"),
    "no tensor": (L.Function(lambda x: [x]), (4,), "gives list, expected one tensor"),
    "no module": (L.Custom(lambda shape: 3), (4,), "returned int, expected a torch.nn.Module"),
    "its own error": (L.Function(lambda x: {}[1]), (4,), "torch says, of 2 rows: 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS.values(), ids=list(MISFITS))
def test_errors_name_layer_and_shape_without_the_batch(case):
    layer, shape, message = case
    with pytest.raises(ts.ConfigError, match=message) as caught:
        ts.Chain([layer])({"tensor": shape}, 2)
    assert f"layer '{layer.name or type(layer).__name__.lower()}'" in str(caught.value)


def test_categories_without_an_embedding_say_what_to_put_first():
    mixed = Shapes({"number": (2,), "category": (3,)}, (2, 3, 4))
    with pytest.raises(ts.ConfigError, match=r"layer 'relu'.*begin with ts.layers.Linear"):
        ts.Chain([L.ReLU(), L.Head()])(mixed, 1)
    with pytest.raises(ts.ConfigError, match=r"ts.layers.Embedding\(8\)\(ts.Input\('category'\)\)"):
        ts.Graph(L.Linear(3)(ts.Input("category")))(mixed, None)
    with pytest.raises(ts.ConfigError, match="Did you mean 'number'"):
        ts.Graph(L.Linear(3)(ts.Input("numbers")))(mixed, None)
    with pytest.raises(ts.ConfigError, match=r"there are \['image', 'number'\]: name it"):
        ts.Chain([L.Linear(3)])({"number": (3,), "image": (1, 2, 2)}, None)


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_an_unknown_category_has_no_effect(kind):
    spec = layers.Spec((2,), torch.int64, (3, 4))
    module = getattr(L, kind)(5).build([spec], 1)
    out = module(torch.tensor([[0, 0], [1, 3]]))
    assert not out[0].any() and out[1].flatten().abs().min() > 0


def test_numbers_of_numpy_are_numbers():
    """A search hands them out; networks, their texts and their files are the same."""
    mine = ts.Chain(
        [L.Linear(np.int64(8)), L.Dropout(np.float64(0.5)), ts.Block(L.ReLU(), repeat=np.int64(2)), L.Head()]
    )
    plain = ts.Chain([L.Linear(8), L.Dropout(0.5), ts.Block(L.ReLU(), repeat=2), L.Head()])
    assert (mine, repr(mine)) == (plain, repr(plain))


@pytest.mark.parametrize("chain", [[L.Linear(0), L.Head()], [L.Reshape((1, 4)), L.Conv1d(0, 1), L.Flatten(), L.Head()]])
def test_a_layer_of_no_units_is_refused(chain):
    with pytest.raises(ts.ConfigError, match=r"gives rows of shape \(0.*hold no number: a size must be at least 1"):
        ts.Chain(chain)({"number": (4,)}, 2)
