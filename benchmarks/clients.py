# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Clients of a server, in a process of their own: `python -m benchmarks.clients` takes a job and tells latencies, in JSON.

Each client is a thread with one connection that sends its next request when the last one is answered.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any

CLIENTS = 32


def main() -> dict[str, Any]:
    """
    Send what stdin says: `port`, `path`, `clients`, and `bodies`, which the clients share out.

    :returns: `seconds` from the first request to the last answer, and `latencies_ms`.
    :raises RuntimeError: when a request is not answered with 200.
    """
    job = json.load(sys.stdin)
    bodies = [json.dumps(body) for body in job["bodies"]]
    latencies: list[float] = []
    failures: list[str] = []
    barrier = threading.Barrier(job["clients"] + 1)

    def client(mine: list[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", job["port"], timeout=600)
        connection.connect()
        barrier.wait()
        for body in mine:
            started = time.perf_counter()
            connection.request("POST", job["path"], body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            said = response.read()
            if response.status != http.client.OK:
                failures.append(said.decode())
            latencies.append((time.perf_counter() - started) * 1_000)
        connection.close()

    threads = [
        threading.Thread(target=client, args=(bodies[number :: job["clients"]],)) for number in range(job["clients"])
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        msg = f"{len(failures)} of {len(bodies)} requests failed: {failures[0]}"
        raise RuntimeError(msg)
    return {"seconds": seconds, "latencies_ms": latencies}


if __name__ == "__main__":
    print(json.dumps(main()))
