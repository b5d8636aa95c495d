import datetime

import numpy as np
import pandas as pd
import pytest
import torch

import torchstrata as ts
from torchstrata.learner.targets import (
    check_lengths,
    number_labels,
    read_classes,
    read_labels,
    read_numbers,
    read_weights,
)


def test_classes_are_sorted_and_numbered():
    labels = read_labels(["b", "a", "b"])
    classes = read_classes(labels)
    assert classes.tolist() == ["a", "b"] and number_labels(labels, classes).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, "a", 1], r"Mix of label input types \(string and number\)"),
        (np.array([1, "a"], dtype=object), "Mix of label input types"),
        (["a", None], r"Input y contains NaN \(1 missing labels, first rows \[1\]\); drop these rows"),
        (["a", float("nan")], "Input y contains NaN"),
        ([1.0, np.nan], "Input y contains NaN"),
        ([1.0, np.inf], r"Input y contains infinity \(inf\) in row 1"),
        (np.ma.array([1, 0, 1], mask=[0, 1, 0]), "Input y contains NaN"),
        (pd.Series([1, None], dtype="Int64"), "Input y contains NaN"),
        (np.ones((3, 2)), r"y should be a 1d array, got an array of shape \(3, 2\)"),
    ],
)
def test_labels_that_cannot_be_read(y, message):
    with pytest.raises(ValueError, match=message):
        read_labels(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", "a"]), r"y has one class \(\['a'\]\); classification needs at least 2 classes"),
        (np.array([0.5, 1.5]), "Unknown label type: continuous"),
        (np.array([f"id {i}" for i in range(60)]), "60 classes for 60 rows; is it an identifier"),
        (np.array([1j, 2j]), "Complex|complex|Unknown label"),
    ],
)
def test_labels_that_are_no_classes(y, message):
    with pytest.raises(ValueError, match=message):
        read_classes(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", "b"], "y holds text.*TorchRegressor needs numbers, TorchClassifier takes labels"),
        (["1.5", "2.5"], "y holds text"),
        (pd.Series(["a", "b"]), "y holds text"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "y holds times"),
        (np.array([1j, 2.0]), "Complex data not supported"),
        ([1.0, np.nan], "Input y contains NaN"),
        ([1.0, None], "Input y contains NaN"),
        (pd.Series([1.0, pd.NA], dtype="Float64"), "Input y contains NaN"),
        (pd.DataFrame({"p": [1.0, 2], "q": pd.Series([None, 2], dtype=object)}), "Input y contains NaN"),
        ([1.0, "a"], "no numbers"),
        ([1.0, np.inf], "Input y contains infinity"),
        (np.zeros((2, 2, 2)), "dim 3"),
    ],
)
def test_numbers_that_cannot_be_read(y, message):
    with pytest.raises(ValueError, match=message):
        read_numbers(y)


def test_numbers():
    assert read_numbers([1, 2]).dtype == np.float64
    assert read_numbers(torch.tensor([1.5, 2.5], dtype=torch.bfloat16, requires_grad=True)).tolist() == [1.5, 2.5]
    assert read_numbers(pd.Series([True, False])).tolist() == [1, 0]
    assert read_numbers(np.asfortranarray(np.ones((3, 2)))).flags.c_contiguous


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"sample_weight.shape == \(3,\), expected \(4,\)"),
        (np.ones((4, 2)), "Sample weights must be 1D"),
        ([1, 1, 1, -1], "Negative values in data passed to `sample_weight`"),
        ([1, 1, 1, np.nan], "Input sample_weight contains NaN"),
        ([1, 1, 1, np.inf], "Input sample_weight contains infinity"),
        ([0, 0, 0, 0], "at least one non-zero number"),
    ],
)
def test_weights_that_cannot_be_used(weight, message):
    with pytest.raises(ValueError, match=message):
        read_weights(weight, np.zeros((4, 1)))


def test_indexes_must_agree():
    X = pd.DataFrame({"a": [1, 2]}, index=[7, 8])
    with pytest.raises(ts.DataError, match=r"different indexes \(first difference at position 0: .*7.* vs .*3"):
        check_lengths(X, pd.Series([0, 1], index=[3, 8]), None)
    check_lengths(X, pd.Series([0, 1], index=[7, 8]), None)
    check_lengths(X, np.array([0, 1]), None)
    with pytest.raises(TypeError):
        check_lengths(X, iter([0, 1]), None)


def test_dates_are_labels_of_no_regression():
    with pytest.raises(ValueError, match=r"no numbers: .*datetime.date"):
        read_numbers([datetime.date(2020, 1, 1)] * 3)
