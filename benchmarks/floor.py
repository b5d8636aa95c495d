"""The floor: the training loop of an MLP as a C kernel (floor.c), compiled on the fly and called through ctypes.

    python benchmarks/floor.py [--repeats 15] [--quick] [--clock cpu]

It says how fast a step could be if nothing but the arithmetic were left: one thread, float32, ReLU, dropout, binary
cross-entropy of one logit, AdamW; K networks one after another. Run as a script it compares its weights after some
steps without dropout with the same steps in numpy (float64), then times a step. Goal of issue 4: the dense path of
torchstrata takes at most 1.6 times its time a step.
"""

from __future__ import annotations

import ctypes
import functools
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np
from loops import Shape, draw_orders, draw_weights, numpy_steps
from timing import best, markdown, options, versions

SOURCE = pathlib.Path(__file__).with_name("floor.c")
# gcc prefers half vectors on some processors that have whole ones; not every compiler knows the option.
FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=gnu11", "-fPIC", "-c")
WISHES = (("-mprefer-vector-width=512",), ())


class NoCompilerError(RuntimeError):
    """There is no C compiler; says what to install."""


@functools.cache
def library() -> ctypes.CDLL:
    """Compile floor.c into a temporary folder and load it; once a process."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoCompilerError("no C compiler (cc, gcc or clang) was found: the floor is left out")
    with tempfile.TemporaryDirectory() as folder:
        middle, target = (str(pathlib.Path(folder) / name) for name in ("floor.o", "floor.so"))
        for wish in WISHES:
            # linked by itself: given -ffast-math, gcc links code that rounds tiny numbers to zero for everybody
            done = _run(compiler, *FLAGS, *wish, str(SOURCE), "-o", middle)
            done = done if done.returncode else _run(compiler, "-shared", middle, "-o", target, "-lm")
            if done.returncode == 0:
                return ctypes.CDLL(target)  # stays loaded when the file goes
    raise NoCompilerError(f"{compiler} could not compile floor.c: {done.stderr.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def train(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, order: np.ndarray, *, shape: Shape, lr: Sequence[float],
    dropout: float = 0.0, weight_decay: float = 1e-2, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Train K networks in place, one after another.

    Parameters
    ----------
    X, y : float32 arrays of shape (n, p) and (n,)
        Rows and targets 0 or 1.
    weights : float32 array of shape (K, parameters)
        For each layer (inputs + 1, outputs), the bias last.
    order : int32 array of shape (K, epochs, n)
        The rows of each epoch.
    shape : Shape
        Widths and size of a batch.
    lr : sequence of K floats
        Learning rates.
    dropout, weight_decay, seed
        The same for all networks.

    Returns
    -------
    ndarray of shape (K,)
        Mean training loss of the last epoch.
    """
    sizes, (models, epochs, n) = np.array(shape.sizes, np.int32), order.shape
    numbers = np.array([weight_decay, 0.9, 0.999, 1e-8, dropout], np.float32)
    losses, rates = np.empty(models), np.asarray(lr, np.float32)
    arrays = (X, y, sizes, weights, order, rates, numbers)
    assert all(a.flags.c_contiguous and a.dtype in (np.float32, np.int32) for a in arrays), "float32, int32, in rows"
    px, py, psizes, pweights, porder, prates, pnumbers = (a.ctypes.data_as(ctypes.c_void_p) for a in arrays)
    failed = library().train(
        n, px, py, len(sizes) - 1, psizes, models, pweights, porder, epochs, shape.batch, prates, pnumbers,
        ctypes.c_uint32(seed), losses.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    if failed:
        raise MemoryError("the floor: not enough memory, or more than 16 layers")
    return losses


def check(shape: Shape, *, models: int = 2, epochs: int = 2) -> float:
    """Return the largest difference of a weight from numpy's in float64, after some steps without dropout."""
    X, y = shape.rows(0)
    start, order = draw_weights(shape, models, 0), draw_orders(shape, models, epochs, 0)
    own, lr = start.copy(), [1e-3 * (k + 1) for k in range(models)]
    train(X, y, own, order, shape=shape, lr=lr)
    reference = [
        numpy_steps(X, y, w.astype(np.float64), o, shape, lr=r) for w, o, r in zip(start, order, lr, strict=True)
    ]
    return float(np.abs(own - np.stack(reference)).max())


def main() -> None:
    parser = options(__doc__)
    args = parser.parse_args()
    try:
        library()
    except NoCompilerError as error:
        raise SystemExit(str(error)) from None
    shapes = [Shape(), Shape(hidden=(7,), p=3, n=50, batch=9), Shape(hidden=(16, 33, 5), p=15), Shape(hidden=(), p=5)]
    for shape in shapes:
        difference = check(shape)
        print(f"{shape}: largest difference from numpy {difference:.1e}")
        if not difference < 1e-5:
            raise SystemExit("the floor does not compute what numpy computes")
    shape, epochs = shapes[0], 10 if args.quick else 100
    X, y = shape.rows(0)
    rows = []
    for models in (1, 50):
        weights, order = draw_weights(shape, models, 0), draw_orders(shape, models, epochs, 0)
        for dropout in (0.0, 0.1):
            run = functools.partial(train, X, y, weights, order, shape=shape, lr=[1e-3] * models, dropout=dropout)
            seconds = best(run, repeats=3 if args.quick else args.repeats, clock=args.clock)
            rows.append([models, dropout, f"{seconds / models / epochs / shape.steps * 1e6:.1f}"])
    print(f"\n{shape}, AdamW, one thread, {args.clock} clock\n")
    print(markdown(["networks", "dropout", "best µs per network and step"], rows))
    print(f"\n{versions('numpy')}")


if __name__ == "__main__":
    main()
