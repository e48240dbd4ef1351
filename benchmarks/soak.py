# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
`python -m benchmarks.soak`: hours of mixed requests against `resrank serve`.

The server runs in a process of its own, the clients in another. Every answer is compared with the one that the same
request got alone at the start; memory and latency are followed from one interval to the next. What drifts, leaks.

* Memory: the server's resident set, sampled each second. Its drift is the median of the last tenth of the time after
  warming up (a tenth of the run) over the median of the first, less one.
* Latency: medians and 95th percentiles of the last third of the time after warming up over those of the first.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .outcome import Bar, Outcome
from .passages import QUERIES, documents, texts_of_words
from .served import Served, index, serving
from .settings import Settings

_MIB = 1024 * 1024
_WARM_UP = 0.1  # of the time
_MOST_DRIFT = 0.05

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    minutes: Annotated[float, typer.Option(min=0.05, help="How long the clients ask.")] = 30.0,
    clients: Annotated[int, typer.Option(min=1, help="How many there are at once.")] = 32,
    quick: Annotated[bool, typer.Option("--quick", help="A small store, to see that it runs.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ….")] = "cpu",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file; default in benchmarks/results/.")] = None,
) -> None:
    """
    Load a server for a while, and look for wrong answers and for drift. The exit code is 1 when an answer was wrong.
    """
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from .environment import describe
    from .report import RESULTS, Report

    settings = Settings(quick, device, dtype)
    path = out if out is not None else RESULTS / f"soak-{device.replace(':', '')}{'-quick' if quick else ''}.json"
    console = Console(width=None if sys.stdout.isatty() else 120)
    chosen = {"minutes": minutes, "clients": clients, "quick": quick, "device": device, "dtype": dtype}
    report = Report(path, describe(settings), chosen, console)
    report.show_environment()
    started = time.perf_counter()
    outcome = run(settings, minutes, clients)
    report.add("soak", outcome, time.perf_counter() - started)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)
    if outcome.results["wrong_count"]:
        raise typer.Exit(1)


def run(settings: Settings, minutes: float, clients: int) -> Outcome:
    """
    Run server and clients.

    :param settings: of the run.
    :param minutes: how long the clients ask.
    :param clients: how many there are.
    :returns: rows by interval, drifts, and wrong answers.
    """
    passages = documents(settings.pick(1_000, 30), small=settings.quick)
    requests = _requests(settings)
    job = {"clients": clients, "seconds": minutes * 60, "requests": requests}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        index(f"{folder}/store", settings, passages)
        with serving(settings, f"{folder}/store") as served:
            heard, memory = _asked(served, job)
    return _outcome(minutes, clients, heard, memory, {"passages": len(passages), "requests": len(requests)})


def _requests(settings: Settings) -> list[dict[str, Any]]:
    """Each kind as often as it is to be drawn."""
    texts = texts_of_words(40, 20, small=settings.quick)
    made: list[dict[str, Any]] = []

    def add(kind: str, path: str, body: Any, status: int = 200) -> None:
        content = body if isinstance(body, str) else json.dumps(body)
        made.append({"kind": kind, "path": path, "body": content, "status": status})

    for place, query in enumerate(QUERIES):
        add("search", "/v1/search", {"query": query, "top_k": 10})
        add("search", "/v1/search", {"query": f"{query} again", "top_k": 50})
        add("search, new query", "/v1/search", {"query": f"{query} {{number}}"})
        add("rerank", "/v1/rerank", {"query": query, "documents": texts[place : place + 10]})
        add("ask", "/v1/ask", {"query": f"{query}?"})
    add("rerank", "/v1/rerank", {"query": QUERIES[0], "documents": texts, "return_documents": True})
    add("rerank, new texts", "/v1/rerank", {"query": QUERIES[1], "documents": [f"{t} {{number}}" for t in texts[:10]]})
    add("bad", "/v1/search", '{"query": ', 400)
    add("bad", "/v1/search", {"query": " "}, 422)
    add("bad", "/v1/rerank", {"query": "a", "documents": ["b"] * 1_001}, 422)
    add("bad", "/v1/search", {"query": "a", "filters": {"field": "meta.a", "operator": "?", "value": 1}}, 422)
    return made


