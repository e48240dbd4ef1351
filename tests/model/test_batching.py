# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Length-sorted batches under a token budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resrank.batching import token_budget_batches


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 100))
def test_every_index_once_within_budget_longest_first(lengths: list[int], budget: int) -> None:
    batches = list(token_budget_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(lengths, reverse=True)
    for batch in batches:
        assert batch
        padded = max(1, *(lengths[i] for i in batch)) * len(batch)
        assert padded <= budget or len(batch) == 1


def test_by_hand() -> None:
    # 5 alone would leave room for nothing at 8 tokens; 4 + 4; then 2, 1, 1 padded to 2 are 6.
    assert list(token_budget_batches([1, 4, 2, 5, 4, 1], 8)) == [[3], [1, 4], [2, 0, 5]]


def test_one_item_over_the_budget_is_a_batch_of_its_own() -> None:
    assert list(token_budget_batches([3, 100, 3], 6)) == [[1], [0, 2]]


def test_nothing_gives_nothing() -> None:
    assert list(token_budget_batches([], 10)) == []


@pytest.mark.parametrize("budget", [0, -5])
def test_the_budget_must_be_positive(budget: int) -> None:
    with pytest.raises(ValueError, match=f"the token budget must be positive, got {budget}"):
        list(token_budget_batches([1], budget))
