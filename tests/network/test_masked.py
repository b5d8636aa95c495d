"""Padding is not read: outputs of a row are the same however far it is padded, and packed RNNs agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from torchstrata.network.masked import (
    Attention,
    Masked,
    Pool,
    Recurrent,
    Sinusoids,
    StepConvolution,
    is_padding,
    key_mask,
)

LENGTH = torch.tensor([5, 1, 3, 4])


def rows(steps=5, garbage=0.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, 4, generator=generator, dtype=torch.float64)
    x = torch.cat([x, x.new_zeros(4, steps - 5, 4)], 1)
    return torch.where(is_padding(LENGTH, steps)[:, :, None], garbage, x)


def modules():
    torch.manual_seed(0)
    settings = {"batch_first": True, "dtype": torch.float64}
    encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, **settings)
    return {
        "gru": Recurrent(nn.GRU(4, 3, **settings)),
        "lstm both ways": Recurrent(nn.LSTM(4, 3, 2, bidirectional=True, **settings)),
        "attention": Attention(nn.MultiheadAttention(4, 2, **settings)),
        "transformer": Masked(encoder),
        "convolution": StepConvolution(4, 3, 3, dtype=torch.float64),
        **{how: Pool(how) for how in ("mean", "max", "last")},
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(modules()))
def test_padding_is_not_read(name, training):
    module = modules()[name].train(training)
    with torch.no_grad():
        wanted = [module(rows()[i : i + 1, :n]) for i, n in enumerate(LENGTH)]  # each row alone, without padding
        for steps, garbage in ((5, 0.0), (9, 0.0), (9, 1e3)):
            out = module(rows(steps, garbage), lengths=[LENGTH])
            for i, row in enumerate(wanted):
                mine = out[i, : LENGTH[i]] if out.ndim == 3 else out[i]
                torch.testing.assert_close(mine, row[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gru", "lstm both ways", "convolution"])
def test_after_the_last_step_are_zeros(name):
    out = modules()[name](rows(9, 7.0), lengths=[LENGTH])
    assert not out[is_padding(LENGTH, 9)].any()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(nn.LSTM, {}), (nn.LSTM, {"proj_size": 2, "num_layers": 2}), (nn.GRU, {"bias": False}), (nn.RNN, {}),
     (nn.RNN, {"nonlinearity": "relu", "num_layers": 2})],
)  # fmt: skip
def test_both_ways_is_what_packing_gives(kind, settings):
    layer = kind(4, 3, bidirectional=True, batch_first=True, dtype=torch.float64, **settings)
    x = rows(7, 9.0)
    packed = pack_padded_sequence(x, LENGTH, batch_first=True, enforce_sorted=False)
    wanted, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=7)
    out = Recurrent(layer)(x, lengths=[LENGTH])
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-14)
    ours, theirs = (torch.autograd.grad(y.sin().sum(), list(layer.parameters())) for y in (out, wanted))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_last_bits_of_a_row_do_not_depend_on_its_neighbours():
    layer = Recurrent(nn.LSTM(4, 3, bidirectional=True, batch_first=True)).eval()
    x = rows(8).float()
    with torch.no_grad():
        among = layer(x, lengths=[LENGTH])
        shuffled = layer(x[[2, 0, 3, 1]], lengths=[LENGTH[[2, 0, 3, 1]]])
    assert torch.equal(among[[2, 0, 3, 1]], shuffled)


def test_dropout_between_layers_draws_in_training_only():
    layer = Recurrent(nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True, dropout=0.5, dtype=torch.float64))
    a, b = (layer.train()(rows(), lengths=[LENGTH]) for _ in range(2))
    assert not torch.equal(a, b)
    a, b = (layer.eval()(rows(), lengths=[LENGTH]) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", list(modules()))
def test_a_row_without_steps_gives_numbers(name):
    out = modules()[name].eval()(rows(), lengths=[torch.tensor([0, 1, 3, 0])])
    assert torch.isfinite(out).all()
    if out.ndim == 2:
        assert not out[[0, 3]].any()


def test_pooling():
    x, length = torch.tensor([[[-1.0], [-3.0], [9.0]]]), [torch.tensor([2])]
    found = {how: (Pool(how)(x, lengths=length).item(), Pool(how)(x).item()) for how in ("mean", "max", "last")}
    assert found == {"mean": (-2.0, pytest.approx(5 / 3)), "max": (-1.0, 9.0), "last": (-3.0, 9.0)}


def test_attention_to_others_masks_the_others():
    layer = modules()["attention"].eval()
    few = torch.randn(4, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            layer(few, rows(), lengths=[None, LENGTH]), layer(few, rows(8, 5.0), lengths=[None, LENGTH])
        )
    decoder = Masked(nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, batch_first=True, dtype=torch.float64)).eval()
    out, more = (decoder(few, rows(n, n - 5.0), lengths=[None, LENGTH]) for n in (5, 8))
    torch.testing.assert_close(out, more)


def test_masks():
    assert key_mask(None, 3) is None
    assert key_mask(torch.tensor([0, 2]), 3).tolist() == [[False, True, True], [False, False, True]]
    assert is_padding(torch.tensor([0, 2]), 3).tolist() == [[True] * 3, [False, False, True]]


@pytest.mark.parametrize("features", [1, 2, 5])
def test_sinusoids_tell_positions_apart(features):
    waves = Sinusoids()(torch.zeros(2, 50, features, dtype=torch.float64))
    assert waves.shape == (2, 50, features) and torch.equal(waves[0], waves[1])
    assert len(torch.unique(waves[0], dim=0)) == 50
    assert torch.equal(Sinusoids()(torch.zeros(1, 7, features, dtype=torch.float64))[0], waves[0, :7])
