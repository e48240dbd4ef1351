# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from resrank_evals.boards import make_board
from resrank_evals.table import costs, leaderboard, results_csv


def shown(table, width=120):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(table)
    return console.file.getvalue()


def test_wide(made):
    cards, results = made
    two = [each for each in results if each.collection in {"scifact", "nfcorpus"}]
    text = shown(leaderboard(cards, two))
    assert "60 of 300 queries" in text
    line = next(line for line in text.splitlines() if "resrank(pool=bm25)" in line)
    assert "▲ [0." in line
    assert max(map(len, text.splitlines())) <= 120
    missing = next(line for line in text.splitlines() if "run:elsewhere" in line)
    assert missing.count("—") == 2
    assert "≠" not in text


def test_falls_back_to_one_row_each(made):
    text = shown(leaderboard(*made, measure="RR@10", baseline="run:elsewhere"))
    assert "w/t/l" in text
    assert "RR@10" in text
    assert max(map(len, text.splitlines())) <= 120
    assert sum("bm25 " in line for line in text.splitlines()) >= 4


def test_one_collection_and_markup(made):
    cards, results = made
    one = [replace(each, system=f"[red]{each.system}[/]") for each in results if each.collection == "scifact"]
    text = shown(leaderboard(cards, one, baseline="[red]bm25[/]"))
    assert "[red]bm25[/]" in text
    assert "mean" not in text


def test_other_queries(made):
    cards, results = made
    results[2] = replace(results[2], per_query=dict(list(results[2].per_query.items())[1:]))
    text = shown(leaderboard(cards, results))
    assert "≠ measured on other queries" in text


def test_errors(made):
    with pytest.raises(ValueError, match="there is nDCG@10"):
        leaderboard(*made, measure="MAP")
    with pytest.raises(ValueError, match="there is bm25"):
        leaderboard(*made, baseline="none")


def test_costs(made):
    text = shown(costs(made[1]))
    assert "400.0" in text
    row = next(line for line in text.splitlines() if "resrank(pool=bm25)" in line)
    assert "30.0" in row
    assert " 112 " in row, "12.5 tokens of the query and 100 slots"
    assert max(map(len, text.splitlines())) <= 120


def test_csv(made):
    rows = list(csv.DictReader(io.StringIO(results_csv(made[1]))))
    assert len(rows) == len(made[1])
    row = next(each for each in rows if (each["system"], each["collection"]) == ("resrank(pool=bm25)", "scifact"))
    result = next(each for each in made[1] if (each.system, each.collection) == ("resrank(pool=bm25)", "scifact"))
    assert float(row["nDCG@10"]) == result.means["nDCG@10"]
    assert row["ceiling nDCG@10"] == "0.93"
    assert row["rerank p95_ms"] == str(result.latency["rerank"].p95_ms)
    assert row["tokens slots"] == "100.0"
    assert row["peak_gpu_memory_mb"] == ""
    assert row["queries"] == "60"


def test_bounds_are_neither_ranked_nor_compared(made):
    cards, results = made
    bounds = frozenset({"resrank(pool=bm25)"})
    board = make_board(results, bounds=bounds)
    plain = make_board(results)
    for collection in board.collections:
        cell, before = (of.cells["resrank(pool=bm25)", collection] for of in (board, plain))
        assert (cell.value, cell.low, cell.high) == (before.value, before.low, before.high)
        assert (cell.best, cell.comparison, cell.comparable) == (False, None, True)
        assert any(
            board.cells[system, collection].best for system in board.systems if (system, collection) in board.cells
        )
    assert board.systems == plain.systems
    assert board.best_means.isdisjoint(bounds)
    # Fewer comparisons are corrected for.
    one, other = (of.cells["dense(all-MiniLM-L6-v2)", "scifact"].comparison for of in (board, plain))
    assert one.p_value == other.p_value
    assert one.p_holm <= other.p_holm
    assert "resrank(pool=bm25): bounds, neither ranked nor compared" in " ".join(
        shown(leaderboard(cards, results, bounds=bounds)).split()
    )
    rest = [each for each in results if each.system in {"run:elsewhere", "bm25"}]
    assert make_board(rest, bounds=frozenset({"bm25"})).baseline == "run:elsewhere"
