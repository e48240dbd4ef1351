# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Windows: every candidate scored, scores comparable, the first stage's order at safe start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resrank.windows import score_in_windows, window_sizes


def alone(score):
    return lambda windows: [score(rows) for rows in windows]


def test_a_list_that_fits_is_one_pass_in_input_order() -> None:
    passes: list[list[int]] = []

    def score(rows: np.ndarray) -> np.ndarray:
        passes.append(rows.tolist())
        return np.array([5.0, 7.0, 6.0], dtype=np.float32)

    scores = score_in_windows(np.array([1.0, 3.0, 2.0], dtype=np.float32), 3, 2, alone(score))
    assert passes == [[0, 1, 2]]
    assert scores.tolist() == [5.0, 7.0, 6.0]


def test_by_hand() -> None:
    # By prior: 4 2 0 5 1 3. First window 4 2 0 5, anchors at ranks 0 and 3: candidates 4 and 5.
    prior = np.array([30, 11, 40, 10, 50, 20], dtype=np.float32)
    answers = {(4, 2, 0, 5): [8.0, 1.0, 2.0, 4.0], (4, 5, 1, 3): [3.0, 1.0, 2.5, -1.0]}
    passes = []

    def score(rows: np.ndarray) -> np.ndarray:
        passes.append(tuple(rows.tolist()))
        return np.array(answers[passes[-1]], dtype=np.float32)

    scores = score_in_windows(prior, 4, 2, alone(score))
    assert passes == list(answers)
    # The anchors' mean is 6 in the first window and 2 in the second: shift by 4, the anchors keep their first score.
    assert scores.tolist() == [2.0, 6.5, 1.0, 3.0, 8.0, 4.0]


@given(st.integers(1, 60), st.integers(2, 12), st.integers(1, 20), st.integers(0, 10_000), st.floats(-5, 5, width=32))
def test_an_additive_scorer_gives_one_pass_scores(
    total: int, window: int, anchors: int, seed: int, drift: float
) -> None:
    """A constant added to each window, whatever it is, must cancel: scores of different windows are comparable."""
    rng = np.random.default_rng(seed)
    prior, truth = rng.standard_normal((2, total)).astype(np.float32)
    seen: list[int] = []
    calls = 0

    def score(rows: np.ndarray) -> np.ndarray:
        nonlocal calls
        assert len(rows) <= window or total <= window
        assert len(set(rows.tolist())) == len(rows)
        seen.extend(rows.tolist())
        calls += 1
        return truth[rows] + np.float32(drift) * (calls - 1)

    scores = score_in_windows(prior, window, anchors, alone(score))
    assert set(seen) == set(range(total))
    np.testing.assert_allclose(scores, truth, atol=1e-4)


def test_only_anchors_are_scored_twice() -> None:
    counts = np.zeros(23, dtype=int)

    def score(rows: np.ndarray) -> np.ndarray:
        counts[rows] += 1
        return np.zeros(len(rows), dtype=np.float32)

    score_in_windows(np.linspace(1, 0, 23).astype(np.float32), 8, 3, alone(score))
    # 8 first, then 5 new ones in each of 3 more windows; anchors at ranks 0, 4 (of 3.5) and 7 are in all 4.
    assert counts.tolist() == [4 if i in {0, 4, 7} else 1 for i in range(23)]


def test_equal_priors_keep_input_order() -> None:
    passes: list[list[int]] = []

    def score(rows: np.ndarray) -> np.ndarray:
        passes.append(rows.tolist())
        return np.zeros(len(rows), dtype=np.float32)

    score_in_windows(np.zeros(5, dtype=np.float32), 3, 1, alone(score))
    assert passes == [[0, 1, 2], [0, 3, 4]]


def test_anchors_never_fill_the_window() -> None:
    widths: list[int] = []

    def score(rows: np.ndarray) -> np.ndarray:
        widths.append(len(rows))
        return np.zeros(len(rows), dtype=np.float32)

    score_in_windows(np.arange(10, dtype=np.float32), 4, 100, alone(score))
    assert widths == [4, 4, 4, 4]  # 4 candidates, then 2 anchors and 2 new ones


def test_a_window_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="ranking 3 candidates in windows of 1 needs a window of at least 2"):
        score_in_windows(np.zeros(3, dtype=np.float32), 1, 1, alone(np.zeros_like))


@pytest.mark.parametrize(
    ("total", "window", "anchors"), [(0, 8, 2), (5, 8, 2), (8, 8, 2), (9, 8, 2), (40, 8, 3), (41, 7, 99)]
)
def test_window_sizes_are_those_of_the_passes(total, window, anchors):
    seen = []

    def score(rows):
        seen.append(len(rows))
        return np.zeros(len(rows), dtype=np.float32)

    score_in_windows(np.zeros(total, dtype=np.float32), window, anchors, alone(score))
    assert window_sizes(total, window, anchors) == [size for size in seen if size]
