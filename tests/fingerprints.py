"""Twenty configurations, and what comes of them to the last bit: a program for processes with another environment.

``python fingerprints.py NAME ...`` fits these, or all, and writes JSON: name -> sha256 of weights, history and
predictions, and the predictions themselves.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from torch import nn

import torchstrata as ts
from torchstrata import layers as L

SMALL = {
    "Linear": ts.Linear(),
    "MLP": ts.MLP((8, 6)),
    "ResNet": ts.ResNet(1, d_block=8),
    "FTTransformer": ts.FTTransformer(1, d_block=8, n_heads=2),
    "TabM": ts.TabM(1, d_block=8, k=3),
    "RealMLP": ts.RealMLP((8,), n_frequencies=4),
}
# the two last take steps so large that all threads would share them, were they not pinned
THREADS = ["MLP", "dropout", "FTTransformer", "aum", "wide, one thread", "wide, two threads"]


def make_frame(n: int = 120, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Make rows with numbers, a gap and texts, labels that depend on them, and numbers."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({f"x{j}": rng.normal(size=n) for j in range(4)})
    frame["city"] = rng.choice(["Oslo", "Rome", "Lima"], n)
    score = frame["x0"] + (frame["city"] == "Rome") + rng.normal(scale=0.5, size=n)
    frame.loc[3, "x1"] = np.nan
    return frame, np.where(score > 0.8, "yes", "no"), score.to_numpy()


def mlp(**settings):
    return ts.TorchClassifier(**{"network": ts.MLP((8,)), "max_epochs": 5, "batch_size": 16, **settings})


def module(shapes, n_outputs):
    """A network of one's own: written-out steps are not for it."""
    return nn.Sequential(nn.Linear(sum(shapes["number"]), 6), nn.GELU(), nn.Dropout(0.2), nn.Linear(6, n_outputs))


class NumbersOnly(ClassifierMixin, BaseEstimator):
    """An estimator of scikit-learn's on the numbers of a table."""

    def __init__(self, learner):
        self.learner = learner

    def fit(self, X, y):
        self.learner_ = clone(self.learner).fit(X[["x0", "x2"]], y)
        self.classes_ = self.learner_.classes_
        return self

    def predict(self, X):
        return self.learner_.predict(X[["x0", "x2"]])

    def predict_proba(self, X):
        return self.learner_.predict_proba(X[["x0", "x2"]])


def configurations() -> dict:
    chain = ts.Chain([L.Linear(8, name="stem"), L.BatchNorm1d(), L.ReLU(), L.Dropout(0.3), L.Head()])
    wide = {"network": ts.MLP((600, 600)), "batch_size": 60, "max_epochs": 2}
    stopping = {"valid": 0.25, "early_stopping": ts.EarlyStopping(2), "max_epochs": 20, "scoring": "roc_auc"}
    made = {
        **{name: mlp(network=network) for name, network in SMALL.items()},
        "dropout": mlp(network=ts.MLP((8,), dropout=0.5)),
        "norms": mlp(network=ts.MLP((8, 6), norm="batch", activation="gelu")),
        "aum": mlp(loss="aum", batch_sampler=ts.StratifiedBatchSampler(2)),
        "balanced": mlp(batch_sampler=ts.BalancedBatchSampler(16)),
        "stops early": mlp(**stopping),
        "schedule": mlp(optimizer=ts.optim.SGD(lr=0.1, momentum=0.9), schedule=ts.schedules.StepLR(2)),
        "weighted": mlp(class_weight="balanced", loss="focal"),
        "float64": mlp(runtime=ts.Runtime(precision="float64")),
        "chain": mlp(network=chain),
        "module": mlp(network=module),
        "recipe": ts.TorchClassifier(**ts.recipes.realmlp("classification")).set_params(
            network__hidden=(8,), max_epochs=5
        ),
        "numbers": ts.TorchRegressor(ts.TabM(1, d_block=8, k=3), max_epochs=5),
        "wide, one thread": mlp(runtime=ts.Runtime(threads=1), **wide),
        "wide, two threads": mlp(runtime=ts.Runtime(threads=2), **wide),
    }
    return {name: learner.set_params(random_state=0) for name, learner in made.items()}


def steady() -> dict:
    """Two fits of ResNet in which rounding stays rounding.

    A bias before a BatchNorm changes nothing, so its gradient is the rounding error of a zero. AdamW divides it by its
    own size, and makes a step as large as the learning rate of it, in a direction that the machine decides; predictions
    follow, as the running means lag behind. SGD's step stays as small as the error; in float64 it is below AdamW's eps.
    """
    resnet = {"network": SMALL["ResNet"], "random_state": 0}
    return {
        "ResNet, SGD": mlp(optimizer=ts.optim.SGD(lr=0.05), **resnet),
        "ResNet, float64": mlp(runtime=ts.Runtime(precision="float64"), **resnet),
    }


def fitted(name: str, learner):
    frame, labels, score = make_frame()
    y = score if name == "numbers" else labels
    if name == "module":
        frame = frame.drop(columns="city")
    stratum = {"stratum": labels} if name in ("aum", "balanced") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of losses that learn nothing from some batch
        learner.fit(frame[:100], y[:100], **{key: value[:100] for key, value in stratum.items()})
    return learner, frame[100:]


def digest(learner, X) -> str:
    """Return the sha256 of weights, history and outputs."""
    made = hashlib.sha256()
    for key, value in learner.network_.state_dict().items():
        made.update(key.encode() + value.detach().cpu().numpy().tobytes())
    made.update(learner.history_.drop(columns="seconds").to_csv(float_format=float.hex).encode())
    made.update(np.ascontiguousarray(outputs(learner, X)).tobytes())
    return made.hexdigest()


def outputs(learner, X) -> np.ndarray:
    return learner.predict_proba(X) if hasattr(learner, "predict_proba") else learner.predict(X)


def main(names: list[str]) -> None:
    found = {}
    for name, learner in (configurations() | (steady() if names else {})).items():
        if not names or name in names:
            learner, X = fitted(name, learner)
            found[name] = [digest(learner, X), outputs(learner, X).tolist()]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