def _asked(served: Served, job: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """What the clients heard, and (second, MiB) of the server."""
    import psutil

    server, memory = psutil.Process(served.pid), []
    clients = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert clients.stdin is not None
    assert clients.stdout is not None
    assert clients.stderr is not None
    clients.stdin.write(json.dumps({**job, "port": served.port}))
    clients.stdin.close()
    first = clients.stderr.readline()
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(clients.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    began = time.monotonic()
    while clients.poll() is None:
        memory.append((time.monotonic() - began, server.memory_info().rss / _MIB))
        time.sleep(min(1.0, job["seconds"] / 60))
    reader.join()
    if clients.returncode:
        msg = f"the clients failed: {first}{clients.stderr.read()}"
        raise RuntimeError(msg)
    heard: dict[str, Any] = json.loads(said[0])
    return heard, memory


def _outcome(
    minutes: float, clients: int, heard: dict[str, Any], memory: list[tuple[float, float]], sizes: dict[str, int]
) -> Outcome:
    seconds = minutes * 60
    length = min(60.0, seconds / 6)
    table = Table(title=f"{clients} clients, intervals of {length:g} s", title_justify="left")
    for name in ("from s", "requests", "requests/s", "p50 ms", "p95 ms", "RSS MiB", "peak"):
        table.add_column(name, justify="right")
    rows = []
    for number in range(int(seconds // length)):
        begin, end = number * length, (number + 1) * length
        row = {"from_s": begin, **_row(heard["answers"], memory, begin, end), "seconds": length}
        rows.append(row)
        table.add_row(
            f"{begin:.0f}",
            str(row["requests"]),
            f"{row['requests'] / length:.1f}",
            f"{row['p50_ms']:.0f}",
            f"{row['p95_ms']:.0f}",
            f"{row['rss_mib']:.1f}",
            f"{row['rss_peak_mib']:.1f}",
        )
    warm = seconds * _WARM_UP
    tenth, third = (seconds - warm) / 10, (seconds - warm) / 3
    early, late = _row(heard["answers"], memory, warm, warm + tenth), _row([], memory, seconds - tenth, seconds)
    first = _row(heard["answers"], memory, warm, warm + third)
    last = _row(heard["answers"], memory, seconds - third, seconds)
    drift = {
        "memory": _drift(early["rss_mib"], late["rss_mib"]),
        "p50": _drift(first["p50_ms"], last["p50_ms"]),
        "p95": _drift(first["p95_ms"], last["p95_ms"]),
    }
    kinds = Table(title="by kind", title_justify="left")
    for name in ("kind", "requests", "p50 ms", "p95 ms"):
        kinds.add_column(name, justify="left" if name == "kind" else "right")
    by_kind = {}
    for kind in dict.fromkeys(each[1] for each in heard["answers"]):
        row = _row([each for each in heard["answers"] if each[1] == kind], memory, 0.0, float("inf"))
        by_kind[kind] = {key: row[key] for key in ("requests", "p50_ms", "p95_ms")}
        kinds.add_row(kind, str(row["requests"]), f"{row['p50_ms']:.0f}", f"{row['p95_ms']:.0f}")
    return Outcome(
        title=f"resrank serve for {minutes:g} minutes",
        sizes={**sizes, "clients": clients, "minutes": minutes},
        results={
            "intervals": rows,
            "kinds": by_kind,
            "drift": drift,
            "answers": len(heard["answers"]),
            "wrong_count": heard["wrong_count"],
            "wrong": heard["wrong"],
        },
        shown=[table, kinds, *heard["wrong"]],
        bars=[
            Bar("answers that were not those given alone, or failed", heard["wrong_count"], "<=", 0),
            Bar("drift of the server's memory after warming up", drift["memory"], "<=", _MOST_DRIFT),
        ],
        notes=[
            f"p50 {_signed(drift['p50'])}, p95 {_signed(drift['p95'])}: the last third after warming up over the first",
            "clients take a share of the same cores",
        ],
    )


def _row(answers: list[Any], memory: list[tuple[float, float]], begin: float, end: float) -> dict[str, float]:
    latencies = sorted(latency for second, _, latency in answers if begin <= second < end)
    resident = [mib for second, mib in memory if begin <= second < end]
    return {
        "requests": len(latencies),
        "p50_ms": statistics.median(latencies) if latencies else 0.0,
        "p95_ms": latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))] if latencies else 0.0,
        "rss_mib": statistics.median(resident) if resident else 0.0,
        "rss_peak_mib": max(resident, default=0.0),
    }


def _drift(first: float, last: float) -> float:
    return last / first - 1 if first else 0.0


def _signed(share: float) -> str:
    return f"{share * 100:+.1f} %"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.soak")
