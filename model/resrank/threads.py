# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Several batches of a small model at once on a CPU, each on one thread.

Sharing one small forward pass between threads spends a good part of the time on waiting for each other at every
operator: two passes of one thread each get through 1.3 times the tokens of one pass on two threads (`docs/LOG.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain, islice
from types import TracebackType
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

# Above this, the products of one pass are large enough to share, and reading the weights once for all threads pays.
_SMALL_MODEL_PARAMETERS = 100_000_000


class BatchThreads:
    """
    A context manager that runs a function for a group of batches, each on a thread of its own.

    :param model: what the function runs: PyTorch's number of threads at once for a small model on a CPU, else 1.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._pool: ThreadPoolExecutor | None = None

    @cached_property
    def at_once(self) -> int:
        """
        How many batches run side by side.

        :returns: at least 1.
        """
        parameters = list(self._model.parameters())
        small = sum(p.numel() for p in parameters) <= _SMALL_MODEL_PARAMETERS
        return torch.get_num_threads() if small and parameters[0].device.type == "cpu" else 1

    def __enter__(self) -> BatchThreads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def groups(self, batches: Iterable[Item]) -> Iterator[list[Item]]:
        """
        Split batches into groups that fill the threads.

        :param batches: in any number.
        :returns: lists of at most `at_once` batches, in order.
        """
        remaining = iter(batches)
        first = list(islice(remaining, 2))
        if len(first) < 2:  # the usual case of a query: no reason to go through the model's parameters
            yield from [first] if first else []
            return
        remaining = chain(first, remaining)
        while group := list(islice(remaining, self.at_once)):
            yield group

    def map(self, function: Callable[[Item], Result], group: Sequence[Item]) -> list[Result]:
        """
        Run the function for each batch of a group; a single one runs on the caller's thread with all its threads.

        :param function: it says itself whether it needs gradients: that setting belongs to a thread, too.
        :param group: from `groups`.
        :returns: the results in order; what the function raises is raised.
        """
        if len(group) == 1:
            return [function(group[0])]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.at_once, "resrank-batch", torch.set_num_threads, (1,))
        threads = torch.get_num_threads()
        try:
            return list(self._pool.map(function, group))
        finally:
            # The number belongs to a thread, but a new thread inherits the last one that was set anywhere.
            torch.set_num_threads(threads)
