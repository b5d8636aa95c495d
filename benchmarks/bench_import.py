"""What importing costs: each in processes of its own, in turn.

    python benchmarks/bench_import.py [--repeats 9] [--clock cpu] [--quick]

Goals of issue 4: `import torchstrata` adds at most 0.3 s to `import torch, sklearn`, and `torchstrata --help` answers
without importing torch (tests/test_import.py holds that).
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from timing import CLOCKS, goal, markdown, options, versions

REFERENCE = "import torch, sklearn"
FIT = "import numpy as np; X = np.random.default_rng(0).normal(size=(200, 10)); y = np.arange(200) % 2"
PARTS = {
    REFERENCE: "import torch, sklearn",
    "and import torchstrata": "import torch, sklearn, torchstrata",
    "and ts.TorchClassifier": "import torch, sklearn, torchstrata as ts; ts.TorchClassifier",
    "and MLPClassifier": "import torch, sklearn; from sklearn.neural_network import MLPClassifier",
    "and a first fit, encoder=None": f"import torch, sklearn, torchstrata as ts; {FIT}; "
    "ts.TorchClassifier(max_epochs=1, encoder=None, runtime='cpu').fit(X, y)",
    "and a first fit, default encoder": f"import torch, sklearn, torchstrata as ts; {FIT}; "
    "ts.TorchClassifier(max_epochs=1, runtime='cpu').fit(X, y)",
    "torchstrata --help, torch not imported": "import sys; sys.argv = ['torchstrata', '--help']\n"
    "from torchstrata.cli import main\n"
    "try: main()\n"
    "except SystemExit: assert 'torch' not in sys.modules",
}


def seconds_of(code: str, clock: str) -> float:
    """Run code in a fresh process and return the seconds it took there, without the start of Python."""
    now = {"wall": "perf_counter", "cpu": "process_time"}[clock]
    timed = f"import time; started = time.{now}()\n{code}\nprint('\\n', time.{now}() - started)"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    args = options(__doc__, repeats=9).parse_args()
    assert args.clock in CLOCKS
    repeats = 2 if args.quick else args.repeats
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    for round_number in range(repeats + 1):
        for name, code in PARTS.items():
            took = seconds_of(code, args.clock)
            if round_number:
                seconds[name].append(took)
    added = {
        name: statistics.median(s - r for s, r in zip(own, seconds[REFERENCE], strict=True))
        for name, own in seconds.items()
    }
    table = [
        [name, f"{statistics.median(seconds[name]):.3f}", "" if name == REFERENCE else f"{value:+.3f}"]
        for name, value in added.items()
    ]
    print(f"{args.clock} time, {repeats} rounds, a fresh process each\n")
    print(markdown(["what", "seconds (median)", f"beyond {REFERENCE} (median of differences)"], table))
    print(goal("import torchstrata adds, in seconds", added["and import torchstrata"], 0.3, at_least=False))
    print(f"\n{versions('torch', 'scikit-learn', 'pandas')}")


if __name__ == "__main__":
    main()
