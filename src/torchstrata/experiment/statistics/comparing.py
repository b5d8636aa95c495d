"""Comparing: the methods of a BenchmarkResult that test learners against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pandas as pd

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.experiment.statistics import bayes, comparison, soak, summary
from torchstrata.experiment.statistics.base import ResultBase
from torchstrata.plots.measures import greater_is_better
from torchstrata.plots.tables import with_label

METHODS = ("corrected_t", "bayes_t", "friedman", "wilcoxon", "bayes_signed_rank", "bayes")
_WITHIN = ("corrected_t", "bayes_t")  # they compare folds of a task, the others tasks


class Comparing(ResultBase):
    """What a result says of its learners, one compared with another. The base of :class:`BenchmarkResult` alone."""

    def compare(
        self,
        measure: str | None = None,
        *,
        method: Literal["corrected_t", "bayes_t", "friedman", "wilcoxon", "bayes_signed_rank", "bayes"] = "corrected_t",
        against: str | None = None,
        level: float = 0.95,
        rope: float | None = None,
        incomplete: Literal["raise", "learners", "tasks"] = "raise",
    ) -> pd.DataFrame:
        """Test every learner against the best one, or one that is named.

        ``"corrected_t"`` and ``"bayes_t"`` compare the folds of each task, which are paired; their variance is
        corrected as in :meth:`aggregate`. The others compare many tasks, of each the mean over its folds. The best
        learner was chosen by these very scores, so its lead is a little flattered; a learner named before the run is
        not.
        ``docs/comparing.md`` says which test to use when.

        Parameters
        ----------
        measure : str, optional
            The first one by default.
        method : str
            ``"corrected_t"``: Nadeau and Bengio's corrected resampled t-test; ``"bayes_t"``: the Bayesian correlated
            t-test; ``"friedman"``: average ranks, Friedman's test and Nemenyi's; ``"wilcoxon"``: signed ranks;
            ``"bayes_signed_rank"``; ``"bayes"``: ``"bayes_t"`` for one task, ``"bayes_signed_rank"`` for several.
        against : str, optional
            A learner, by its name, or by its label as in ``ranks`` where it comes in variants; by default the best: of
            the task, or of the best average rank.
        level : float
            Level of confidence.
        rope : float, optional
            For the Bayesian tests: differences of at most so much do not matter. Default 0.01 for measures between 0
            and 1.
        incomplete : {"raise", "learners", "tasks"}
            For tests over tasks: refuse a learner that misses folds, or leave out such learners, or such tasks.

        Returns
        -------
        DataFrame
            task (of tests within tasks), learner, grid columns, ``best`` (``against``, where one was named), and

            * corrected_t: difference (learner minus best), low, high, p_value, p_holm (corrected for all comparisons
              within the task), n (folds that both have), folds;
            * bayes_t: difference, p_better, p_equal, p_worse, n, folds;
            * friedman: rank, difference (of ranks), critical_difference, p_value (corrected for all pairs),
              p_friedman, n (tasks);
            * wilcoxon: difference (median over tasks), wins, ties, losses, p_value, p_holm, n;
            * bayes_signed_rank: difference (median), p_better, p_equal, p_worse, n;
            * all, if a fallback stood in anywhere: filled, the folds (over tasks: the tasks) where it did for one of
              the two.

        Raises
        ------
        ConfigError
            If a name is unknown, or the measure needs a ``rope``; for tests over tasks, if the splits are SameOther's.
        DataError
            For tests over tasks: if there are fewer than two, or folds are missing.
        """
        if method not in METHODS:
            raise ConfigError(f"Unknown method {method!r}. {did_you_mean(method, METHODS)}")
        if not 0 < level < 1:
            raise ConfigError(f"level must lie between 0 and 1, as 0.95 does; got {level!r}.")
        measure = self._measure(measure)
        if method == "bayes":
            method = "bayes_t" if len(self._tables["scores"]["task"].unique()) == 1 else "bayes_signed_rank"
        width = bayes.default_rope(measure, rope) if method.startswith("bayes") else 0.0
        if method in _WITHIN:
            pairs = summary.corrected_t(level) if method == "corrected_t" else _correlated_t(measure, width)
            return self._compare_folds(measure, pairs, against)
        means = self._task_means(measure, incomplete)
        greater = greater_is_better(measure)
        other = comparison.best_by_rank(means, greater=greater) if against is None else _known(against, means)
        found = _OVER_TASKS[method](means, other, greater=greater, level=level, rope=width)
        found = _mark_filled(found, means, "label", other)
        return self._named(found, "best" if against is None else "against", other)

    def ranks(
        self,
        measure: str | None = None,
        *,
        level: float = 0.95,
        incomplete: Literal["raise", "learners", "tasks"] = "raise",
    ) -> pd.DataFrame:
        """Average ranks over tasks, and which learners they do not tell apart: the table of a critical-difference plot.

        Parameters
        ----------
        measure : str, optional
            The first one by default.
        level : float
            Level of confidence.
        incomplete : {"raise", "learners", "tasks"}
            Refuse a learner that misses folds, or leave out such learners, or such tasks.

        Returns
        -------
        DataFrame
            learner (with its settings, where they vary), rank (1 is best), critical_difference, n_tasks, groups, as
            :func:`torchstrata.experiment.statistics.comparison.critical_difference` says; and filled, if a fallback
            stood in anywhere: the tasks where it did.

        Raises
        ------
        ConfigError
            If the measure is unknown.
        DataError
            If there are fewer than two tasks or learners, or folds are missing.
        """
        measure = self._measure(measure)
        means = self._task_means(measure, incomplete)
        found = comparison.critical_difference(means, greater=greater_is_better(measure), level=level)
        return _mark_filled(found, means, "learner")

    def wins(
        self,
        measure: str | None = None,
        *,
        rope: float = 0.0,
        incomplete: Literal["raise", "learners", "tasks"] = "raise",
    ) -> pd.DataFrame:
        """On how many tasks each learner has a better mean than each other.

        Parameters
        ----------
        measure : str, optional
            The first one by default.
        rope : float
            Differences of at most so much are ties.
        incomplete : {"raise", "learners", "tasks"}
            Refuse a learner that misses folds, or leave out such learners, or such tasks.

        Returns
        -------
        DataFrame
            One row an ordered pair: learner, against, wins, ties, losses, p_sign (sign test); and filled, if a fallback
            stood in anywhere: the tasks where it did for one of the two.

        Raises
        ------
        ConfigError
            If the measure is unknown.
        DataError
            If folds are missing.
        """
        measure = self._measure(measure)
        rope = bayes.default_rope(measure, rope)
        means = self._task_means(measure, incomplete)
        found = comparison.wins(means, greater=greater_is_better(measure), rope=rope)
        return _mark_filled(found, means, "learner", found["against"])

    def same_other(self, measure: str | None = None, *, level: float = 0.95) -> pd.DataFrame:
        """Test, for each subset, training on other and on all subsets against training on the same one.

        For results of ``cv=ts.splitters.SameOther(...)``. Folds are paired. ``p_value`` is that of the usual paired
        t-test, as in the paper on SOAK; ``p_corrected``, ``low`` and ``high`` know that training sets overlap, as
        :meth:`aggregate` does, and are the ones to believe. Thinned training sets that differ in their random choice
        are averaged within a fold first.

        Parameters
        ----------
        measure : str, optional
            The first one by default.
        level : float
            Level of confidence.

        Returns
        -------
        DataFrame
            task, learner, grid columns, test_subset, size ("full", or "equal": all training sets thinned to equal
            rows), trained_on ("other" or "all"), mean, mean_same, difference (of the two), low, high, p_value,
            p_corrected, p_holm (that, corrected for all rows of the task and size), n (folds that both have), folds,
            n_train, n_train_same (mean rows that trained).

        Raises
        ------
        ConfigError
            If the measure is unknown, or the splits are not those of SameOther.
        """
        settings = [name for name in self.grid_columns if name not in soak.CONDITIONS]
        return soak.soak(self._rows(self._measure(measure)), self._tables["splits"], grid=settings, level=level)

    def _parts(self, measure: str | None) -> Iterator[tuple[pd.DataFrame, dict[str, float]]]:
        """Yield the scores of each condition that must not be mixed, with test rows per training row of each task."""
        scores, splits = self._rows(measure), self._tables["splits"]
        columns = soak.conditions(scores)
        if not columns:
            yield scores, ratios(splits)
            return
        for _, rows in scores.groupby(columns, dropna=False, sort=False):
            yield rows, ratios(splits.merge(rows[["task", "fold"]].drop_duplicates()))

    def _compare_folds(self, measure: str, pairs: summary.Pairs, against: str | None) -> pd.DataFrame:
        if against is not None:
            settings = [name for name in self.grid_columns if name not in soak.CONDITIONS]
            known = with_label(self._rows(measure), grid=settings)["label"].unique()
            if against not in known:
                raise ConfigError(f"Unknown learner {against!r}. {did_you_mean(against, known)}")
        found = [
            summary.compare(rows, grid=self.grid_columns, ratio=ratio, pairs=pairs, against=against)
            for rows, ratio in self._parts(measure)
        ]
        filled = [table for table in found if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else found[0]

    def _task_means(self, measure: str, incomplete: str) -> pd.DataFrame:
        rows = self._rows(measure)
        if soak.conditions(rows):
            raise ConfigError(
                "Ranks and tests over tasks take one mean a task, and a mean over the conditions of SameOther mixes "
                "unlike training sets. Use result.same_other(measure), or result.compare(measure) within tasks."
            )
        return comparison.task_means(rows, grid=self.grid_columns, incomplete=incomplete)

    def _named(self, found: pd.DataFrame, column: str, other: str) -> pd.DataFrame:
        """Put learner and settings in the place of labels."""
        settings = [name for name in self.grid_columns if name not in soak.CONDITIONS]
        known = with_label(self._tables["scores"], grid=settings).drop_duplicates("label").set_index("label")
        keys = known.loc[found["label"], ["learner", *settings]].reset_index(drop=True)
        keys[column] = other
        return pd.concat([keys, found.drop(columns="label")], axis="columns")


def fold_ratios(splits: pd.DataFrame) -> dict[tuple[str, Any], float]:
    """Find the test rows per training row of each split.

    Parameters
    ----------
    splits : DataFrame
        As of :func:`ratios`, and fold.

    Returns
    -------
    dict of (str, fold) to float
        By task and fold.
    """
    shares = (splits["n_test"] / _trained(splits)).astype(float)
    return dict(zip(zip(splits["task"].astype(str), splits["fold"], strict=True), shares, strict=True))


def _trained(splits: pd.DataFrame) -> pd.Series:
    return splits["n_distinct"].fillna(splits["n_train"]) if "n_distinct" in splits else splits["n_train"]


def ratios(splits: pd.DataFrame) -> dict[str, float]:
    """Find the test rows per training row of each task.

    Parameters
    ----------
    splits : DataFrame
        task, n_train, n_test, and n_distinct where training rows repeat, which make no test row cheaper.

    Returns
    -------
    dict of str to float
        Medians over splits.
    """
    share = (splits["n_test"] / _trained(splits)).groupby(splits["task"]).median()
    return {str(task): float(value) for task, value in share.items()}


def _mark_filled(found: pd.DataFrame, means: pd.DataFrame, column: str, others: Any = ()) -> pd.DataFrame:
    """Say of each learner, or pair of them, on how many tasks the scores of a fallback are in a mean."""
    filled = {label: set(tasks) for label, tasks in means.attrs["filled"].items() if tasks}
    if not filled:
        return found
    second = [others] * len(found) if isinstance(others, str) else list(others) or [None] * len(found)
    out = found.copy()
    out["filled"] = [
        len(filled.get(a, set()) | filled.get(b, set())) for a, b in zip(found[column], second, strict=True)
    ]
    return out


def _correlated_t(measure: str, rope: float) -> summary.Pairs:
    sign = 1 if greater_is_better(measure) else -1

    def test(known: Any, ratio: float) -> tuple:
        return bayes.correlated_t(sign * known, ratio=ratio, rope=rope)

    return summary.Pairs(["p_better", "p_equal", "p_worse"], test)


def _known(against: str, means: pd.DataFrame) -> str:
    if against not in means.columns:
        raise ConfigError(f"Unknown learner {against!r}. {did_you_mean(against, means.columns)}")
    return against


def _friedman(means: pd.DataFrame, other: str, *, greater: bool, level: float, rope: float) -> pd.DataFrame:
    return comparison.rank_differences(means, other, greater=greater, level=level)


def _wilcoxon(means: pd.DataFrame, other: str, *, greater: bool, level: float, rope: float) -> pd.DataFrame:
    return comparison.signed_ranks(means, other, greater=greater)


def _bayes_signed_rank(means: pd.DataFrame, other: str, *, greater: bool, level: float, rope: float) -> pd.DataFrame:
    found = comparison.signed_ranks(means, other, greater=greater)[["label", "difference", "n"]]
    sign = 1 if greater else -1
    posteriors = [bayes.signed_rank(sign * (means[label] - means[other]), rope=rope) for label in found["label"]]
    columns = pd.DataFrame(posteriors, columns=["p_better", "p_equal", "p_worse"])
    return pd.concat([found[["label", "difference"]], columns, found["n"]], axis="columns")


_OVER_TASKS: dict[str, Callable[..., pd.DataFrame]] = {
    "friedman": _friedman,
    "wilcoxon": _wilcoxon,
    "bayes_signed_rank": _bayes_signed_rank,
}
