# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Ranking more candidates than fit into one forward pass.

A listwise score depends on the list, so scores of different passes cannot be compared as they are. The strategy:

1. Candidates are ordered by their prior (the first stage's score).
2. The first window holds the best ones. From it, anchors are taken at even ranks.
3. Every later window holds the anchors and the next candidates. Its scores are shifted so that the anchors' mean equals
   their mean in the first window; the anchors keep their first score.

At safe start every shift is zero, so the order is the first stage's, as in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
IntArray = np.ndarray[Any, np.dtype[np.intp]]


def score_in_windows(
    prior: Float32Array, window: int, anchors: int, score: Callable[[list[IntArray]], Sequence[Float32Array]]
) -> Float32Array:
    """
    Score every candidate, in as many passes as needed.

    :param prior: (candidates,) first-stage scores; equal ones are ordered by position.
    :param window: most candidates in one pass.
    :param anchors: candidates of the first window repeated in each later one; lowered to half a window if larger.
    :param score: scores windows, each by itself: takes the indices of their candidates, gives their scores.
    :returns: (candidates,) float32, comparable with each other.
    :raises ValueError: when a window is too small for an anchor and a candidate.
    """
    total = len(prior)
    if total <= window:
        return score([np.arange(total)])[0]
    anchors, parts = _split(total, window, anchors)
    order = np.argsort(-prior, kind="stable")
    first = order[:window]
    anchor_ids = first[np.linspace(0, window - 1, anchors).round().astype(np.intp)]
    later = [order[part] for part in parts]
    scores = np.empty(total, dtype=np.float32)
    # No window waits for another, so that they can share passes.
    scores[first], *passed = score([first, *(np.concatenate([anchor_ids, rest]) for rest in later)])
    for rest, found in zip(later, passed, strict=True):
        shift = np.mean(scores[anchor_ids] - found[:anchors], dtype=np.float64)
        scores[rest] = found[anchors:] + np.float32(shift)
    return scores


def window_sizes(total: int, window: int, anchors: int) -> list[int]:
    """
    How many candidates each pass of `score_in_windows` reads.

    :param total: candidates.
    :param window: as there.
    :param anchors: as there.
    :returns: a number a pass, none without candidates.
    :raises ValueError: as there.
    """
    if total <= window:
        return [total] if total else []
    anchors, parts = _split(total, window, anchors)
    return [window, *(anchors + part.stop - part.start for part in parts)]


def _split(total: int, window: int, anchors: int) -> tuple[int, list[slice]]:
    """How many anchors there are, and which ranks each window after the first adds to them."""
    anchors = min(anchors, window // 2)
    if anchors < 1:
        msg = f"ranking {total} candidates in windows of {window} needs a window of at least 2"
        raise ValueError(msg)
    step = window - anchors
    return anchors, [slice(start, min(start + step, total)) for start in range(window, total, step)]
