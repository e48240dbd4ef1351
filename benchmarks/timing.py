# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Timing of peers in turns.

1. Every task runs once to warm up.
2. In each round every task runs `calls` times, one call of each task after the other; the round's time of a task is the
   median of its calls. The task that goes first changes from round to round.
3. A ratio is the median over the rounds of the two times of one round, so that a slow minute of the machine cancels.
   Where other processes compete for the cores, compare the best times too: they are the least disturbed.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Task:
    """
    Something to time.

    :param run: does the work and waits for it.
    :param calls: how often in each round; many for what is short.
    """

    run: Callable[[], Any]
    calls: int = 1


@dataclass(frozen=True)
class Timing:
    """
    Times of one task.

    :param rounds: the calls of each round, in milliseconds.
    """

    rounds: tuple[tuple[float, ...], ...]

    @property
    def rounds_ms(self) -> list[float]:
        """
        The usual time of each round.

        :returns: milliseconds.
        """
        return [statistics.median(calls) for calls in self.rounds]

    @property
    def median_ms(self) -> float:
        """
        The usual time.

        :returns: milliseconds.
        """
        return statistics.median(self.rounds_ms)

    @property
    def best_ms(self) -> float:
        """
        The time of the least disturbed call.

        :returns: milliseconds.
        """
        return min(min(calls) for calls in self.rounds)

    def over(self, other: Timing) -> float:
        """
        How many times as long as another task of the same rounds this one took.

        :param other: timed in turns with this one.
        :returns: the median of the rounds' ratios.
        """
        return statistics.median(a / b for a, b in zip(self.rounds_ms, other.rounds_ms, strict=True))

    def to_dict(self) -> dict[str, float]:
        """
        For the report.

        :returns: plain values.
        """
        return {"median_ms": self.median_ms, "best_ms": self.best_ms, "rounds": len(self.rounds)}


def take_turns(tasks: Mapping[Key, Task], rounds: int) -> dict[Key, Timing]:
    """
    Time several tasks.

    :param tasks: by name.
    :param rounds: how often each has its turn.
    :returns: their timings, by name.
    """
    for task in tasks.values():
        task.run()
    keys = list(tasks)
    times: dict[Key, list[tuple[float, ...]]] = {key: [] for key in keys}
    with no_collector():
        for turn in range(rounds):
            start = turn % len(keys)
            calls: dict[Key, list[float]] = {key: [] for key in keys}
            for call in range(max(task.calls for task in tasks.values())):
                for key in keys[start:] + keys[:start]:
                    if call < tasks[key].calls:
                        calls[key].append(milliseconds(tasks[key].run))
            for key in keys:
                times[key].append(tuple(calls[key]))
    return {key: Timing(tuple(values)) for key, values in times.items()}


def milliseconds(run: Callable[[], Any]) -> float:
    """
    Time one call.

    :param run: what to call.
    :returns: milliseconds.
    """
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1_000


@contextmanager
def no_collector() -> Iterator[None]:
    """
    Keep Python's garbage collector out of the measurement.

    :returns: a context.
    """
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
