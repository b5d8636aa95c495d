"""Our samplers in a plain DataLoader, in skorch, in Lightning and in torchdata's StatefulDataLoader."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchstrata import GroupBatchSampler, RandomBatchSampler, StratifiedBatchSampler, torch_sampler
from torchstrata.errors import ConfigError

STRATA = ["M"] * 40 + ["R"] * 9
SET = TensorDataset(torch.arange(49))


def make_sampler(seed=3):
    return torch_sampler(StratifiedBatchSampler(1), STRATA, seed=seed)


def read(data) -> list[list[int]]:
    return [batch[0].tolist() for batch in data]


def drawn(epoch, seed=3) -> list[list[int]]:
    return [b.tolist() for b in StratifiedBatchSampler(1)(49, STRATA, epoch=epoch, seed=seed)]


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_data_loader_gives_our_batches_epoch_after_epoch(workers):
    data = DataLoader(SET, batch_sampler=make_sampler(), num_workers=workers)
    assert len(data) == 9
    assert read(data) == drawn(0)
    assert read(data) == drawn(1)


def test_set_epoch_names_the_next():
    sampler = make_sampler()
    sampler.set_epoch(7)
    assert sampler.state_dict() == {"epoch": 7, "given": 0, "seed": 3}
    assert list(sampler) == drawn(7)
    assert list(sampler) == drawn(8)


def test_a_loop_that_broke_off_goes_on_with_the_next_epoch():
    data = DataLoader(SET, batch_sampler=make_sampler())
    for i, _ in enumerate(data):
        if i == 2:
            break
    assert read(data) == drawn(1)


@pytest.mark.parametrize("stop", range(1, 9))
def test_state_taken_between_batches_resumes_to_the_same_rows(stop):
    sampler = make_sampler()
    list(sampler)
    batches = iter(sampler)
    given = [next(batches) for _ in range(stop)]
    twin = make_sampler(seed=99)
    twin.load_state_dict(sampler.state_dict())
    assert given + list(twin) == drawn(1)
    assert list(twin) == drawn(2)


def test_state_of_a_complete_epoch_resumes_with_the_next():
    sampler = make_sampler()
    list(sampler)
    twin = make_sampler()
    twin.load_state_dict(sampler.state_dict())
    assert list(twin) == drawn(1)


def test_state_before_the_first_batch_resumes_at_the_start():
    twin = make_sampler()
    twin.load_state_dict(make_sampler().state_dict())
    assert list(twin) == drawn(0)


def test_resume_survives_a_data_loader():
    sampler = make_sampler()
    data = iter(DataLoader(SET, batch_sampler=sampler))
    given = [next(data)[0].tolist() for _ in range(4)]
    twin = make_sampler()
    twin.load_state_dict(sampler.state_dict())
    assert given + read(DataLoader(SET, batch_sampler=twin)) == drawn(0)


def test_plain_function_and_random_sampler_serve_too():
    halves = torch_sampler(lambda n, strata, *, epoch, seed: [range(n // 2), range(n // 2, n)], STRATA)
    assert [len(b) for b in halves] == [24, 25]
    assert sorted(i for batch in torch_sampler(RandomBatchSampler(10), STRATA) for i in batch) == list(range(49))


# --- ranks, lengths, workers


def test_ranks_share_the_batches_of_the_single_process():
    ranks = [list(torch_sampler(StratifiedBatchSampler(1), STRATA, seed=3, rank=r, world_size=3)) for r in range(3)]
    assert [sorted(a + b + c) for a, b, c in zip(*ranks, strict=True)] == [sorted(batch) for batch in drawn(0)]
    with pytest.raises(ConfigError, match=r"rank must be in 0..1"):
        torch_sampler(StratifiedBatchSampler(1), STRATA, rank=2, world_size=2)


def test_length_follows_the_epoch_where_it_differs_from_epoch_to_epoch():
    groups = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 6, 40))
    sampler = torch_sampler(GroupBatchSampler(10), groups)
    lengths = []
    for _ in range(15):
        lengths.append(len(sampler))
        assert len(list(sampler)) == lengths[-1]
    assert len(set(lengths)) > 1


def test_state_counts_what_the_loop_saw_where_workers_fetch_ahead():
    sampler = make_sampler()
    data = iter(DataLoader(SET, batch_sampler=sampler, num_workers=2))
    seen = [next(data)[0].tolist() for _ in range(3)]
    twin = make_sampler()
    twin.load_state_dict(sampler.state_dict(given=3))
    del data
    assert seen + list(twin) == drawn(0)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 4, 8])
def test_stateful_data_loader_resumes_to_the_same_rows(workers, stop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchdata's own, at import
        loader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    data = loader(SET, batch_sampler=make_sampler(), num_workers=workers)
    batches = iter(data)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    state = data.state_dict()
    del batches
    twin = loader(SET, batch_sampler=make_sampler(seed=3), num_workers=workers)
    twin.load_state_dict(state)
    assert seen + read(twin) == drawn(0)
    assert read(twin) == drawn(1)


# --- peers


def test_skorch_trains_on_our_batches():
    skorch = pytest.importorskip("skorch")
    seen = []

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def forward(self, x):
            if self.training:
                seen.append(sorted(x[:, 0].int().tolist()))
            return self.layer(x)

    class Loader(DataLoader):  # skorch always says batch_size, which a DataLoader refuses beside a batch_sampler
        def __init__(self, dataset, *, batch_size=None, **settings):
            super().__init__(dataset, **settings)

    net = skorch.NeuralNetClassifier(
        Net,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=2,
        verbose=0,
        iterator_train=Loader,
        iterator_train__batch_sampler=make_sampler(),
    )
    net.fit(np.arange(49, dtype=np.float32)[:, None], (np.array(STRATA) == "R").astype(np.int64))
    assert seen == [sorted(batch) for epoch in (0, 1) for batch in drawn(epoch)]


def test_lightning_trains_on_our_batches(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its dependencies, at import
        lightning = pytest.importorskip("pytorch_lightning")

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer, self.seen = torch.nn.Linear(1, 1), []

            def training_step(self, batch, _):
                self.seen.append(batch[0].tolist())
                return self.layer(batch[0][:, None].float()).square().mean()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=1e-6)

        module = Module()
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, DataLoader(SET, batch_sampler=make_sampler()))
    assert len(module.seen) == 18
    # Lightning calls set_epoch itself
    assert module.seen == drawn(0) + drawn(1)
