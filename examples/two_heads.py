"""Several inputs and several outputs: a table joined with images, and a network that learns two targets at once."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

import torchstrata as ts

L = ts.layers
rng = np.random.default_rng(0)
digits = load_digits()
images = digits.images[:, None].astype(np.float32) / 16  # (1797, 1, 8, 8)

# Several inputs: a dict of named arrays, or a task with a column of arrays. Here the last digit that was drawn, a
# category, and the ink in each quarter, numbers, stand beside the image.
quarters = images[:, 0].reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)
before = np.char.add("digit ", np.roll(digits.target, 1).astype(str))
X = {"number": quarters, "before": before, "image": images}

look = ts.Chain([L.Conv2d(8, 3, padding=1), L.ReLU(), L.MaxPool2d(2), L.Flatten()], name="look")(ts.Input("image"))
table = ts.Chain([L.Linear(8), L.ReLU()], name="table")(ts.Input("number"))
known = L.Flatten()(L.Embedding(2)(ts.Input("category")))
both = L.Concat(name="both")(look, table, known)

task = ts.Task({**X, "digit": digits.target}, target="digit", name="digits")
print(task)
learner = ts.TorchClassifier(
    ts.Graph(L.Head()(both)), max_epochs=6, valid=0.2, scoring="accuracy", early_stopping=ts.EarlyStopping(3)
)
result = ts.benchmark(task, {"image and table": learner}, cv=2, scoring="accuracy", progress=False)
print(result.aggregate("accuracy")[["learner", "mean"]].round(3).to_string(index=False))

# Several outputs: which digit it is, and how much ink there is; each with a loss and a weight. The trunk is shared,
# the heads are their own.
ink = 255 * images.mean(axis=(1, 2, 3)) + rng.normal(size=len(images))
targets = pd.DataFrame({"digit": digits.target, "ink": ink})
trunk = ts.Chain([L.Linear(64), L.ReLU()], name="trunk")(look)
network = ts.Graph(
    {"digit": L.Head()(trunk), "ink": L.Head()(ts.Chain([L.Linear(16), L.ReLU()], name="for_ink")(trunk))}
)
loss = ts.Heads({"digit": "cross_entropy", "ink": "huber"}, weights={"ink": 0.5})
learner = ts.TorchRegressor(
    network,
    loss=loss,
    max_epochs=10,
    valid=0.2,
    scoring=[ts.head_scorer("digit", "accuracy"), ts.head_scorer("ink", "r2")],
    random_state=0,
)
learner.fit({"image": images[:1400]}, targets[:1400])
columns = ["epoch", "valid_loss", "valid_digit_accuracy", "valid_ink_r2"]
print(learner.history_[columns].tail(3).round(3).to_string(index=False))
test = {"image": images[1400:]}
print("first rows:", learner.predict(test)[:2].round(1).tolist())
print("digit:", round(learner.head("digit").score(test, targets["digit"][1400:]), 3), end=", ")
print("ink: R2", round(learner.head("ink").score(test, targets["ink"][1400:]), 3))
print("probabilities of the first row:", learner.head("digit").predict_proba(test)[0].round(2).tolist())
