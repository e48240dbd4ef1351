# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Many clients of `resrank serve` at once, against one, and against a server whose requests share no forward passes.

Two servers run, one with shared passes and one without. Clients are a process of their own and talk over the loopback.
In each round every kind of load has its turn on both; each request is a new query.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from rich.table import Table

from .clients import CLIENTS
from .outcome import Outcome
from .passages import QUERIES, documents, texts_of_words
from .served import index, serving
from .settings import Settings

_KINDS = {"one": "one client", "many": f"{CLIENTS} clients", "unshared": f"{CLIENTS}, passes not shared"}


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: requests a second and latencies of each load, and the ratios.
    """
    passages = documents(settings.pick(1_000, 30), small=settings.quick)
    loads = _loads(settings)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        index(f"{folder}/shared", settings, passages)
        shutil.copytree(f"{folder}/shared", f"{folder}/unshared")  # a store belongs to one process
        with (
            serving(settings, f"{folder}/shared", "--share-passes") as shared,
            serving(settings, f"{folder}/unshared", "--no-share-passes") as unshared,
        ):
            ports = {"one": shared.port, "many": shared.port, "unshared": unshared.port}
            measured = _measure(settings, loads, ports)
    return _outcome(settings, measured, len(passages), {name: load["count"] for name, load in loads.items()})


def _loads(settings: Settings) -> dict[str, Any]:
    texts = texts_of_words(settings.pick(40, 20), 20, small=settings.quick)

    def load(path: str, count: int, **body: Any) -> dict[str, Any]:
        return {"path": path, "count": settings.pick(count, 8), "body": body}

    return {
        "search": load("/v1/search", 320, top_k=10),
        "rerank 10 texts of 20 words": load("/v1/rerank", 64, documents=texts[:10]),
        f"rerank {len(texts)} texts of 20 words": load("/v1/rerank", 32, documents=texts),
    }


def _measure(settings: Settings, loads: dict[str, Any], ports: dict[str, int]) -> dict[str, dict[str, list[Any]]]:
    measured: dict[str, dict[str, list[Any]]] = {name: {kind: [] for kind in ports} for name in loads}
    number = 0
    for turn in range(settings.pick(3, 2)):  # the first warms up
        for name, load in loads.items():
            for kind, port in ports.items():
                bodies = []
                for _ in range(load["count"] if kind != "one" else max(4, load["count"] // 4)):
                    number += 1
                    bodies.append({"query": f"{QUERIES[number % len(QUERIES)]} {number}", **load["body"]})
                job = {"port": port, "path": load["path"], "bodies": bodies, "clients": 1 if kind == "one" else CLIENTS}
                found = _clients(job)
                if turn:
                    measured[name][kind].append({**found, "requests": len(bodies)})
    return measured


def _clients(job: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.clients"], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"the clients failed: {done.stderr.strip().splitlines()[-1]}"
        raise RuntimeError(msg)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _outcome(
    settings: Settings, measured: dict[str, dict[str, list[Any]]], passages: int, requests: dict[str, int]
) -> Outcome:
    results: dict[str, Any] = {}
    table = Table(title=f"{passages:,} passages in the store", title_justify="left")
    for name in ("load", "clients", "requests/s", "latency p50 ms", "mean ms", "p95 ms"):
        table.add_column(name, justify="left" if name in ("load", "clients") else "right")
    for name, kinds in measured.items():
        rows = {kind: _row(rounds) for kind, rounds in kinds.items()}
        ratios = {
            "many_over_one": _ratio(kinds["many"], kinds["one"]),
            "shared_over_unshared": _ratio(kinds["many"], kinds["unshared"]),
            "p95_over_mean": rows["many"]["p95_ms"] / rows["many"]["mean_ms"],
        }
        results[name] = {**rows, **ratios}
        for kind, row in rows.items():
            table.add_row(
                name if kind == "one" else "",
                _KINDS[kind],
                f"{row['requests_per_s']:.1f}",
                f"{row['p50_ms']:.0f}",
                f"{row['mean_ms']:.0f}",
                f"{row['p95_ms']:.0f}",
            )
        table.add_row(
            "",
            f"[bold]{CLIENTS} / one {ratios['many_over_one']:.2f}, "
            f"shared / not {ratios['shared_over_unshared']:.2f}[/]",
            f"p95 / mean {ratios['p95_over_mean']:.2f}",
            "",
            "",
            "",
        )
        table.add_section()
    return Outcome(
        title=f"resrank serve: {settings.model_name} on {settings.device}",
        sizes={"passages": passages, "requests": requests, "clients": CLIENTS},
        results=results,
        shown=[table],
        notes=["ratios are medians over rounds of requests a second; clients take a share of the same cores"],
    )


def _row(rounds: list[Any]) -> dict[str, float]:
    latencies = sorted(each for found in rounds for each in found["latencies_ms"])
    return {
        "requests_per_s": statistics.median(found["requests"] / found["seconds"] for found in rounds),
        "p50_ms": statistics.median(latencies),
        "mean_ms": statistics.mean(latencies),
        "p95_ms": latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))],
    }


def _ratio(above: list[Any], below: list[Any]) -> float:
    def speed(found: Any) -> float:
        return float(found["requests"] / found["seconds"])

    return statistics.median(speed(a) / speed(b) for a, b in zip(above, below, strict=True))
