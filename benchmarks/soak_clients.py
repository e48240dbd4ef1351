# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Clients of the soak run, in a process of their own: `python -m benchmarks.soak_clients` takes a job and tells, in JSON.

First one client sends each request once: what it gets is what is expected from then on. Then each client, a thread with
one connection, sends requests drawn at random until the time is over, and compares.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

# Requests that share a forward pass differ in the last bits of float32; scores go up to about 15.
_TOLERANCE = 1e-4
_SHOWN = 5


@dataclass
class Heard:
    """
    What the clients heard, all together.

    :param answers: (seconds since the start, kind, latency in ms) of each.
    :param wrong: the first answers that were not the expected ones.
    :param wrong_count: how many there were.
    """

    answers: list[tuple[float, str, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, second: float, kind: str, latency_ms: float, problem: str | None) -> None:
        """
        Take note of an answer.

        :param second: since the start.
        :param kind: of the request.
        :param latency_ms: of the answer.
        :param problem: what is wrong with it.
        """
        with self.guard:
            self.answers.append((round(second, 2), kind, round(latency_ms, 2)))
            if problem is not None:
                self.wrong_count += 1
                if len(self.wrong) < _SHOWN:
                    self.wrong.append(f"{kind}: {problem}")


def main() -> dict[str, Any]:
    """
    Do what stdin says: `port`, `clients`, `seconds`, and `requests`.

    Each of these has `kind`, `path`, `body` and `status`. A body that holds `{number}` is new each time, and only its
    status is compared.

    :returns: `answers`, `wrong` and `wrong_count`, as in `Heard`.
    """
    job = json.load(sys.stdin)
    requests = job["requests"]
    alone = _Client(job["port"])
    for number, request in enumerate(requests):
        status, said = alone.send(request, -1 - number)
        if status != request["status"]:
            msg = f"{request['kind']}: expected {request['status']}, got {status}: {said[:300]!r}"
            raise RuntimeError(msg)
        request["expected"] = None if _is_new(request) else _essence(said)
    heard, until = Heard(), time.monotonic() + job["seconds"]
    print("started", file=sys.stderr, flush=True)
    began = time.monotonic()

    def client(place: int) -> None:
        chance, mine = random.Random(place), _Client(job["port"])
        number = place * 10_000_000
        while time.monotonic() < until:
            request, number = chance.choice(requests), number + 1
            started = time.monotonic()
            try:
                status, said = mine.send(request, number)
                problem = _problem(request, status, said)
            except (OSError, http.client.HTTPException) as error:
                problem, mine = f"{type(error).__name__}: {error}", _Client(job["port"])
            ended = time.monotonic()
            heard.add(ended - began, request["kind"], (ended - started) * 1_000, problem)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answers": heard.answers, "wrong": heard.wrong, "wrong_count": heard.wrong_count}


class _Client:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def send(self, request: dict[str, Any], number: int) -> tuple[int, bytes]:
        body = request["body"].replace("{number}", str(number))
        self._connection.request("POST", request["path"], body.encode(), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


def _is_new(request: dict[str, Any]) -> bool:
    return "{number}" in request["body"]


def _problem(request: dict[str, Any], status: int, said: bytes) -> str | None:
    if status != request["status"]:
        return f"expected {request['status']}, got {status}: {said[:200]!r}"
    if request["expected"] is not None and not _same(request["expected"], _essence(said)):
        return f"another answer than alone: {said[:200]!r}"
    return None


def _essence(said: bytes) -> Any:
    """What does not change from time to time."""
    body = json.loads(said)
    if "error" in body:
        return body["error"]
    results = [
        [found.get("id", found.get("index")), found.get("score", found.get("relevance_score"))]
        for found in body["results"]
    ]
    return {"results": results, "answer": body.get("answer"), "confidence": body.get("confidence")}


def _same(expected: Any, found: Any) -> bool:
    if "results" not in expected or "results" not in found:
        return bool(expected == found)
    if len(expected["results"]) != len(found["results"]) or expected["answer"] != found["answer"]:
        return False
    pairs = zip(expected["results"], found["results"], strict=True)
    # Equal ones may change places: scores are compared by place, ids by their score.
    scores = {str(id_): score for id_, score in expected["results"]}
    return (
        all(_close(a[1], b[1]) for a, b in pairs)
        and all(_close(score, scores.get(str(id_), score)) for id_, score in found["results"])
        and _close(expected["confidence"], found["confidence"])
    )


def _close(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else abs(a - b) <= _TOLERANCE


if __name__ == "__main__":
    print(json.dumps(main()))
