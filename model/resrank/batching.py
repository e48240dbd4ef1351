# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Length-sorted batches under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_budget_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """
    Group items of similar length so that each padded batch holds at most `budget` tokens.

    Longest first: an out-of-memory error shows at the first batch, not after an hour. One item over the budget is a
    batch of its own.

    :param lengths: tokens of each item.
    :param budget: most tokens in a batch, padding included.
    :returns: an iterator of index lists; each index occurs once.
    :raises ValueError: when `budget` is not positive.
    """
    if budget <= 0:
        msg = f"the token budget must be positive, got {budget}"
        raise ValueError(msg)
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        if not batch:
            longest = max(1, lengths[index])
        batch.append(index)
    if batch:
        yield batch
