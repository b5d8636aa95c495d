"""Networks of several members: the mean prediction, and a loss of each by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.network.members import LossByMember, mean_of_members, members_of

K = 5


@pytest.fixture
def scores():
    return 3 * torch.randn(20, K, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_softmax_gives_the_mean_probabilities(scores):
    expected = scores.softmax(-1).mean(1)
    out = mean_of_members(scores, "softmax")
    torch.testing.assert_close(out.exp(), expected)
    torch.testing.assert_close(out.softmax(-1), expected)


def test_a_logit_gives_the_mean_probability(scores):
    for link in ("logit", "softmax"):  # one output is a logit by either name
        torch.testing.assert_close(mean_of_members(scores[..., :1], link).sigmoid(), scores[..., :1].sigmoid().mean(1))


def test_counts_and_numbers(scores):
    torch.testing.assert_close(mean_of_members(scores, "log").exp(), scores.exp().mean(1))
    for link in ("identity", "none"):
        torch.testing.assert_close(mean_of_members(scores, link), scores.mean(1))


def test_each_head_has_a_mean_of_its_own(scores):
    """A prediction of TabM is the mean of the members' probabilities, for a head of classes too."""
    both = mean_of_members(torch.cat([scores, scores[..., :1], scores[..., 1:2]], -1),
                           ((3, "softmax"), (1, "logit"), (1, "identity")))  # fmt: skip
    torch.testing.assert_close(both[:, :3].softmax(-1), scores.softmax(-1).mean(1))
    torch.testing.assert_close(both[:, 3].sigmoid(), scores[..., 0].sigmoid().mean(1))
    torch.testing.assert_close(both[:, 4], scores[..., 1].mean(1))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_heads_of_classes_predict_mean_probabilities(n_classes):
    X = torch.randn(40, 3).numpy()
    Y = pd.DataFrame({"size": X[:, 0], "kind": np.arange(40) % n_classes})
    given = {"optimizer": ts.optim.SGD(lr=0.1), "max_epochs": 2, "encoder": None, "random_state": 0}
    learner = ts.TorchRegressor(several, loss={"size": "mse", "kind": "cross_entropy"}, **given).fit(X, Y)
    with torch.no_grad():
        out = learner.network_.train()(torch.tensor(X))[:, :, 1:]
    expected = (out.softmax(-1) if n_classes > 2 else torch.cat([(-out).sigmoid(), out.sigmoid()], -1)).mean(1)
    learner.network_.eval()
    np.testing.assert_allclose(learner.head("kind").predict_proba(X), expected.numpy(), rtol=1e-5, atol=1e-6)
    scorer = ts.head_scorer("kind", "neg_log_loss")  # while it trains, the same mean is scored
    given |= {"optimizer": ts.optim.SGD(lr=1e-12), "batch_size": 40, "max_epochs": 1, "scoring": [scorer]}
    learner = ts.TorchRegressor(several, loss={"size": "mse", "kind": "cross_entropy"}, **given).fit(X, Y)
    assert learner.history_["train_kind_neg_log_loss"][0] == pytest.approx(scorer(learner, X, Y), rel=1e-5)


def test_extreme_scores_stay_finite():
    far = torch.tensor([[[1e4], [1e4]], [[-1e4], [-1e4]], [[1e4], [-1e4]]])
    torch.testing.assert_close(mean_of_members(far, "logit").sigmoid(), torch.tensor([[1.0], [0.0], [0.5]]))
    both = torch.cat([far, -far], -1)
    assert torch.isfinite(mean_of_members(both, "softmax")).all()


LOSSES = [
    ("cross_entropy", 3, lambda n: torch.arange(n) % 3),
    ("cross_entropy", 1, lambda n: (torch.arange(n) % 2).double()),
    ("focal", 1, lambda n: (torch.arange(n) % 2).double()),
    ("mse", 1, lambda n: torch.arange(n).double() / n),
    ("mse", 2, lambda n: torch.arange(2 * n).double().view(n, 2) / n),
    ("aum", 1, lambda n: (torch.arange(n) % 2).double()),
    ("pairwise_squared_hinge", 1, lambda n: (torch.arange(n) % 2).double()),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "n_outputs", "target"), LOSSES)
