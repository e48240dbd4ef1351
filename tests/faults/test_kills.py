# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
kill -9 of server and indexer at random moments.

A client of a killed server gets the right answer or none; the next server gives the same answers; what an indexer
acknowledged in between is there. (`tests/pipelines/test_kill.py` kills indexers alone.)
"""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from .processes import Resrank, wait_for

pytestmark = pytest.mark.slow

CLIENTS, ROUNDS = 4, 2
ACKNOWLEDGED = re.compile(r"Embedding passages: (\d+) of")
WORDS = ("paragraph 3", "word5 word6", "file 1", "the end of word9", "a question that nothing answers")
TOLERANCE = 1e-4  # requests that share a pass differ in the last bits


class Clients:
    """Threads that ask a server the same questions again and again, and check each answer."""

    def __init__(self, url: str, expected: dict[str, Any]) -> None:
        self._url, self._expected = url, expected
        self._stop = threading.Event()
        self.answers, self.wrong, self.lost = 0, [], 0
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._stop.is_set():
                query = chance.choice(WORDS)
                try:
                    response = client.post("/v1/search", json={"query": query, "top_k": 5})
                except httpx.TransportError:
                    with self._guard:
                        self.lost += 1
                    time.sleep(0.05)
                    continue
                with self._guard:
                    self.answers += 1
                    if response.status_code != 200 or not same(results(response), self._expected[query]):
                        self.wrong.append((query, response.text))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def results(response: httpx.Response) -> list[tuple[str, float]]:
    return [(found["id"], found["score"]) for found in response.json()["results"]]


def same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> bool:
    if len(found) != len(expected):
        return False
    scores = dict(expected)
    close = all(abs(a[1] - b[1]) <= TOLERANCE for a, b in zip(found, expected, strict=True))
    # Equal ones may change places.
    return close and all(id_ not in scores or abs(score - scores[id_]) <= TOLERANCE for id_, score in found)


def ask_all(server: Resrank) -> dict[str, Any]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return {query: results(client.post("/v1/search", json={"query": query, "top_k": 5})) for query in WORDS}


class Place:
    """A store, its files, and the commands that use them."""

    def __init__(self, folder: Path, model: Path, reader: Path, start: Callable[..., Resrank]) -> None:
        self.files, self.store = folder / "files", folder / "store"
        self._start = start
        self._at = ["--store", str(self.store), "--model", str(model), "--dtype", "float32"]
        self._reader = ["--reader", str(reader)]

    def serve(self) -> Resrank:
        return self._start("serve", "--port", "0", *self._at, *self._reader)

    def index(self) -> Resrank:
        return self._start("index", str(self.files), *self._at)


@pytest.fixture
def place(resrank, tmp_path, tiny_mini_checkpoint, tiny_reader_folder, write_files):
    made = Place(tmp_path, tiny_mini_checkpoint, tiny_reader_folder, resrank)
    write_files(made.files, 3)
    indexer = made.index()
    assert indexer.ended() == 0, indexer.log
    return made


def kill_server_under_load(place: Place, chance: random.Random) -> None:
    server = place.serve().ready()
    expected = ask_all(server)
    clients = Clients(server.url, expected)
    wait_for(lambda: clients.answers > CLIENTS, server)
    time.sleep(chance.random() * 0.5)
    server.kill()
    wait_for(lambda: clients.lost)
    clients.stop()
    assert server.exit_code == -signal.SIGKILL, server.log
    assert not clients.wrong, clients.wrong[:3]
    starting = place.serve()  # and one that has hardly begun
    time.sleep(chance.random())
    starting.kill()
    again = place.serve().ready()
    for query, answer in ask_all(again).items():
        assert same(answer, expected[query]), query
    again.kill()


def kill_indexer(place: Place, chance: random.Random) -> int:
    """How many passages it had acknowledged."""
    indexer, wanted = place.index(), chance.randrange(3)
    wait_for(lambda: len(ACKNOWLEDGED.findall(indexer.log)) >= wanted or indexer.exit_code is not None)
    time.sleep(chance.random() * 0.2)
    indexer.kill()
    assert indexer.exit_code in (0, -signal.SIGKILL), indexer.log
    return max(map(int, ACKNOWLEDGED.findall(indexer.log)), default=0)


@pytest.mark.timeout(900)
def test_server_and_indexer_are_killed_again_and_again(place, contents, write_files):
    chance = random.Random()
    there = contents(place.store)
    for number in range(ROUNDS):
        kill_server_under_load(place, chance)
        assert contents(place.store) == there
        write_files(place.files, 9, f"round{number}")  # 144 passages: two acknowledgements
        acknowledged = kill_indexer(place, chance)
        found = contents(place.store)
        assert there.items() <= found.items(), "an acknowledged document was lost"
        assert len(found) >= len(there) + acknowledged
        indexer = place.index()
        assert indexer.ended() == 0, indexer.log
        there = contents(place.store)
        by_file = Counter(path for _, _, path in there.values())
        assert set(by_file) == set(map(str, place.files.iterdir()))
        assert len(set(by_file.values())) == 1  # all files are alike
