import datetime
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import torchstrata as ts
from torchstrata.data.encode import Shapes


def number(values, test=None, **settings):
    encoder = ts.Encoder(**settings).fit(pd.DataFrame({"a": values}))
    return encoder.transform(pd.DataFrame({"a": values if test is None else test}))["number"][:, 0]


# numbers


def test_median_and_quartiles_by_hand():
    np.testing.assert_allclose(number([0, 1, 2, 3, 10.0], clip=None), (np.array([0, 1, 2, 3, 10]) - 2) / 2)


def test_smooth_clip():
    z = (np.array([0, 1, 2, 3, 1000.0]) - 2) / 2
    np.testing.assert_allclose(number([0, 1, 2, 3, 1000.0]), z / np.sqrt(1 + (z / 3) ** 2))
    assert np.abs(number([0, 1, 2, 3, 1e30], clip=0.5)).max() <= 0.5


def test_missing_values_become_the_median():
    assert number([1, 2, None, 4, 9], test=[None, 3.0, 1.0])[0] == number([1, 2, None, 4, 9], test=[3.0])[0] == 0


def test_half_the_range_where_quartiles_agree():
    np.testing.assert_allclose(number([0.0] * 9 + [4.0], test=[4.0], clip=None), 2.0)


@pytest.mark.parametrize("values", [[3.0] * 5, [3.0, None, 3.0, 3.0, None], [None] * 5])
def test_a_column_that_does_not_vary_is_dropped_and_stays_dropped(values):
    train = pd.DataFrame({"a": [1.0, 2, 3, 4, 5], "b": pd.Series(values, dtype=float)})
    encoder = ts.Encoder().fit(train)
    assert encoder.dropped_features_ == ["b"] and encoder.number_names_ == ["a"]
    wild = train.assign(b=[1e6, -1e6, 0, np.inf, 5])
    np.testing.assert_array_equal(encoder.transform(wild)["number"], encoder.transform(train)["number"])


def test_no_column_varies():
    with pytest.raises(ts.DataError, match=r"no feature varies in these 3 rows: \['a'\]"):
        ts.Encoder().fit(pd.DataFrame({"a": [1, 1, 1]}))


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 3e38])
@pytest.mark.parametrize("clip", [3.0, None])
def test_tiny_and_huge_scales_stay_finite_in_float32(scale, clip):
    out = number(scale * np.array([0.0, 0.25, 0.5, 1.0]), test=[0.0, scale, 3e38, -3e38], clip=clip)
    assert np.isfinite(out.astype(np.float32)).all()


def test_booleans_are_numbers():
    assert np.unique(number([True, False, False, True])).size == 2
    np.testing.assert_array_equal(number([True, False, False, True], test=[1, 0]), number([1, 0, 0, 1], test=[1, 0]))
    assert ts.Encoder().fit(pd.DataFrame({"a": [True, None, False]})).kinds_ == {"a": "boolean"}


