"""Two and three processes with gloo share every batch and train as one process does."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from torchstrata import StratifiedBatchSampler

SCRIPT = pathlib.Path(__file__).with_name("ranks.py")

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ranks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    """What each rank saw, in processes of their own."""
    folder, world_size = tmp_path_factory.mktemp("ranks"), request.param
    command = [sys.executable, str(SCRIPT), str(folder), str(world_size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{world_size}-{r}.pt") for r in range(world_size)]


@pytest.fixture(scope="module")
def alone(script):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        return script.run(0, 1, "", alone=True)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def test_union_of_the_ranks_is_the_single_batch_with_floor_shares(ranks, script):
    _, _, strata = script.data()
    levels, codes = np.unique(strata, return_inverse=True)
    whole = [b for e in range(script.EPOCHS) for b in StratifiedBatchSampler(3)(158, strata, epoch=e, seed=script.SEED)]
    assert {len(rank["rows"]) for rank in ranks} == {len(whole)}
    for step, batch in enumerate(whole):
        parts = [rank["rows"][step] for rank in ranks]
        assert sorted(row for part in parts for row in part) == sorted(batch.tolist())
        share = np.bincount(codes[batch], minlength=len(levels)) // len(ranks)
        for part in parts:
            assert (np.bincount(codes[part], minlength=len(levels)) >= share).all()


def test_training_on_ranks_is_training_alone(ranks, alone):
    for rank in ranks:
        assert torch.equal(rank["weights"], ranks[0]["weights"])
        torch.testing.assert_close(rank["gradients"], alone["gradients"], rtol=0, atol=1e-14)
        torch.testing.assert_close(rank["weights"], alone["weights"], rtol=0, atol=1e-14)
