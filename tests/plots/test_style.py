from __future__ import annotations

import pytest

from torchstrata.plots import style


def test_looks_differ_even_when_colours_are_used_up():
    looks = style.looks(range(30))
    assert len({tuple(look.values()) for look in looks.values()}) == 30


@pytest.mark.parametrize(("n", "width", "columns"), [(1, 7, 1), (5, 7, 3), (5, 3.5, 1), (2, 7, 2)])
def test_panels_fit_beside_each_other(n, width, columns):
    figure, axes = style.panels(n, width=width, height=1, narrowest=2.2)
    assert len(axes) == n and len(figure.axes) == n
    assert len({round(axis.get_position().x0, 3) for axis in axes}) == columns


def test_nothing_is_cut_off_when_a_name_is_wrapped():
    name = "averyveryverylongname_without_any_blank and more"
    assert style.wrap(name, width=10).replace("\n", "").replace(" ", "") == name.replace(" ", "")
    assert style.wrap("", width=10) == ""


def test_long_titles_make_the_figure_higher_and_not_the_panels_smaller():
    tall = [style.titled_panels([name] * 3, width=7, height=2, narrowest=2.2)[0] for name in ("a", "long name " * 9)]
    assert tall[1].get_figheight() > tall[0].get_figheight() + 0.2
    heights = []
    for figure in tall:
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.85 * heights[0]


def test_a_long_legend_makes_the_figure_higher():
    figure = style.new_figure(3.35, 2)
    figure.subplots()
    style.legend_above(figure, [style.line("black")] * 20, [f"a rather long name {i}" for i in range(20)])
    figure.draw_without_rendering()  # a layout that collapses warns, and a warning is an error here
    assert figure.get_figheight() > 4
