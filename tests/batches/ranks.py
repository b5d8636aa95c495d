"""Several processes with gloo, each with its part of the batches; run by test_distributed.py, not by pytest.

    python ranks.py FOLDER WORLD_SIZE

Every rank writes what it saw and what came of training to FOLDER/WORLD_SIZE-RANK.pt.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from torchstrata import StratifiedBatchSampler, torch_sampler

SEED, EPOCHS, LR = 5, 2, 0.05


def data() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Rows, targets and strata, the same in every process."""
    rng = np.random.default_rng(0)
    strata = rng.permutation(np.repeat(["common", "rare", "some"], [101, 17, 40]))
    x = torch.from_numpy(rng.normal(size=(len(strata), 4)))
    return x, torch.from_numpy((strata == "rare").astype(float)), strata


def network() -> torch.nn.Module:
    """The same initial weights in every process."""
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def train(module: torch.nn.Module, loader: DataLoader, sizes: list[int], world_size: int) -> tuple[list, list]:
    """Plain gradient descent on the mean loss of the whole batch; return the rows and the gradients of every step."""
    rows, gradients = [], []
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    steps = (batch for _ in range(EPOCHS) for batch in loader)
    for (x, y, index), size in zip(steps, sizes * EPOCHS, strict=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], y, reduction="sum")
        # DDP takes the mean over ranks: times the ranks, over the rows of the whole batch, it is the mean over its rows
        (loss * world_size / size).backward()
        rows.append(index.tolist())
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters()]).clone())
        optimizer.step()
    return rows, gradients


def run(rank: int, world_size: int, folder: str, *, alone: bool = False) -> dict:
    """Train as one rank of several, or alone."""
    torch.set_num_threads(1)
    x, y, strata = data()
    sampler = torch_sampler(StratifiedBatchSampler(3), strata, seed=SEED, rank=rank, world_size=world_size)
    loader = DataLoader(TensorDataset(x, y, torch.arange(len(y))), batch_sampler=sampler)
    sizes = [len(batch) for batch in StratifiedBatchSampler(3)(len(y), strata, seed=SEED)]
    module = network()
    if not alone:
        where = f"file://{folder}/meeting-{world_size}"
        torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=world_size)
    rows, gradients = train(module if alone else DistributedDataParallel(module), loader, sizes, world_size)
    if not alone:
        torch.distributed.destroy_process_group()
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return {"rows": rows, "gradients": torch.stack(gradients), "weights": weights}


def one(rank: int, world_size: int, folder: str) -> None:
    """What a spawned process does."""
    torch.save(run(rank, world_size, folder), os.path.join(folder, f"{world_size}-{rank}.pt"))


if __name__ == "__main__":
    torch.multiprocessing.spawn(one, args=(int(sys.argv[2]), sys.argv[1]), nprocs=int(sys.argv[2]))
