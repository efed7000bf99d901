"""Indices: orderings, and what they refuse before compiled code trusts them."""

import pytest
import torch

from carten.ops.index import Index


def test_order_lists_sites_row_by_row():
    index = Index(torch.tensor([2, 0, 2, 0, 1]), 4)
    assert index.order is not None
    assert index.order.tolist() == [1, 3, 4, 0, 2]


def test_sorted_values_need_no_order():
    assert Index(torch.tensor([0, 0, 3]), 4, ascending=True).order is None


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (Index(torch.tensor([0, 4, 1]), 4), "has values from 0 to 4"),
        (Index(torch.tensor([0, -1, 1]), 4), "has values from -1 to 1"),
        (Index(torch.tensor([0, 2, 1]), 4, ascending=True), "not sorted"),
        (Index(torch.tensor([0, 2, 1], dtype=torch.int32), 4), "contiguous int64"),
        (Index(torch.arange(6)[::2], 6), "contiguous int64"),
        (Index(torch.tensor([0, 1]), 4), "has 2 values, expected one for each of 3 sites"),
    ],
)
def test_wrong_indices_are_refused(index, message):
    with pytest.raises(ValueError, match=message):
        index.address(3)


def test_an_index_without_sites_is_fine():
    assert isinstance(Index(torch.empty(0, dtype=torch.int64), 0).address(0), int)


@pytest.mark.parametrize(
    ("index", "right"),
    [
        (Index(torch.tensor([0, 3, 1]), 4), True),
        (Index(torch.tensor([0, 4, 1]), 4), False),
        (Index(torch.tensor([0, -1, 1]), 4), False),
        (Index(torch.tensor([0, 2, 1]), 4, ascending=True), False),
        (Index(torch.tensor([0, 1, 1]), 4, ascending=True), True),
        (Index(torch.empty(0, dtype=torch.int64), 0, ascending=True), True),
    ],
)
def test_what_is_asked_on_a_gpu_without_waiting(index, right):
    assert bool(index.is_right) == right


def test_pointers_say_where_rows_begin():
    for index in (Index(torch.tensor([2, 0, 2, 0, 4]), 6), Index(torch.tensor([0, 0, 2, 2, 4]), 6, ascending=True)):
        assert index.pointers.tolist() == [0, 2, 2, 4, 4, 5, 5]
