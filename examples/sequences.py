"""Sequences of unequal length: a column of arrays, padded batch by batch, and networks that do not read the padding.

Each row is a series of two channels. Somewhere in it are a rise and a fall, and the class is which came first: a mean
over the steps cannot tell, a network that knows the order can.
"""

import numpy as np
import pandas as pd

import torchstrata as ts

L = ts.layers
rng = np.random.default_rng(0)


def series(rise_first):
    steps = rng.integers(8, 30)
    values = 0.3 * rng.normal(size=(steps, 2))
    first, second = np.sort(rng.choice(steps, 2, replace=False))
    values[first, 0] += 2 if rise_first else -2
    values[second, 0] += -2 if rise_first else 2
    return values


y = rng.integers(0, 2, 400)
frame = pd.DataFrame({"signal": [series(label) for label in y], "age": rng.normal(size=400), "y": y})
task = ts.Task(frame, target="y", name="rise or fall")
print(task)

# A column of arrays is an input under its name; PoolSteps makes one vector of the steps of a row.
signal = ts.Input("signal")
wide = L.Linear(16)(signal)
heads = {
    "mean of steps": L.PoolSteps("mean")(L.ReLU()(wide)),
    "convolution": L.PoolSteps("max")(L.ReLU()(L.StepConv(16, 5)(wide))),
    "GRU": L.PoolSteps("last")(L.GRU(16)(signal)),
    "attention": L.PoolSteps("mean")(
        L.TransformerEncoderLayer(4, dim_feedforward=32, dropout=0.0)(L.PositionalEncoding()(wide))
    ),
}
networks = {name: ts.Graph(L.Head()(L.Concat()(pooled, ts.Input("number")))) for name, pooled in heads.items()}
print(networks["GRU"].summary(ts.Encoder().fit(task.X).shapes_, 1).to_string(index=False))

# Rows of similar length meet in a batch, so that little is padded.
learners = {
    name: ts.TorchClassifier(
        network,
        max_epochs=20,
        batch_sampler=ts.LengthBucketBatchSampler(32, pool=4),
        optimizer=ts.optim.Adam(lr=1e-2),
    )
    for name, network in networks.items()
}
result = ts.benchmark(task, learners, cv=2, scoring="roc_auc", progress=False)
print(result.aggregate("roc_auc")[["learner", "mean"]].round(3).to_string(index=False))

# The prediction of a row does not depend on the rows beside it, which may be longer.
gru = learners["GRU"].fit(task)
alone, among = gru.predict_proba(task.X.iloc[[0]]), gru.predict_proba(task.X)
print("alone as among others:", np.array_equal(alone[0], among[0]))

# Tokens: vectors of whole numbers or of text get indices; what training did not hold is index 0.
words = np.array(["not", "good", "bad", "film", "plot", "very"])
texts = [rng.choice(words, rng.integers(3, 9)) for _ in range(300)]
labels = ["good" in text and "bad" not in text for text in texts]
network = ts.Graph(L.Head()(L.PoolSteps("max")(L.Embedding(8)(ts.Input("sequence")))))
learner = ts.TorchClassifier(network, max_epochs=20, random_state=0, optimizer=ts.optim.Adam(lr=1e-2)).fit(
    texts[:200], labels[:200]
)
print("texts:", learner.score(texts[200:], labels[200:]))
