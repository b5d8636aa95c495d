"""tuning() and settings(): what a search tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from torchstrata.errors import DataError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import is_missing, short_names, write_value

_KEYS = ("task", "label", "trial", "value", "best", "note")


def tuning(
    trials: pd.DataFrame | Mapping[str, Any], *, measure: str = "score", greater: bool = True,
    width: float = style.PAGE,
) -> Plot:  # fmt: skip
    """Draw the value of every trial of a search, and the best one so far.

    Parameters
    ----------
    trials : DataFrame or mapping
        One row a trial in the order of the search: ``value`` (NaN where it failed), and optionally ``trial`` (its
        number), ``task`` and ``label`` (of several searches), ``note`` (which folds the value is not of; such
        trials are hollow). Or ``cv_results_`` of a search of scikit-learn.
    measure : str
        What the values are, for the axis.
    greater : bool
        Whether a larger value is better.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, trial, value and best (so far), then the settings.

    Raises
    ------
    DataError
        If there are no trials, or none has a value.

    Examples
    --------
    >>> import pandas as pd
    >>> tuning(pd.DataFrame({"value": [0.25, 0.75, 0.5]})).table[["trial", "value", "best"]]
       trial  value  best
    0      0   0.25  0.25
    1      1   0.75  0.75
    2      2   0.50  0.75
    """
    drawn = _trials(trials, greater)
    with style.style():
        return _draw_history(drawn, measure, width)


def settings(
    trials: pd.DataFrame | Mapping[str, Any], *, columns: Sequence[str] | None = None, measure: str = "score",
    greater: bool = True, width: float = style.PAGE,
) -> Plot:  # fmt: skip
    """Draw each trial of a search as a line through its settings, coloured by its value, the best one thick.

    Parameters
    ----------
    trials : DataFrame or mapping
        As for :func:`tuning`, with a column for each setting (``param_<name>`` in ``cv_results_``).
    columns : sequence of str, optional
        The settings to draw; by default all that vary.
    measure : str
        What the values are, for the scale.
    greater : bool
        Whether a larger value is better.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, trial, value and best, then the settings.

    Raises
    ------
    DataError
        If there are no trials, none has a value, or no setting varies.
    """
    drawn = _trials(trials, greater)
    found = [c for c in drawn.columns if c not in _KEYS]
    for name in columns or ():
        if name not in found:
            raise DataError(f"The trials have no setting {name!r}. {did_you_mean(name, found)}")
    shown = list(columns or [c for c in found if len(drawn[c].map(_text).unique()) > 1])
    if not shown:
        raise DataError(f"No setting varies over the trials, so there is nothing to draw; settings: {found}.")
    with style.style():
        return _draw_settings(drawn, shown, measure, greater, width)


def _trials(given: pd.DataFrame | Mapping[str, Any], greater: bool) -> pd.DataFrame:
    table = given.copy() if isinstance(given, pd.DataFrame) else pd.DataFrame(dict(given))
    if "value" not in table and "mean_test_score" in table:  # cv_results_
        names = {c: c.removeprefix("param_") for c in table.columns if c.startswith("param_")}
        table = table[[*names, "mean_test_score"]].rename(columns={**names, "mean_test_score": "value"})
    if "value" not in table:
        raise DataError(f"The trials have no column 'value'. {did_you_mean('value', table.columns)}")
    value = pd.to_numeric(table["value"]).astype(float)
    value = value.where(np.isfinite(value))  # a trial that diverged has failed
    if not value.notna().any():
        raise DataError("No trial has a value: expected one row a trial, with a number in 'value'.")
    keys = pd.DataFrame(
        {name: table[name].astype(str) if name in table else "" for name in ("task", "label")}, index=table.index
    )
    groups = [keys["task"], keys["label"]]
    trial = table["trial"] if "trial" in table else value.isna().groupby(groups, sort=False).cumcount()
    front = keys.assign(trial=trial, value=value)
    front = front.iloc[np.argsort(front["trial"].to_numpy(), kind="stable")]
    by = front.groupby(["task", "label"], sort=False)["value"]
    front["best"] = (by.cummax() if greater else by.cummin()).groupby([front["task"], front["label"]]).ffill()
    rest = table[[c for c in table.columns if c not in _KEYS]]
    front["note"] = table["note"].fillna("").astype(str) if "note" in table else ""
    return front.join(rest).reset_index(drop=True)


def _draw_history(drawn: pd.DataFrame, measure: str, width: float) -> Plot:
    facets = list(drawn.groupby("task", sort=False))
    narrowest = 2.6 if len(facets) > 1 else 3.0
    columns = style.n_columns(len(facets), width, narrowest)
    titles = [str(task) for task, _ in facets]
    figure, axes = style.titled_panels(titles, width=width, height=2.3, narrowest=narrowest)
    looks = style.looks(drawn["label"])
    for axis, (_, rows) in zip(axes, facets, strict=True):
        for label, each in rows.groupby("label", sort=False):
            look = looks[label]
            known = each[each["value"].notna()]
            whole, part = known[known["note"] == ""], known[known["note"] != ""]
            axis.plot(whole["trial"], whole["value"], ls="", ms=3, mew=0, alpha=0.55, **look)
            axis.plot(part["trial"], part["value"], ls="", ms=3.5, mew=0.8, mfc="none", **look)
            axis.step(each["trial"], each["best"], where="post", color=look["color"], lw=1.4)
            lost = each.loc[each["value"].isna(), "trial"]
            if len(lost):
                axis.plot(lost, np.zeros(len(lost)), "x", ms=3.5, mew=0.8, color=look["color"], clip_on=False,
                          transform=axis.get_xaxis_transform())  # fmt: skip
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.grid(axis="y")
    style.label_outside(axes, columns, "trial", measure)
    partial = bool((drawn["value"].notna() & (drawn["note"] != "")).any())
    _legend_of_history(figure, looks, failed=bool(drawn["value"].isna().any()), partial=partial)
    return Plot(figure, axes, drawn)


def _legend_of_history(figure: Any, looks: dict[Any, dict[str, Any]], *, failed: bool, partial: bool) -> None:
    named = {name: look for name, look in looks.items() if name} if len(looks) > 1 else {}
    ink = style.INK if named else style.PALETTE[0]
    handles = [style.line(look["color"], marker=look["marker"]) for look in named.values()]
    handles += [Line2D([], [], ls="", marker="o", ms=3, mew=0, color=ink, alpha=0.55), style.line(ink)]
    handles += [Line2D([], [], ls="", marker="x", ms=3.5, mew=0.8, color=ink)] if failed else []
    handles += [Line2D([], [], ls="", marker="o", ms=3.5, mew=0.8, mfc="none", color=ink)] if partial else []
    names = [*map(str, named), "a trial", "the best so far", *(["a failed trial"] if failed else [])]
    names += ["some folds failed"] if partial else []
    style.legend_above(figure, handles, names)


def _text(value: Any) -> str:
    return "not set" if is_missing(value) else write_value(value)


def _heights(values: pd.Series) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Put the values of a setting between 0 and 1; return that, and what to write where."""
    numbers = pd.to_numeric(values.where(~values.map(lambda v: isinstance(v, bool)), "no number"), errors="coerce")
    known = numbers.to_numpy(dtype=float)
    if not np.isfinite(known).all() or len(np.unique(known)) < 2:
        names = sorted(set(values.map(_text)))
        at = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        return values.map(_text).map(at).to_numpy(dtype=float), [(y, name) for name, y in at.items()]
    log = known.min() > 0 and known.max() / known.min() >= 10
    scaled = np.log(known) if log else known
    span = np.ptp(scaled)
    y = (scaled - scaled.min()) / span
    ticks = np.unique(known) if len(np.unique(known)) <= 6 else _ticks(known, log=log)
    places = ((np.log(ticks) if log else ticks) - scaled.min()) / span
    return y, [(float(p), f"{t:.3g}") for p, t in zip(places, ticks, strict=True)]