def test_the_loss_is_the_mean_of_the_members_losses(scores, name, n_outputs, target, weighted):
    loss, output, y = getattr(ts.losses, name), scores[..., :n_outputs], target(len(scores))
    w = torch.linspace(0, 2, len(scores), dtype=torch.float64) if weighted else None
    expected = torch.stack([loss(output[:, k], y, w) for k in range(K)]).mean()
    torch.testing.assert_close(LossByMember(loss, K)(output, y, w), expected)
    torch.testing.assert_close(LossByMember(loss, K)(output[:, 0], y, w), loss(output[:, 0], y, w))


def test_another_number_of_members_is_refused(scores):
    with pytest.raises(ConfigError, match="has 4 members and returned outputs of shape"):
        LossByMember(ts.losses.mse, 4)(scores[..., :1], torch.zeros(20))


def test_what_is_no_number_of_members():
    class Mine(nn.Module):
        def __init__(self, members):
            super().__init__()
            self.members = members

    found = [members_of(Mine(given)) for given in (3, True, nn.ModuleList(), "many", 0)]
    assert found == [3, 0, 0, 0, 0]
    assert members_of(nn.Linear(1, 1)) == 0


class Several(nn.Module):
    """K linear networks; in evaluation mode their mean prediction."""

    members = K

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.link = n_outputs.link
        self.weight = nn.Parameter(torch.randn(K, n_inputs, n_outputs))

    def forward(self, x):
        out = torch.einsum("np,kpo->nko", x, self.weight)
        return out if self.training else mean_of_members(out, self.link)


def several(shapes, n_outputs):
    return Several(shapes["number"][0], n_outputs)


class Alone(Several):
    members = 0

    def forward(self, x):
        return mean_of_members(torch.einsum("np,kpo->nko", x, self.weight), self.link)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_members_train_each_by_itself(n_classes):
    """As if each were a network of its own: gradients do not mix."""
    X, y = torch.randn(60, 4).numpy(), torch.arange(60).numpy() % n_classes
    given = {"optimizer": ts.optim.SGD(lr=0.5), "max_epochs": 3, "batch_size": 60, "encoder": None, "random_state": 3}
    seen = []

    class Watch(ts.Callback):
        def on_batch_end(self, state):
            seen.append(tuple(state.output.shape))

    whole = ts.TorchClassifier(several, **given, callbacks=(Watch(),), scoring=("accuracy",)).fit(X, y)
    start = ts.TorchClassifier(several, **{**given, "max_epochs": 0}).fit(X, y).network_.weight.detach()
    n_outputs = whole.network_.weight.shape[-1]
    assert set(seen) == {(60, n_outputs)}
    assert whole.runtime_.reasons["steps"][0] == "autograd"
    assert whole.history_["train_accuracy"].between(0, 1).all()
    for k in range(K):

        def one(shapes, n_outputs, k=k):
            layer = nn.Linear(4, n_outputs, bias=False)
            layer.weight.data = start[k].t().clone()
            return layer

        # the loss is the mean over the members: each gets a share of the gradient
        alone = ts.TorchClassifier(one, **{**given, "optimizer": ts.optim.SGD(lr=0.5 / K)}).fit(X, y)
        torch.testing.assert_close(whole.network_.weight[k], alone.network_.weight.t(), rtol=1e-5, atol=1e-6)


def test_scores_of_training_rows_are_those_of_the_mean_prediction():
    X, y = torch.randn(50, 3).numpy(), torch.arange(50).numpy() % 2
    given = {"max_epochs": 1, "batch_size": 50, "encoder": None, "random_state": 0, "scoring": ("neg_log_loss",)}
    given["optimizer"] = ts.optim.SGD(lr=1e-12)
    scores = [
        ts.TorchClassifier(lambda s, n, kind=kind: kind(s["number"][0], n), **given).fit(X, y).history_
        for kind in (Several, Alone)
    ]
    assert scores[0]["train_neg_log_loss"][0] == pytest.approx(scores[1]["train_neg_log_loss"][0], rel=1e-5)
    assert scores[0]["train_loss"][0] > scores[1]["train_loss"][0]  # the mean loss is above the loss of the mean
