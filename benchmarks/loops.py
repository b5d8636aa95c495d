"""Training loops written by hand, that the benchmarks compare with: numpy, and torch in several degrees of care.

All fit the same network to the same shape of data: ReLU, dropout, binary cross-entropy of one logit, AdamW.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is fitted: rows, columns, widths of hidden layers, rows in a batch. By default that of sonar."""

    n: int = 208
    p: int = 60
    hidden: tuple[int, ...] = (100, 100)
    batch: int = 32

    def __str__(self) -> str:
        return f"{self.n} x {self.p}, MLP{self.hidden}, batch {self.batch}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers, input and output too."""
        return (self.p, *self.hidden, 1)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.n // self.batch)

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw X and y: numbers, and classes 0 and 1 that depend on the first column."""
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(self.n, self.p)).astype(np.float32)
        return X, (X[:, 0] + rng.normal(size=self.n) > 0).astype(np.float32)

    def parts(self) -> Iterator[tuple[int, int, slice]]:
        """Inputs, outputs and place among the weights of each layer."""
        start = 0
        for inputs, outputs in itertools.pairwise(self.sizes):
            yield inputs, outputs, slice(start, start := start + (inputs + 1) * outputs)


def draw_weights(shape: Shape, models: int, seed: int) -> np.ndarray:
    """Draw initial weights as torch's Linear does: (models, parameters), each layer (inputs + 1, outputs)."""
    rng, drawn = np.random.default_rng(seed), []
    for inputs, outputs, _ in shape.parts():
        drawn.append(rng.uniform(-1, 1, (models, (inputs + 1) * outputs)) / np.sqrt(inputs))
    return np.concatenate(drawn, 1).astype(np.float32)


def draw_orders(shape: Shape, models: int, epochs: int, seed: int) -> np.ndarray:
    """Draw the rows of each epoch: int32 of shape (models, epochs, n)."""
    rows = np.tile(np.arange(shape.n, dtype=np.int32), (models, epochs, 1))
    return np.random.default_rng(seed).permuted(rows, axis=2)


def module(shape: Shape, dropout: float = 0.0) -> nn.Sequential:
    """Return the network as one writes it in torch."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(shape.sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(shape.sizes[-2], 1))


def numpy_steps(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, order: np.ndarray, shape: Shape, *, lr: float = 1e-3,
    dropout: float = 0.0, weight_decay: float = 1e-2, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Train one network by forward, backward and AdamW written out in numpy; changes and returns the weights."""
    rng, step = np.random.Generator(np.random.SFC64(seed)), 0
    grad, m, v = (np.zeros_like(weights) for _ in range(3))
    layers = [(weights[s].reshape(i + 1, o), grad[s].reshape(i + 1, o)) for i, o, s in shape.parts()]
    X = X.astype(weights.dtype)
    for rows in order:
        for index in np.split(rows, range(shape.batch, shape.n, shape.batch)):
            _numpy_gradient(layers, X[index], y[index], rng, dropout)
            step += 1
            m += 0.1 * (grad - m)
            v += 0.001 * (grad * grad - v)
            weights *= 1 - lr * weight_decay
            scale = np.sqrt(v)
            scale /= np.sqrt(1 - 0.999**step)
            scale += 1e-8
            np.divide(m, scale, out=scale)
            scale *= lr / (1 - 0.9**step)
            weights -= scale
    return weights


def _numpy_gradient(layers: list, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, dropout: float) -> None:
    inputs, below = [x], int(dropout * 65536)
    for w, _ in layers[:-1]:
        x = x @ w[:-1]
        x += w[-1]
        np.maximum(x, 0, out=x)
        if below:
            bits = np.frombuffer(rng.bytes(2 * x.size), np.uint16).reshape(x.shape)
            x *= (bits >= below) * x.dtype.type(65536 / (65536 - below))
        inputs.append(x)
    w = layers[-1][0]
    d = (1 / (1 + np.exp(-(x @ w[:-1] + w[-1]))) - y[:, None]) / x.dtype.type(len(y))
    for i in range(len(layers) - 1, -1, -1):
        (w, g), x = layers[i], inputs[i]
        np.matmul(x.T, d, out=g[:-1])
        np.sum(d, 0, out=g[-1])
        if i:
            d = d @ w[:-1].T
            d *= (x > 0) * x.dtype.type(65536 / (65536 - below))


