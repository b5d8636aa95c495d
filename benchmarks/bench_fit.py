"""One fit of MLP(100, 100) on the shape of sonar against the peers, interleaved in one run.

    python benchmarks/bench_fit.py [--repeats 15] [--threads 1]

Goals of issue 2: at least 2 times as fast as the idiomatic TensorDataset + DataLoader + AdamW loop, 3 times skorch.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from timing import interleave, markdown, ratios, versions
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import torchstrata as ts

EPOCHS, BATCH, HIDDEN = 10, 32, (100, 100)


def idiomatic(X: np.ndarray, y: np.ndarray) -> None:
    """The loop of the tutorials."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(X.shape[1], HIDDEN[0]), nn.ReLU(), nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Linear(HIDDEN[1], 1)
    )
    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(y)), batch_size=BATCH, shuffle=True)
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-3), nn.BCEWithLogitsLoss()
    for _ in range(EPOCHS):
        total = 0.0
        for xb, yb in loader:
            optimizer.zero_grad()
            value = loss(model(xb).squeeze(1), yb)
            value.backward()
            optimizer.step()
            total += value.item()


def ours(X: np.ndarray, y: np.ndarray) -> None:
    ts.TorchClassifier(
        ts.MLP(HIDDEN), batch_size=BATCH, max_epochs=EPOCHS, encoder=None, random_state=0, runtime="cpu"
    ).fit(X, y)


def sklearn_mlp(X: np.ndarray, y: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPClassifier(HIDDEN, batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=0).fit(X, y)


def skorch_net(X: np.ndarray, y: np.ndarray) -> None:
    from skorch import NeuralNetBinaryClassifier

    module = nn.Sequential(
        nn.Linear(X.shape[1], HIDDEN[0]), nn.ReLU(), nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Linear(HIDDEN[1], 1)
    )
    NeuralNetBinaryClassifier(
        module, max_epochs=EPOCHS, batch_size=BATCH, optimizer=torch.optim.AdamW, lr=1e-3, train_split=None, verbose=0,
        iterator_train__shuffle=True,
    ).fit(X, y)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(208, 60)).astype(np.float32), (np.arange(208) % 2).astype(np.float32)
    contestants = {"idiomatic loop": idiomatic, "torchstrata": ours, "MLPClassifier": sklearn_mlp}
    try:
        import skorch  # noqa: F401

        contestants["skorch"] = skorch_net
    except ImportError:
        print("skorch is not installed: pip install 'torchstrata[bench]'")
    seconds = interleave({n: (lambda f=f: f(X, y)) for n, f in contestants.items()}, repeats=args.repeats)
    found = ratios(seconds, "idiomatic loop")
    rows = [[name, f"{value:.2f}", f"{min(seconds[name]) * 1e3:.1f}"] for name, value in found.items()]
    print(f"208 x 60, MLP{HIDDEN}, batch {BATCH}, AdamW, {EPOCHS} epochs, {args.threads} thread(s)\n")
    print(markdown(["contestant", "times as fast as the idiomatic loop (median)", "best ms"], rows))
    if "skorch" in found:
        print(f"\nagainst skorch: {found['torchstrata'] / found['skorch']:.2f} times")
    print(f"\n{versions('torch', 'numpy', 'scikit-learn', 'skorch')}")


if __name__ == "__main__":
    main()