@pytest.mark.parametrize(
    "dtype", ["int8", "int64", "uint8", "float16", "float32", "Int64", "Float32", "boolean", "int64[pyarrow]", object]
)
def test_storage_does_not_matter(dtype):
    values = pd.Series([0, 1, 1, 0, 1, 0, 0])
    np.testing.assert_allclose(number(values.astype(dtype)), number(values.astype(float)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.inf, r"contains infinity \(inf\): column 'a' \(row 1\)"),
        (-np.inf, "infinity"),
        (1e300, r"column 'a' has values beyond float32 \(first 1e\+300, row 1\); rescale"),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_numbers_that_cannot_be_used(value, message, constant):
    bad = pd.DataFrame({"a": [value if constant else 1.0, value, value if constant else 3.0], "b": [1, 2, 3]})
    if constant:
        message = message.replace("row 1", "rows 0, 1, 2")
        message = message.replace(r"\)", "", 0)
    with pytest.raises(ts.DataError, match=message.split(r" \(row")[0].split(", row")[0]):
        ts.Encoder().fit(bad)
    if not constant:
        with pytest.raises(ts.DataError, match=message):
            ts.Encoder().fit(bad.assign(a=[1.0, 2.0, 3.0])).transform(bad)


# categories


def test_levels_unknown_and_missing():
    train = pd.DataFrame({"c": ["u", "v", None, "u"]})
    encoder = ts.Encoder().fit(train)
    assert encoder.levels_ == {"c": ["u", "v", None]} and encoder.shapes_.levels == (4,)
    test = pd.DataFrame({"c": ["v", "new", None, "u", np.nan]})
    assert encoder.transform(test)["category"][:, 0].tolist() == [2, 0, 3, 1, 3]
    assert encoder.transform(test)["category"].dtype == np.int64


def test_missing_is_unknown_where_training_rows_had_none():
    encoder = ts.Encoder().fit(pd.DataFrame({"c": ["u", "v"]}))
    assert encoder.transform(pd.DataFrame({"c": [None, "v"]}))["category"][:, 0].tolist() == [0, 2]
    assert encoder.transform(pd.DataFrame({"c": [None, None]}))["category"][:, 0].tolist() == [0, 0]
    assert encoder.transform(pd.DataFrame({"c": [np.nan, np.nan]}))["category"][:, 0].tolist() == [0, 0]


def test_a_table_of_categories_alone():
    table = pd.DataFrame({"c": ["u", "v", "u"], "k": [1.0, 1.0, None]})
    encoder = ts.Encoder().fit(table)
    assert list(encoder.transform(table)) == ["category"] and encoder.dropped_features_ == ["k"]


def test_missing_alone_makes_a_category_vary():
    encoder = ts.Encoder().fit(pd.DataFrame({"c": ["u", None, "u"]}))
    assert encoder.transform(pd.DataFrame({"c": ["u", None]}))["category"][:, 0].tolist() == [1, 2]


def test_categories_are_mapped_by_value():
    train = pd.DataFrame({"c": pd.Categorical(["u", "v", "u"], categories=["v", "u", "unused"])})
    encoder = ts.Encoder().fit(train)
    other = pd.DataFrame({"c": pd.Categorical(["v", "u"], categories=["u", "v"])})
    assert encoder.transform(other)["category"][:, 0].tolist() == [2, 1]
    assert encoder.transform(pd.DataFrame({"c": ["v", "u"]}))["category"][:, 0].tolist() == [2, 1]
    assert encoder.shapes_.levels == (3,)


def test_categories_of_numbers():
    encoder = ts.Encoder().fit(pd.DataFrame({"c": pd.Categorical([10, 9, 10])}))
    codes = encoder.transform(pd.DataFrame({"c": pd.Categorical([10, 9, 8, None])}))["category"][:, 0]
    assert codes.tolist() == [1, 2, 0, 0]


def test_an_identifier_is_refused():
    ids = pd.DataFrame({"id": [f"row {i}" for i in range(30)]})
    with pytest.raises(
        ts.DataError, match=r"'id' has 30 categories \(> max_categories 20\), 100.0% .* drop it or raise"
    ):
        ts.Encoder(max_categories=20).fit(ids)
    assert ts.Encoder(max_categories=30).fit(ids).shapes_.levels == (31,)


@pytest.mark.parametrize("comma", [False, True])
def test_numbers_that_came_as_text_are_refused(comma):
    texts = pd.Series(np.random.default_rng(0).normal(size=40)).map(str)
    table = pd.DataFrame({"b": texts.str.replace(".", ",") if comma else texts})
    with pytest.raises(
        ts.DataError, match=r"'b' is text but looks numeric \(first .*pd.to_numeric.*astype\('category'\)"
    ):
        ts.Encoder().fit(table)
    assert ts.Encoder().fit(table.astype("category")).shapes_.levels == (41,)


def test_few_codes_of_digits_are_categories():
    assert ts.Encoder().fit(pd.DataFrame({"c": ["1", "2", "1"]})).shapes_ == {"category": (1,)}


# datetimes


def test_datetimes_become_five_numbers():
    days = pd.date_range("2020-01-01 03:00", periods=300, freq="31h")
    encoder = ts.Encoder(clip=None).fit(pd.DataFrame({"t": days}))
    assert encoder.shapes_ == {"number": (5,)}
    parts = encoder.transform(pd.DataFrame({"t": days}))["number"]
    for j, values in enumerate([None, days.month, days.day, days.day_of_week, days.hour]):
        if values is not None:
            assert np.corrcoef(parts[:, j], values)[0, 1] > 0.9999
    assert (np.diff(parts[:, 0]) > 0).all()


def test_a_part_of_dates_that_never_changed_stays_zero():
    encoder = ts.Encoder().fit(pd.DataFrame({"t": pd.date_range("2020-01-01", periods=50)}))
    later = encoder.transform(pd.DataFrame({"t": [pd.Timestamp("2020-01-03 23:00")]}))["number"]
    assert later[0, 4] == 0


def test_missing_dates_dates_of_python_and_time_zones():
    table = pd.DataFrame({"t": [pd.Timestamp("2020-01-01"), pd.NaT, pd.Timestamp("2021-05-05")]})
    encoder = ts.Encoder().fit(table)
    assert np.isfinite(encoder.transform(table)["number"]).all()
    wanted = encoder.transform(table)["number"][:1]
    for same in (
        pd.Series([datetime.date(2020, 1, 1)], dtype=object),
        pd.Series([datetime.datetime(2020, 1, 1)], dtype=object),
        pd.Series([pd.Timestamp("2020-01-01 02:00", tz="Etc/GMT-2")]),
    ):
        np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"t": same}))["number"], wanted)


