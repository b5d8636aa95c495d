"""A benchmark is killed in the middle, by SIGKILL, and goes on where it was."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torchstrata as ts


def study(store: str) -> ts.BenchmarkResult:
    """Two losses and three learning rates on breast cancer data: 30 networks."""
    learner = ts.TorchClassifier(ts.MLP((16,)), max_epochs=40, random_state=0)
    learners = ts.grid(learner, loss=["cross_entropy", "aum"], optimizer__lr=[1e-3, 1e-2, 1e-1])
    # one by one, so that a kill costs one network and not thirty that train as one program
    return ts.benchmark(ts.load_task("breast_cancer"), learners, cv=5, scoring="roc_auc", store=store, vectorize=False)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs" / "losses"
        victim = subprocess.Popen([sys.executable, __file__, str(store)])
        while victim.poll() is None and len(list(store.glob("cells/*.json"))) < 5:
            time.sleep(0.02)
        victim.kill()
        victim.wait()

        before = ts.load_result(store)
        print("after the kill:", before.info["store"])
        kept = {path: path.stat().st_mtime_ns for path in store.glob("cells/*.json")}

        result = study(str(store))
        print("after the second call:", result.info["store"])
        assert result.info["store"]["finished"] == 30 and result.errors.empty
        assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "what was finished stayed as it was"
        print(result.aggregate("roc_auc").round(3).to_string())


if __name__ == "__main__":
    if len(sys.argv) == 2:
        study(sys.argv[1])
    else:
        main()
