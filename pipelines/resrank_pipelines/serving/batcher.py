# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Requests that come at once share forward passes.

A worker thread takes what waits in a lane, up to the lane's budget, and runs it together. It never waits for more to
come: while its pass runs, the next one's share gathers. So a request that is alone loses nothing.

* Items of one job may go in several passes, and jobs of one lane take turns item by item: a large job does not hold up
  small ones.
* Lanes take turns, too, and several workers take from the same lanes.
* When a shared pass fails, each job's items are run by themselves: an error belongs to the job that made it.
* A job that was abandoned is left out from its next pass on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .errors import AbandonedError


@dataclass(frozen=True)
class Lane:
    """
    Work of one kind.

    :param run: takes items and gives one result each, in order. Called in a worker's thread.
    :param budget: most cost of one pass; a single item may cost more.
    """

    run: Callable[[list[Any]], Sequence[Any]]
    budget: int


@dataclass(eq=False)
class _Job:
    items: Sequence[Any]
    costs: Sequence[int]
    abandoned: Callable[[], bool]
    future: Future[list[Any]] = field(default_factory=Future)
    taken: int = 0
    missing: int = 0
    results: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = len(self.items)
        self.results = [None] * len(self.items)

    def fail(self, error: BaseException) -> None:
        self.taken = len(self.items)
        if not self.future.done():
            self.future.set_exception(error)

    def put(self, position: int, result: Any) -> None:
        self.results[position] = result
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(self.results)


class Batcher:
    """
    Runs jobs of several lanes on a few threads.

    :param lanes: by name.
    :param observe: called before each pass with the lane's name, how many items and how many jobs share it.
    :param workers: passes at once, each in a thread of its own.
    :param begin: called before each pass in its thread: whether it is alone, that is, of one job while no other job
        runs or waits.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        observe: Callable[[str, int, int], None] | None = None,
        *,
        workers: int = 1,
        begin: Callable[[bool], None] | None = None,
    ) -> None:
        self._lanes = dict(lanes)
        self._observe = observe or (lambda *_: None)
        self._begin = begin or (lambda _: None)
        self._waiting: dict[str, deque[_Job]] = {name: deque() for name in lanes}
        self._turns = deque(lanes)
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"resrank-passes-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self,
        lane: str,
        items: Sequence[Any],
        costs: Sequence[int],
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[Any]:
        """
        Do a job and wait for it.

        :param lane: its name.
        :param items: any number.
        :param costs: of each, in the unit of the lane's budget.
        :param abandoned: whether nobody waits any more.
        :returns: one result an item, in order.
        :raises AbandonedError: when the job was left out.
        :raises RuntimeError: after `close`.
        """
        job = _Job(items, costs, abandoned)
        if not items:
            return []
        with self._changed:
            if self._closed:
                msg = "the server is shutting down"
                raise RuntimeError(msg)
            self._waiting[lane].append(job)
            self._changed.notify()
        return job.future.result()

    def close(self) -> None:
        """
        Finish what waits and stop.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (found := self._next()):
                    if self._closed:
                        return
                    self._changed.wait()
                alone = not self._running and not any(self._waiting.values())
                self._running += 1
            name, taken = found
            jobs = len({id(job) for job, _ in taken})
            self._observe(name, len(taken), jobs)
            self._begin(alone and jobs == 1)
            self._pass(self._lanes[name], taken)
            with self._changed:
                self._running -= 1

    def _next(self) -> tuple[str, list[tuple[_Job, int]]] | None:
        """What the lane whose turn it is has for a pass. The caller holds the condition."""
        for name in list(self._turns):
            if taken := self._take(name, self._lanes[name].budget):
                self._turns.remove(name)
                self._turns.append(name)
                return name, taken
        return None

    def _take(self, name: str, budget: int) -> list[tuple[_Job, int]]:
        """The next pass: jobs give one item each in turn. The caller holds the condition."""
        jobs, cost = self._waiting[name], 0
        taken: list[tuple[_Job, int]] = []
        while jobs:
            job = jobs[0]
            if job.abandoned():
                jobs.popleft().fail(AbandonedError())
                continue
            if job.taken >= len(job.items):  # failed in an earlier pass
                jobs.popleft()
                continue
            cost += job.costs[job.taken]
            if taken and cost > budget:
                break
            taken.append((job, job.taken))
            job.taken += 1
            jobs.popleft()
            if job.taken < len(job.items):
                jobs.append(job)
        return taken

    def _pass(self, lane: Lane, taken: list[tuple[_Job, int]]) -> None:
        jobs = list(dict.fromkeys(job for job, _ in taken))
        try:
            results = lane.run([job.items[position] for job, position in taken])
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].fail(error)
                return
            for alone in jobs:
                self._pass(lane, [(job, position) for job, position in taken if job is alone])
            return
        for (job, position), result in zip(taken, results, strict=True):
            job.put(position, result)