# tables


def mixed(n=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "n": np.where(np.arange(n) % 7 == 0, np.nan, rng.normal(size=n)),
            "b": rng.random(n) > 0.5,
            "c": rng.choice(["u", "v"], n),
            "t": pd.date_range("2020-01-01", periods=n),
        }
    )


def test_a_mixed_table_pandas_polars_arrow():
    table = mixed()
    encoder = ts.Encoder().fit(table)
    assert encoder.kinds_ == {"n": "number", "b": "boolean", "c": "category", "t": "datetime"}
    assert encoder.shapes_ == {"number": (7,), "category": (1,)} and encoder.shapes_.levels == (3,)
    frame = pl.DataFrame({name: table[name].to_list() for name in table}).with_columns(pl.col("n").fill_nan(None))
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(table)
    for other in (frame, arrow):
        for got in (encoder.transform(other), ts.Encoder().fit(other).transform(other)):
            np.testing.assert_allclose(got["number"], encoder.transform(table)["number"], atol=1e-12)
            np.testing.assert_array_equal(got["category"], encoder.transform(table)["category"])


def test_columns_are_taken_by_name():
    table = mixed()
    encoder = ts.Encoder().fit(table)
    shuffled = table[["t", "c", "n", "b"]].assign(more=[[]] * 40)
    np.testing.assert_array_equal(encoder.transform(shuffled)["number"], encoder.transform(table)["number"])
    with pytest.raises(ts.DataError, match=r"columns \['n'\] were there at fit and are missing now"):
        encoder.transform(table.drop(columns="n"))


def test_without_names_columns_are_taken_by_position():
    array = np.random.default_rng(0).normal(size=(10, 2))
    named, bare = pd.DataFrame(array, columns=["p", "q"]), pd.DataFrame(array)
    wanted = ts.Encoder().fit(array).transform(array)["number"]
    for fitted, given in [(array, named), (named, array), (array, bare), (bare, array), (bare, named), (named, bare)]:
        np.testing.assert_array_equal(ts.Encoder().fit(fitted).transform(given)["number"], wanted)
    with pytest.raises(ts.DataError, match="X has 1 features, but Encoder is expecting 2"):
        ts.Encoder().fit(array).transform(array[:, :1])


