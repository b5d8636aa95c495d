"""A grid over loss and learning rate on imbalanced data; the plot is what one would publish."""

import pathlib
import tempfile

import torchstrata as ts

task = ts.imbalanced_subsets(ts.load_task("breast_cancer"), minority=[0.1])[0.1]
learner = ts.TorchClassifier(
    ts.Linear(),
    batch_sampler=ts.StratifiedBatchSampler(3),
    valid=0.2,
    scoring="roc_auc",
    early_stopping=ts.EarlyStopping(5),
    max_epochs=30,
)
grid = ts.grid(learner, loss=["cross_entropy", "aum"], optimizer__lr=[1e-3, 1e-2, 1e-1])
result = ts.benchmark(task, {"linear": grid}, cv=3, scoring="roc_auc", progress=False)
print(result.aggregate("roc_auc").drop(columns=["task", "note"]).round(3).to_string(index=False))

folder = pathlib.Path(tempfile.mkdtemp(prefix="torchstrata-"))
result.plot("roc_auc", x="optimizer__lr", color="loss").save(folder / "scores.png")
result.save(folder)
again = ts.load_result(folder)
assert again.scores.equals(result.scores)
print("plot and tables:", folder)
