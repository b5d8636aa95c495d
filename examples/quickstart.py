"""Ten lines: an imbalanced task, four learners, one honest comparison."""

import torchstrata as ts

task = ts.imbalanced_subsets(ts.load_task("breast_cancer"), minority=[0.1])[0.1]
learners = {
    "random batches": ts.TorchClassifier(ts.MLP((50,)), max_epochs=20),
    "stratified, aum": ts.TorchClassifier(
        ts.MLP((50,)), loss="aum", batch_sampler=ts.StratifiedBatchSampler(3), max_epochs=20
    ),
}
result = ts.benchmark(task, learners, cv=5, scoring=["roc_auc", "average_precision"], progress=False)
print(result.leaderboard().drop(columns="task").to_string(index=False))
print(result.compare("roc_auc")[["learner", "difference", "low", "high", "p_value"]].to_string(index=False))