def _ticks(known: np.ndarray, *, log: bool) -> np.ndarray:
    low, high = known.min(), known.max()
    inner = 10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(high)) if log else MaxNLocator(4).tick_values(low, high)
    inner = np.asarray(inner)[:: max(1, len(inner) // 5)]
    return inner[(inner >= low) & (inner <= high)]


def _draw_settings(drawn: pd.DataFrame, shown: list[str], measure: str, greater: bool, width: float) -> Plot:
    facets = list(drawn.groupby(["task", "label"], sort=False))
    figure = style.new_figure(width, 2.5 * len(facets))
    axes = list(figure.subplots(len(facets), 1, squeeze=False).ravel())
    colors = matplotlib.colormaps["cividis" if greater else "cividis_r"]
    for axis, ((task, label), rows) in zip(axes, facets, strict=True):
        known = rows[rows["value"].notna()]
        if not len(known):
            axis.axis("off")
            axis.set_title("every trial failed")
            continue
        scale = Normalize(known["value"].min(), known["value"].max())
        _draw_lines(axis, known, shown, colors, scale, greater)
        _write_axes(axis, known, shown, width)
        axis.set_title(style.wrap(": ".join(filter(None, map(str, (task, label)))), width=style.letters(width)))
        bar = figure.colorbar(ScalarMappable(scale, colors), ax=axis, pad=0.02, aspect=25)
        bar.set_label(measure)
        bar.outline.set_visible(False)
    return Plot(figure, axes, drawn)


def _draw_lines(
    axis: Axes, known: pd.DataFrame, shown: list[str], colors: Any, scale: Normalize, greater: bool
) -> None:
    y = np.column_stack([_heights(known[c])[0] for c in shown])
    y = y if y.shape[1] > 1 else np.repeat(y, 2, axis=1)  # one setting alone: lines across
    value = known["value"].to_numpy()
    order = np.argsort(value if greater else -value)  # the better ones on top
    for i in order[:-1]:
        axis.plot(range(y.shape[1]), y[i], color=colors(scale(value[i])), lw=0.9, alpha=0.7)
    axis.plot(range(y.shape[1]), y[order[-1]], color=style.PALETTE[1], lw=2.2, marker="o", ms=3.5, zorder=4,
              label="the best")  # fmt: skip
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)


def _name(text: str, letters: int) -> str:
    return style.wrap(text.replace("_", "_ "), width=letters).replace("_ ", "_")  # broken after an underscore


def _write_axes(axis: Axes, known: pd.DataFrame, shown: list[str], width: float) -> None:
    names = short_names(shown)
    letters = max(7, int(11 * width / max(2, len(shown))) - 3)
    axis.set_xticks(range(len(shown)), [_name(names[c], letters) for c in shown])
    axis.tick_params(length=0)
    axis.set_yticks([])
    axis.set(ylim=(-0.05, 1.05), xlim=(-0.1, max(1, len(shown) - 1) + 0.35))
    axis.spines[:].set_visible(False)
    for i, column in enumerate(shown):
        axis.axvline(i, color=style.QUIET, lw=0.7, zorder=0)
        for place, text in _heights(known[column])[1]:
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
            shown_ = text if len(text) <= letters else f"{text[: letters - 1]}…"
            axis.annotate(shown_, (i, place), (3, 0), textcoords="offset points", fontsize=6.5, va="center", bbox=box,
                          zorder=5)  # fmt: skip
