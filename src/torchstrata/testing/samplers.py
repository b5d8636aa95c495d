"""The contract of batch samplers as a test class: subclass it, say which sampler, and pytest runs it.

class TestMine(SamplerContract):
    sampler = MySampler(batch_size=8)

"""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from torchstrata.batches.base import BatchSampler
from torchstrata.data.strata import stratum_codes

SEED = 7


class SamplerContract:
    """What every batch sampler promises; each promise is one test.

    Attributes
    ----------
    sampler : BatchSampler
        To be set by the subclass.
    covers : {"once", "equally", None}
        ``"once"``: every row comes exactly once an epoch. ``"equally"``: rows of a stratum come equally often, to one.
        None: neither.
    shuffles : bool
        Whether epochs differ.
    change : tuple (name, value), optional
        A setting and another value for it, for ``replace``.
    """

    sampler: BatchSampler
    covers: str | None = "once"
    shuffles: bool = True
    change: tuple[str, Any] | None = None

    def make_strata(self, rng: np.random.Generator) -> Any:
        """Return strata (groups, lengths, values) for the tests; override where labels will not do.

        Parameters
        ----------
        rng : numpy.random.Generator
            For the order of the rows.

        Returns
        -------
        array, Series or DataFrame
            One stratum a row.
        """
        return rng.permutation(np.repeat(["common", "rare", "some"], [83, 11, 29]))

    def make_labels(self, strata: Any) -> Any:
        """Return what guarantees and composition speak of; by default the strata.

        Parameters
        ----------
        strata : object
            From ``make_strata``.

        Returns
        -------
        array, Series or DataFrame
            One label a row.
        """
        return strata

    def draw(self, strata: Any, **where: int) -> list[np.ndarray]:
        """Call the sampler without its warnings.

        Parameters
        ----------
        strata : object
            From ``make_strata``.
        **where : int
            epoch, seed, rank, world_size.

        Returns
        -------
        list of ndarray
            Batches.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return self.sampler(len(strata), strata, **where)

    @pytest.fixture(params=[0, 1], ids=["data0", "data1"])
    def strata(self, request: pytest.FixtureRequest) -> Any:
        """Strata in two orders of the rows."""
        return self.make_strata(np.random.default_rng(request.param))

    def test_batches_are_int64_arrays_of_rows(self, strata):
        """Batches are one-dimensional int64 arrays, none empty, of rows that exist."""
        for batch in self.draw(strata, seed=SEED):
            assert isinstance(batch, np.ndarray)
            assert batch.dtype == np.int64
            assert batch.ndim == 1
            assert len(batch)
            assert batch.min() >= 0
            assert batch.max() < len(strata)

    def test_a_draw_depends_on_seed_and_epoch_alone(self, strata):
        """The same seed and epoch give the same batches, in another process's sampler and whatever global state."""
        first = [b.tolist() for b in self.draw(strata, epoch=3, seed=SEED)]
        np.random.seed(0)  # noqa: NPY002 - the point is that it has no influence
        twin = pickle.loads(pickle.dumps(self.sampler))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            again = twin(len(strata), strata, epoch=3, seed=SEED)
        assert [b.tolist() for b in again] == first

    def test_epochs_and_seeds_differ_if_it_shuffles(self, strata):
        """Other epochs and seeds give other batches, or the same where nothing is shuffled."""
        draws = [
            [b.tolist() for b in self.draw(strata, epoch=e, seed=s)] for e, s in [(0, 0), (1, 0), (0, 1), (0, 2**40)]
        ]
        for i, a in enumerate(draws):
            for b in draws[:i]:
                assert (a != b) == self.shuffles

    def test_plan_draws_what_the_call_gives(self, strata):
        """One plan serves all epochs, in any order."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            plan = self.sampler.plan(len(strata), strata)
        for epoch in (2, 0, 1, 2):
            order, bounds = plan.draw(epoch, SEED)
            called = self.draw(strata, epoch=epoch, seed=SEED)
            assert [b.tolist() for b in np.split(order, bounds[1:-1])] == [b.tolist() for b in called]
            assert order.dtype == np.int64
            assert bounds[0] == 0
            assert bounds[-1] == len(order)

    def test_coverage(self, strata):
        """Every row comes as often as promised."""
        for epoch in range(3):
            often = np.bincount(np.concatenate(self.draw(strata, epoch=epoch, seed=SEED)), minlength=len(strata))
            if self.covers == "once":
                assert (often == 1).all()
            elif self.covers == "equally":
                codes, labels = stratum_codes(self.make_labels(strata))
                for s in range(len(labels)):
                    assert np.ptp(often[codes == s]) <= 1

    def test_guarantees_are_kept(self, strata):
        """No batch of many epochs holds fewer rows of a stratum than guaranteed."""
        labels = self.make_labels(strata)
        codes, names = stratum_codes(labels)
        least = self.sampler.guarantees(len(strata), strata, of=labels)
        assert list(least) == names
        assert all(isinstance(value, int) and value >= 0 for value in least.values())
        for epoch in range(10):
            for batch in self.draw(strata, epoch=epoch, seed=SEED):
                assert (np.bincount(codes[batch], minlength=len(names)) >= list(least.values())).all()

    def test_expected_share_without_is_what_happens(self, strata):
        """The expected share of batches without a stratum agrees with 200 epochs, and is 0 where one is guaranteed."""
        labels = self.make_labels(strata)
        codes, names = stratum_codes(labels)
        least = self.sampler.guarantees(len(strata), strata, of=labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            plan = self.sampler.plan(len(strata), strata)
        draws = [np.split(order, bounds[1:-1]) for order, bounds in (plan.draw(e, SEED) for e in range(200))]
        for s, name in enumerate(names):
            expected = self.sampler.expected_share_without(len(strata), strata, name, of=labels)
            assert 0 <= expected <= 1
            assert not least[name] or expected == 0
            seen = np.mean([np.mean([s not in codes[batch] for batch in batches]) for batches in draws])
            assert abs(seen - expected) < 0.06

    def test_composition_counts_the_draw(self, strata):
        """The composition table counts the rows of each stratum in each batch of the draw."""
        labels = self.make_labels(strata)
        codes, names = stratum_codes(labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table = self.sampler.composition(strata, epoch=1, seed=SEED, of=labels)
        batches = self.draw(strata, epoch=1, seed=SEED)
        assert table.columns.tolist() == [*names, "batch_size"]
        assert table["batch_size"].tolist() == [len(batch) for batch in batches]
        counts = [np.bincount(codes[batch], minlength=len(names)).tolist() for batch in batches]
        assert table[names].to_numpy().tolist() == counts

    @pytest.mark.parametrize("world_size", [2, 3, 8])
    def test_ranks_part_every_batch(self, strata, world_size):
        """Parts of the ranks are disjoint, cover every batch, and are equally many."""
        whole = self.draw(strata, epoch=2, seed=SEED)
        ranks = [self.draw(strata, epoch=2, seed=SEED, rank=r, world_size=world_size) for r in range(world_size)]
        assert {len(parts) for parts in ranks} == {len(whole)}
        for b, batch in enumerate(whole):
            assert sorted(np.concatenate([parts[b] for parts in ranks]).tolist()) == sorted(batch.tolist())

    def test_it_is_an_immutable_value(self):
        """It cannot be edited, is equal to its copies, and may be a key."""
        sampler: Any = self.sampler
        name = next(iter(sampler.get_params()))
        with pytest.raises(AttributeError):
            setattr(sampler, name, 5)
        assert clone(sampler) is sampler
        for twin in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler)), sampler.replace()):
            assert twin == sampler
            assert hash(twin) == hash(sampler)
            assert type(twin) is type(sampler)

    def test_settings_are_reached_by_name(self):
        """Repr rebuilds it; get_params and replace speak of the same settings."""
        sampler: Any = self.sampler
        assert type(sampler)(**sampler.get_params()) == sampler
        assert eval(repr(sampler), {type(sampler).__name__: type(sampler)}) == sampler
        if self.change:
            changed = sampler.replace(**dict([self.change]))
            assert changed != sampler
            assert changed.get_params() == {**sampler.get_params(), **dict([self.change])}
        with pytest.raises(ValueError, match="Invalid parameter"):
            sampler.replace(no_such_setting=1)
