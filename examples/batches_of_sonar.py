"""What stratified batches hold: 111 metals and 12 rocks of sonar, k = 1..7, with and without shuffling.

The tables are those of the blog post that introduced mlr3torchAUM's sampler. With ../shared/data or TORCHSTRATA_DATA
the rows are sonar's; without, two classes of breast cancer with the same counts stand in.
"""

import os
import pathlib

import torchstrata as ts

DATA = pathlib.Path(os.environ.get("TORCHSTRATA_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))

if (DATA / "sonar.csv").exists():
    sonar = ts.Task.from_csv(DATA / "sonar.csv", target="Class", stratum="Class")
    task = sonar.rows(range(207, 84, -1))
else:
    whole = ts.load_task("breast_cancer")
    label = whole.y.to_numpy()
    rows = [*(label == "benign").nonzero()[0][:111], *(label == "malignant").nonzero()[0][:12]]
    task = whole.rows(rows)
print(task.class_counts().to_dict())

for k in (1, 2, 3, 4, 5, 6, 7):
    table = ts.StratifiedBatchSampler(k, shuffle=False).composition(task.strata)
    print(f"\nmin_samples_per_stratum={k}: {len(table)} batches of {sorted(set(table['batch_size']))} rows")
    print(table.head(4).to_string())

sampler = ts.StratifiedBatchSampler(1, shuffle=True)
first, again, second = (sampler(len(task), task.strata, epoch=e, seed=0)[0] for e in (0, 0, 1))
print("\nfirst batch of epoch 0:", first.tolist())
print("the same seed and epoch:", again.tolist())
print("epoch 1:                ", second.tolist())
assert (first == again).all() and not (first == second).all()
