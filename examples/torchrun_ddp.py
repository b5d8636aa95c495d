"""One model on two processes, each with its part of every stratified batch: the same weights as on one process.

    torchrun --standalone --nproc-per-node 2 examples/torchrun_ddp.py
    python examples/torchrun_ddp.py        # starts the two processes itself

Handing whole batches to ranks in turn, or every second row, leaves some of them without the minority class. Here each
stratum is parted over the ranks first: every part of every batch holds its share of every class, all ranks take the
same number of steps, and together the parts are the batch that one process would see.
"""

import datetime
import os
import subprocess
import sys

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import distributed
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

import torchstrata as ts

EPOCHS, SEED = 5, 1
SAMPLER = ts.StratifiedBatchSampler(8)  # at least 8 malignant ones in each batch, so 4 in each part


def data():
    """Give breast cancer data, scaled."""
    X, y = load_breast_cancer(return_X_y=True)
    return torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def network():
    """Give the same initial weights on every rank."""
    torch.manual_seed(SEED)
    return ts.MLP((32, 32))(ts.data.encode.Shapes({"number": (30,)}), 1)


def fit(model, X, y, rank=0, world_size=1):
    """Train, and return the smallest number of rows of either class that a part of a batch held."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    strata, fewest = y.int().numpy(), len(y)
    for epoch in range(EPOCHS):
        whole = SAMPLER(len(y), strata, epoch=epoch, seed=SEED)
        parts = SAMPLER(len(y), strata, epoch=epoch, seed=SEED, rank=rank, world_size=world_size)
        for batch, part in zip(whole, parts, strict=True):
            rows = torch.from_numpy(part)
            fewest = min(fewest, *np.bincount(strata[part], minlength=2).tolist())
            total = binary_cross_entropy_with_logits(model(X[rows]).squeeze(1), y[rows], reduction="sum")
            optimizer.zero_grad()
            # DistributedDataParallel averages over ranks, and parts may differ by a row: so the mean over the batch
            (total * world_size / len(batch)).backward()
            optimizer.step()
    return fewest


def main():
    """Train on all ranks, and compare with one process."""
    distributed.init_process_group("gloo", timeout=datetime.timedelta(minutes=5))
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    torch.set_num_threads(1)
    X, y = data()
    together = DistributedDataParallel(network())
    fewest = torch.tensor(fit(together, X, y, rank, world_size))
    distributed.all_reduce(fewest, op=distributed.ReduceOp.MIN)
    if rank == 0:
        alone = network()
        fit(alone, X, y)
        pairs = zip(together.module.parameters(), alone.parameters(), strict=True)
        difference = max(float((a - b).abs().max().detach()) for a, b in pairs)
        accuracy = float(((alone(X).squeeze(1) > 0) == (y > 0.5)).float().mean())
        print(f"{world_size} processes, {EPOCHS} epochs; training accuracy {accuracy:.3f}")
        print(f"rows of the rarer class in a part of a batch: at least {int(fewest)}")
        print(f"largest difference to the weights of one process: {difference:.1e}")
        assert difference < 1e-4
    distributed.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        main()
    else:
        starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
        sys.exit(subprocess.run(starter, check=False).returncode)
