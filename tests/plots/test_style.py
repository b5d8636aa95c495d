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