def idiomatic(
    X: np.ndarray, y: np.ndarray, shape: Shape, *, epochs: int, dropout: float = 0.0, optimizer: str = "adamw",
    lr: float = 1e-3, seed: int = 0,
) -> nn.Module:  # fmt: skip
    """Fit by the loop of the tutorials: TensorDataset, DataLoader, torch.optim."""
    torch.manual_seed(seed)
    model = module(shape, dropout)
    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(y)), batch_size=shape.batch, shuffle=True)
    make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    steps, loss = make(model.parameters(), lr=lr), nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        total = 0.0
        for xb, yb in loader:
            steps.zero_grad()
            value = loss(model(xb).squeeze(1), yb)
            value.backward()
            steps.step()
            total += value.item()
    return model


def lean(X: np.ndarray, y: np.ndarray, shape: Shape, *, epochs: int, dropout: float = 0.0) -> list[Tensor]:
    """Fit by a careful eager loop: functional forward, fused AdamW, rows gathered once an epoch, no wait in a step."""
    model, x, target = module(shape, dropout), torch.from_numpy(X), torch.from_numpy(y)[:, None]
    parameters = list(model.parameters())
    pairs, steps = (
        list(zip(parameters[::2], parameters[1::2], strict=True)),
        torch.optim.AdamW(parameters, lr=1e-3, fused=True),
    )
    for _ in range(epochs):
        order, losses = torch.randperm(len(x)), []
        for h, yb in zip(x[order].split(shape.batch), target[order].split(shape.batch), strict=True):
            for w, b in pairs[:-1]:
                h = F.relu(F.linear(h, w, b))
                h = F.dropout(h, dropout) if dropout else h
            value = F.binary_cross_entropy_with_logits(F.linear(h, *pairs[-1]), yb)
            value.backward()
            steps.step()
            for p in parameters:
                p.grad = None
            losses.append(value.detach())
        torch.stack(losses).tolist()
    return parameters


def batched(
    X: np.ndarray, y: np.ndarray, shape: Shape, *, models: int, epochs: int, dropout: float = 0.0
) -> list[Tensor]:
    """Fit K networks by batched products (baddbmm) under autograd."""
    weights = torch.from_numpy(draw_weights(shape, models, 0))
    parameters = []
    for inputs, outputs, place in shape.parts():
        both = weights[:, place].view(models, inputs + 1, outputs)
        parameters += [both[:, :-1].clone().requires_grad_(), both[:, -1:].clone().requires_grad_()]
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))

    def losses(xb: Tensor, yb: Tensor) -> Tensor:
        for w, b in pairs[:-1]:
            xb = F.dropout(F.relu(torch.baddbmm(b, xb, w)), dropout)
        z = torch.baddbmm(pairs[-1][1], xb, pairs[-1][0]).squeeze(2)
        return F.binary_cross_entropy_with_logits(z, yb, reduction="none").mean(1)

    return _stacked_steps(parameters, losses, X, y, shape, models, epochs)


def vmapped(
    X: np.ndarray, y: np.ndarray, shape: Shape, *, models: int, epochs: int, dropout: float = 0.0
) -> list[Tensor]:
    """Fit K networks by torch.func.vmap of functional_call, as torch's tutorial on ensembles."""
    from torch.func import functional_call, stack_module_state, vmap

    networks = [module(shape, dropout) for _ in range(models)]
    parameters, _ = stack_module_state(networks)
    base = networks[0].to("meta")

    def loss(p: dict[str, Tensor], xb: Tensor, yb: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(functional_call(base, p, (xb,)).squeeze(1), yb)

    every = vmap(loss, randomness="different")
    return _stacked_steps(
        list(parameters.values()), lambda xb, yb: every(parameters, xb, yb), X, y, shape, models, epochs
    )


def _stacked_steps(parameters, losses, X, y, shape: Shape, models: int, epochs: int) -> list[Tensor]:
    x, target = torch.from_numpy(X), torch.from_numpy(y)
    steps = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    for _ in range(epochs):
        order = torch.argsort(torch.rand(models, len(x)), 1)
        for index in order.split(shape.batch, 1):
            losses(x[index], target[index]).sum().backward()
            steps.step()
            for p in parameters:
                p.grad = None
    return parameters
