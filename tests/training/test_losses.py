"""What each loss computes, against its definition; the contract is in tests/testing/test_losses.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.metrics import mean_poisson_deviance
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.errors import DataError
from torchstrata.testing.losses import make_case
from torchstrata.training.loss import LOSSES, count_outputs, known_losses
from torchstrata.training.losses import cross_entropy, huber, mae, mse

N = 12


def make(loss, shape, seed=0):
    return make_case(loss, shape, seed)


def test_what_stands_in_the_module_is_what_is_known_by_name():
    assert all(getattr(ts.losses, name) is loss for name, loss in known_losses().items())
    assert set(LOSSES) >= {"cross_entropy", "mse", "mae", "huber", "aum"}


# --- values, each against its definition


def weighted(values, weight):
    return float(np.average(values, weights=weight))


def test_cross_entropy_of_one_logit():
    output, target, weight = make(cross_entropy, (N, 1))
    p = 1 / (1 + np.exp(-output.numpy()[:, 0]))
    y, w = target.numpy(), weight.numpy()
    rows = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert cross_entropy(output, target).item() == pytest.approx(rows.mean(), rel=1e-12)
    assert cross_entropy(output, target, weight).item() == pytest.approx(weighted(rows, w), rel=1e-12)


def test_cross_entropy_of_classes():
    output, target, weight = make(cross_entropy, (N, 3))
    rows = F.cross_entropy(output, target, reduction="none").numpy()
    assert cross_entropy(output, target).item() == F.cross_entropy(output, target).item()
    assert cross_entropy(output, target, weight).item() == pytest.approx(weighted(rows, weight.numpy()), rel=1e-12)


def test_label_smoothing_of_one_logit_is_that_of_two_classes():
    output, target, weight = make(cross_entropy, (N, 1))
    two = torch.cat([torch.zeros_like(output), output], 1)
    for w in (None, weight):
        one = cross_entropy(output, target, w, label_smoothing=0.3)
        assert one.item() == pytest.approx(cross_entropy(two, target, w, label_smoothing=0.3).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (mse, lambda r: r**2),
        (mae, np.abs),
        (huber(delta=0.7), lambda r: np.where(np.abs(r) < 0.7, r**2 / 2, 0.7 * (np.abs(r) - 0.35))),
    ],
    ids=["mse", "mae", "huber"],
)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 2)])
def test_regression_losses(loss, rows, shape):
    output, target, weight = make(loss, shape)
    each = rows((output - target).numpy()).reshape(N, -1).mean(1)
    assert loss(output, target).item() == pytest.approx(each.mean(), rel=1e-12)
    assert loss(output, target, weight).item() == pytest.approx(weighted(each, weight.numpy()), rel=1e-12)


def test_a_column_and_a_vector_are_the_same_target():
    output, target, _ = make(mse, (N, 1))
    assert mse(output, target.flatten()).item() == mse(output, target).item() == mse(output.flatten(), target).item()
    logits, labels, _ = make(cross_entropy, (N, 1))
    assert cross_entropy(logits, labels[:, None]).item() == cross_entropy(logits, labels).item()


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_is_the_pinball_loss_and_its_minimum_is_the_quantile(q):
    output, target, weight = make(ts.losses.quantile, (N,))
    r = (target - output).numpy()
    each = np.where(r > 0, q * r, (q - 1) * r)
    assert ts.losses.quantile(output, target, weight, quantile=q).item() == pytest.approx(
        weighted(each, weight.numpy()), rel=1e-12
    )
    y = torch.arange(101, dtype=torch.float64)
    values = [ts.losses.quantile(torch.full_like(y, c), y, quantile=q).item() for c in y.tolist()]
    assert int(np.argmin(values)) == round(100 * q)


def test_poisson_is_half_the_deviance():
    output, target, weight = make(ts.losses.poisson, (N, 2))
    halves = [mean_poisson_deviance(target[:, i], output[:, i].exp(), sample_weight=weight) / 2 for i in range(2)]
    assert ts.losses.poisson(output, target, weight).item() == pytest.approx(np.mean(halves), rel=1e-12)
    assert ts.losses.poisson(torch.tensor([3.0]).log(), torch.tensor([3.0])).item() == pytest.approx(0, abs=1e-6)
    likelihood = F.poisson_nll_loss(output, target)
    leaf = output.clone().requires_grad_()
    mine = torch.autograd.grad(ts.losses.poisson(leaf, target), leaf)[0]
    theirs = torch.autograd.grad(F.poisson_nll_loss(leaf, target), leaf)[0]
    torch.testing.assert_close(mine, theirs)
    assert likelihood.item() != pytest.approx(ts.losses.poisson(output, target).item())


def test_gaussian_nll_is_the_log_density():
    output, target, weight = make(ts.losses.gaussian_nll, (N, 2))
    density = stats.norm(output[:, 0].numpy(), np.exp(output[:, 1].numpy() / 2)).logpdf(target.numpy())
    expected = weighted(-density, weight.numpy()) - np.log(2 * np.pi) / 2
    assert ts.losses.gaussian_nll(output, target, weight, eps=0.0).item() == pytest.approx(expected, rel=1e-12)
    assert count_outputs(ts.losses.gaussian_nll.traits, 0, 1) == 2
    with pytest.raises(DataError, match="for one target; y has 3 columns"):
        count_outputs(ts.losses.gaussian_nll.traits, 0, 3)


def test_a_regressor_learns_mean_and_variance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1))
    y = 100 + 30 * x[:, 0] + rng.normal(size=400) * np.where(x[:, 0] > 0, 20, 2)
    learner = ts.TorchRegressor(ts.Linear(), loss="gaussian_nll", optimizer=ts.optim.Adam(lr=0.05), max_epochs=60,
                                random_state=0).fit(x, y)  # fmt: skip
    assert learner.predict(x).shape == (400,)
    assert np.corrcoef(learner.predict(x), y)[0, 1] > 0.8
    ends = torch.from_numpy(learner.encoder_.transform(np.array([[-1.5], [1.5]]))["number"]).float()
    log_variance = learner.network_(ends)[:, 1]
    assert log_variance[1] > log_variance[0] + 1


@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_auc_margin_is_the_min_max_of_the_paper_at_its_saddle(margin):
    scores, labels, weight = make(ts.losses.auc_margin, (N,))
    s, y, w = scores.numpy(), labels.numpy(), weight.numpy()
    p = w[y == 1].sum() / w.sum()

    def paper(a, b, alpha):
        mean = lambda each: np.average(each, weights=w)  # noqa: E731
        squares = (1 - p) * mean((s - a) ** 2 * (y == 1)) + p * mean((s - b) ** 2 * (y == 0))
        lead = p * (1 - p) * margin + mean(p * s * (y == 0) - (1 - p) * s * (y == 1))
        return squares + 2 * alpha * lead - p * (1 - p) * alpha**2

    best_alpha = lambda a, b: max(paper(a, b, alpha) for alpha in np.linspace(0, 4, 401))  # noqa: E731
    places = optimize.minimize(lambda ab: best_alpha(*ab), [0.0, 0.0], method="Nelder-Mead").fun
    expected = ts.losses.auc_margin(scores, labels, weight, margin=margin).item()
    assert places / (p * (1 - p)) == pytest.approx(expected, rel=1e-3)


def test_auc_margin_is_zero_only_where_classes_are_two_points_a_margin_apart():
    y = torch.tensor([0, 1, 0, 1])
    assert ts.losses.auc_margin(torch.tensor([0.0, 1.0, 0.0, 1.0]), y).item() == 0
    assert ts.losses.auc_margin(torch.tensor([0.0, 5.0, 0.0, 5.0]), y).item() == 0
    assert ts.losses.auc_margin(torch.tensor([0.0, 1.0, 0.0, 3.0]), y).item() == 1
    assert ts.losses.auc_margin(torch.tensor([0.0, 0.0, 0.0, 0.0]), y).item() == 1
