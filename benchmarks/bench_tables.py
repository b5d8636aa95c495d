"""Networks for tables against the modules of their authors: one training step, one batch of breast_cancer.

    python benchmarks/bench_tables.py [--repeats 9] [--threads 1] [--clock cpu] [--quick]

Both train in the same plain loop (AdamW, binary cross-entropy, of TabM for each member), from the packages tabm,
rtdl_revisiting_models and rtdl_num_embeddings. Goal of issue 5: never slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import rtdl_num_embeddings as num
import rtdl_revisiting_models as rtdl
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from tabm import TabM
from timing import goal, interleave, markdown, options, ratios, versions

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.network.dropout import seeded

N_BATCH = 256


def step(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, call: Callable[..., torch.Tensor]) -> Any:
    """Return one step of training as a function."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def run() -> None:
        out = call(module, x)
        target = y.repeat_interleave(out.shape[1]) if out.ndim == 3 else y
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(out.flatten(), target).backward()
        optimizer.step()

    return run


def pairs(rows: torch.Tensor) -> dict[str, tuple[torch.nn.Module, Any, Any]]:
    """Return for each network their module, how it is called, and our blueprint."""
    p = rows.shape[1]
    embeddings = {
        None: lambda: None,
        "piecewise_linear": lambda: num.PiecewiseLinearEmbeddings(
            num.compute_bins(rows), 16, activation=False, version="B"
        ),
        "periodic": lambda: num.PeriodicEmbeddings(p, lite=False),
    }
    out: dict[str, tuple[torch.nn.Module, Any, Any]] = {}
    for arch in ("tabm", "tabm-mini", "tabm-packed"):
        for name, make in embeddings.items():
            theirs = TabM.make(n_num_features=p, d_out=1, num_embeddings=make(), arch_type=arch)
            out[f"{arch}, {name or 'no embedding'}"] = (theirs, lambda m, x: m(x), ts.TabM(arch=arch, embedding=name))
    for n in (1, 3):
        kwargs = rtdl.FTTransformer.get_default_kwargs(n)
        theirs = rtdl.FTTransformer(n_cont_features=p, cat_cardinalities=[], d_out=1, **kwargs)
        out[f"FT-Transformer, {n} block(s)"] = (theirs, lambda m, x: m(x, None), ts.FTTransformer(n))
    sizes = {"n_blocks": 2, "d_block": 192, "d_hidden_multiplier": 2.0, "dropout1": 0.3, "dropout2": 0.0}
    out["ResNet"] = (rtdl.ResNet(d_in=p, d_out=1, **sizes), lambda m, x: m(x), ts.ResNet(**sizes))
    return out


def main() -> None:
    args = options(__doc__, repeats=9).parse_args()
    torch.set_num_threads(args.threads)
    X, y = load_breast_cancer(return_X_y=True)
    rows = torch.tensor(scale(X), dtype=torch.float32)
    x, target = rows[:N_BATCH], torch.tensor(y[:N_BATCH], dtype=torch.float32)
    shapes = Shapes({"number": (rows.shape[1],)})
    table, slowest = [], float("inf")
    with contextlib.ExitStack() as stack, shapes.showing({"number": rows}) as shown:
        for name, (theirs, call, blueprint) in pairs(rows).items():
            ours = blueprint(shown, 1)
            stack.enter_context(seeded(ours, 0))
            contestants = {"theirs": step(theirs, x, target, call), "ours": step(ours, x, target, lambda m, x: m(x))}
            seconds = interleave(contestants, repeats=2 if args.quick else args.repeats, clock=args.clock)
            times = ratios(seconds, "theirs")["ours"]
            slowest = min(slowest, times)
            table.append([name, f"{times:.2f}", *(f"{1e3 * min(s):.0f}" for s in seconds.values())])
    print(f"{N_BATCH} rows x {rows.shape[1]} numbers, {args.threads} thread(s), {args.clock} clock\n")
    print(markdown(["network", "times as fast as the authors' (median)", "theirs, best ms", "ours, best ms"], table))
    print("\n" + goal("the slowest against its authors'", slowest, 1.0))
    print(versions("torch", "tabm", "rtdl_revisiting_models", "rtdl_num_embeddings"))


if __name__ == "__main__":
    main()