@pytest.mark.parametrize(
    ("column", "now", "message"),
    [
        ("n", ["text"] * 40, "'n' was number at fit and is category now"),
        ("c", np.arange(40), "'c' was category at fit and is number now"),
        ("t", np.arange(40), "'t' was datetime at fit and is number now"),
    ],
)
def test_a_column_that_changed_its_kind_is_refused(column, now, message):
    with pytest.raises(ts.DataError, match=message):
        ts.Encoder().fit(mixed()).transform(mixed().assign(**{column: now}))


@pytest.mark.parametrize("column", ["n", "b", "c", "t"])
@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
def test_a_column_may_be_all_missing_later(column, nothing):
    encoder = ts.Encoder().fit(mixed())
    out = encoder.transform(mixed().assign(**{column: pd.Series([nothing] * 40, dtype=object)}))
    assert np.isfinite(out["number"]).all()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([b"a", b"b"], "contains bytes; decode it"),
        ([{}, {"a": 1}], "contains dicts"),
        ([[1], [2]], "contains lists"),
        ([1j, 2j], "contains complex.*Complex data not supported"),
        ([datetime.timedelta(1), datetime.timedelta(2)], "total_seconds"),
        ([pd.Period("2020-01"), pd.Period("2020-02")], "to_timestamp"),
        ([pd.Interval(0, 1), pd.Interval(1, 2)], "middle"),
        (["oops", 1.5], r"1 non-numeric value, first 'oops' \(row 0\)"),
    ],
)
def test_cells_of_no_use(cells, message):
    with pytest.raises(ts.DataError, match=f"column 'k'.*{message}"):
        ts.Encoder().fit(pd.DataFrame({"k": pd.Series(cells), "a": [1, 2]}))


def test_odd_names_and_duplicates():
    table = mixed().set_axis(["", "a.b", "größe", "x y"], axis=1)
    assert ts.Encoder().fit(table).transform(table)["number"].shape == (40, 7)
    with pytest.raises(ts.DataError, match="duplicate column names: 'a'"):
        ts.Encoder().fit(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))


def test_only_training_rows_count():
    """Canary: what other rows hold leaves no trace in the fitted encoder."""
    table = mixed()
    one = ts.Encoder().fit(table[:20])
    two = ts.Encoder().fit(pd.concat([table[:20], table[20:].assign(n=1e9, c="canary")])[:20])
    assert pickle.dumps(one.__dict__) == pickle.dumps(two.__dict__)


def test_the_table_stays_as_it_is():
    table = mixed()
    ts.Encoder().fit(table).transform(table)
    pd.testing.assert_frame_equal(table, mixed())


@pytest.mark.parametrize(
    "settings", [{"clip": 0}, {"clip": -1}, {"clip": np.nan}, {"clip": "3"}, {"max_categories": 0}]
)
def test_settings_that_cannot_work(settings):
    with pytest.raises(ts.ConfigError, match=f"Encoder: {next(iter(settings))} must be"):
        ts.Encoder(**settings).fit(mixed())


def test_an_encoder_is_a_scikit_learn_transformer():
    encoder = clone(ts.Encoder(clip=2.0))
    assert encoder.get_params() == {"scaling": "robust", "clip": 2.0, "max_categories": 10_000, "sequences": ()}
    assert repr(encoder) == "Encoder(clip=2.0)"
    with pytest.raises(NotFittedError):
        encoder.transform(mixed())
    fitted = pickle.loads(pickle.dumps(encoder.fit(mixed())))
    np.testing.assert_array_equal(fitted.transform(mixed())["number"], encoder.transform(mixed())["number"])
    assert fitted.shapes_ == encoder.shapes_ and fitted.shapes_.levels == encoder.shapes_.levels
    with pytest.raises(ts.DataError, match="Expected 2D array"):
        ts.Encoder().fit(np.arange(3.0))


def test_shapes_repr():
    assert repr(Shapes({"number": (3,)})) == "Shapes({'number': (3,)})"
    assert repr(Shapes({"category": (1,)}, (3,))) == "Shapes({'category': (1,)}, levels=(3,))"
