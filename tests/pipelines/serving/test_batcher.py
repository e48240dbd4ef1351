# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resrank_pipelines.serving.batcher import Batcher, Lane
from resrank_pipelines.serving.errors import AbandonedError


class Passes:
    """A lane whose first pass waits until it is let go, so that others gather."""

    def __init__(self, budget: int = 100) -> None:
        self.seen: list[list[object]] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.observed: list[tuple[str, int, int]] = []
        self.batcher = Batcher({"a": Lane(self.run, budget)}, lambda *what: self.observed.append(what))

    def run(self, items: list[object]) -> list[object]:
        self.seen.append(list(items))
        self.entered.set()
        assert self.go.wait(30)
        if "bad" in items:
            msg = "bad item"
            raise ValueError(msg)
        return [f"<{item}>" for item in items]

    def waiting(self, count: int) -> None:
        while len(self.batcher._waiting["a"]) < count:
            threading.Event().wait(0.001)


@pytest.fixture
def passes():
    made: list[Passes] = []

    def make(**options):
        made.append(Passes(**options))
        return made[-1]

    yield make
    for each in made:
        each.go.set()
        each.batcher.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def occupied(passes, pool):
    """The worker is in a pass; what comes now waits."""
    first = pool.submit(passes.batcher.run, "a", ["first"], [1])
    assert passes.entered.wait(30)
    return first


def test_what_waits_shares_a_pass_in_order(passes, pool):
    lane = passes()
    first = occupied(lane, pool)
    jobs = [pool.submit(lane.batcher.run, "a", [f"{n}a", f"{n}b"], [1, 1]) for n in range(3)]
    lane.waiting(3)
    lane.go.set()
    assert first.result() == ["<first>"]
    for n, job in enumerate(jobs):
        assert job.result() == [f"<{n}a>", f"<{n}b>"]
    assert len(lane.seen) == 2
    assert lane.observed == [("a", 1, 1), ("a", 6, 3)]


def test_large_jobs_do_not_hold_up_small_ones(passes, pool):
    lane = passes(budget=4)
    occupied(lane, pool)
    large = pool.submit(lane.batcher.run, "a", list(range(100)), [1] * 100)
    lane.waiting(1)
    small = pool.submit(lane.batcher.run, "a", ["small"], [1])
    lane.waiting(2)
    lane.go.set()
    assert small.result() == ["<small>"]
    assert large.result() == [f"<{n}>" for n in range(100)]
    assert "small" in lane.seen[1]
    assert max(map(len, lane.seen)) == 4


def test_an_item_over_the_budget_goes_alone(passes, pool):
    lane = passes(budget=4)
    occupied(lane, pool)
    jobs = [pool.submit(lane.batcher.run, "a", [n], [9]) for n in range(2)]
    lane.waiting(2)
    lane.go.set()
    assert [job.result() for job in jobs] == [["<0>"], ["<1>"]]
    assert all(len(seen) == 1 for seen in lane.seen)


def test_an_error_belongs_to_who_made_it(passes, pool):
    lane = passes()
    occupied(lane, pool)
    jobs = [pool.submit(lane.batcher.run, "a", [item, "x"], [1, 1]) for item in ("good", "bad", "fine")]
    lane.waiting(3)
    lane.go.set()
    assert jobs[0].result() == ["<good>", "<x>"]
    assert jobs[2].result() == ["<fine>", "<x>"]
    with pytest.raises(ValueError, match="bad item"):
        jobs[1].result()
    assert lane.batcher.run("a", ["after"], [1]) == ["<after>"]


def test_abandoned_jobs_are_left_out(passes, pool):
    lane = passes(budget=2)
    occupied(lane, pool)
    gone = threading.Event()
    job = pool.submit(lane.batcher.run, "a", ["gone"] * 10, [1] * 10, gone.is_set)
    lane.waiting(1)
    gone.set()
    lane.go.set()
    with pytest.raises(AbandonedError):
        job.result()
    assert ["gone"] not in [seen[:1] for seen in lane.seen]


def test_closing_finishes_what_waits_and_takes_no_more(passes, pool):
    lane = passes()
    occupied(lane, pool)
    job = pool.submit(lane.batcher.run, "a", ["last"], [1])
    lane.waiting(1)
    closing = pool.submit(lane.batcher.close)
    lane.go.set()
    closing.result()
    assert job.result() == ["<last>"]
    with pytest.raises(RuntimeError, match="shutting down"):
        lane.batcher.run("a", ["late"], [1])


def test_workers_run_passes_of_all_lanes_side_by_side(pool):
    together = threading.Barrier(2, timeout=30)

    def run(items):
        together.wait()
        return [threading.current_thread().name for _ in items]

    batcher = Batcher({"a": Lane(run, 1), "b": Lane(run, 1)}, workers=2)
    jobs = [pool.submit(batcher.run, lane, [0, 1], [1, 1]) for lane in ("a", "b")]
    seen = {name for job in jobs for name in job.result()}
    batcher.close()
    assert seen == {"resrank-passes-0", "resrank-passes-1"}


def test_a_pass_knows_whether_it_is_alone(pool):
    alone, entered, go = [], threading.Semaphore(0), threading.Semaphore(0)

    def run(items):
        entered.release()
        assert go.acquire(timeout=30)
        return items

    batcher = Batcher({"a": Lane(run, 4)}, workers=2, begin=alone.append)
    for jobs in ([["first"]], [["second"], ["beside the second"]]):
        given = []
        for job in jobs:
            given.append(pool.submit(batcher.run, "a", job, [9]))
            assert entered.acquire(timeout=30)
        for _ in jobs:
            go.release()
        for job in given:
            job.result()
    batcher.close()
    assert alone == [True, True, False]


def test_workers_end_with_what_waits_done(pool):
    done = []
    batcher = Batcher({"a": Lane(lambda items: [done.append(item) for item in items], 1)}, workers=3)
    jobs = [pool.submit(batcher.run, "a", [n], [1]) for n in range(50)]
    for job in jobs:
        job.result()
    batcher.close()
    assert sorted(done) == list(range(50))
    assert not any(thread.is_alive() for thread in batcher._threads)


def test_no_items_are_no_job(passes):
    assert passes().batcher.run("a", [], []) == []
