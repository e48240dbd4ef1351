# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The vectors of the last queries: retriever and ranker of one request encode the same query once."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .encoder import Float32Array

# 1,024 vectors of 384 dimensions take 1.5 MB; far more than the requests that are in flight at once.
CAPACITY = 1_024


class QueryMemory:
    """
    A small cache, least recently used out first. It forgets everything when the weights change.

    Not safe for threads: the model calls it under its lock.

    :param capacity: most queries.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, tuple[Float32Array, int]] = OrderedDict()
        self._version = -1

    def get(self, query: str, encoder: nn.Module) -> tuple[Float32Array, int] | None:
        """
        Look a query up.

        :param query: its exact text.
        :param encoder: whose vectors are remembered.
        :returns: a copy of the (d,) vector and the number of tokens that were cut, or `None`.
        """
        # In-place updates, as optimizers and load_state_dict make them, count up a parameter's version.
        version = sum(parameter._version for parameter in encoder.parameters())
        if version != self._version:
            self._known.clear()
            self._version = version
        found = self._known.get(query)
        if found is None:
            return None
        self._known.move_to_end(query)
        return found[0].copy(), found[1]

    def put(self, query: str, vector: Float32Array, cut_tokens: int) -> None:
        """
        Remember a query that `get` has just missed.

        :param query: its exact text.
        :param vector: (d,) float32.
        :param cut_tokens: tokens that were cut off it.
        """
        self._known[query] = (vector.copy(), cut_tokens)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """
        Forget all.
        """
        self._known.clear()
