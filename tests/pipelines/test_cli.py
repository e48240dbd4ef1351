# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank_pipelines import cli


@pytest.fixture
def resrank(tmp_path: Path, tiny_safe_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with the tiny model and a store of its own; gives the result."""
    monkeypatch.setenv("RESRANK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("RESRANK_MODEL", str(tiny_safe_checkpoint))
    monkeypatch.setenv("COLUMNS", "120")
    runner = CliRunner()

    def run(*arguments: str) -> Any:
        return runner.invoke(cli.app, list(arguments), catch_exceptions=False)

    return run


def test_index_then_search(resrank, source_folder):
    indexed = resrank("index", str(source_folder))
    assert indexed.exit_code == 0, indexed.output
    assert "3 passages written, 0 unchanged, from 3 files" in " ".join(indexed.stdout.split())
    found = resrank("search", "how do I parse a date?", "--top-k", "2")
    assert found.exit_code == 0, found.output
    assert "2 results in" in found.stderr
    assert "how do I parse a date?" in found.stdout


def test_json_is_one_document_on_stdout(resrank, source_folder):
    report = json.loads(resrank("index", str(source_folder), "--json").stdout)
    assert (report["written"], report["total"], report["failures"]) == (3, 3, [])
    answer = json.loads(resrank("search", "capital of France", "--json").stdout)
    assert answer["query"] == "capital of France"
    assert [r["rank"] for r in answer["results"]] == [1, 2, 3]
    assert {"score", "retrieval_rank", "retrieval_score", "id", "content", "meta"} < set(answer["results"][0])
    assert "embedding" not in json.dumps(answer)
    facts = json.loads(resrank("info", "--json").stdout)
    assert facts["store"]["passages"] == 3
    assert facts["store"]["same_model"] is True
    assert facts["model"]["dimension"] == 32


def test_dense_search(resrank, source_folder):
    resrank("index", str(source_folder))
    answer = json.loads(resrank("search", "bread", "--dense", "--json").stdout)
    scores = [r["retrieval_score"] for r in answer["results"]]
    assert scores == sorted(scores, reverse=True)


def test_a_bad_file_makes_exit_code_3_and_the_rest_is_indexed(resrank, source_folder):
    (source_folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    done = resrank("index", str(source_folder))
    assert done.exit_code == 3
    assert "broken.pdf" in done.stderr.replace("\n", "")
    assert "3 passages written" in done.stdout


def test_a_missing_path_alone_is_an_error(resrank, tmp_path):
    done = resrank("index", str(tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert "no such file or folder" in done.stderr


def test_search_without_a_store_says_how_to_make_one(resrank):
    done = resrank("search", "x")
    assert done.exit_code == 1
    assert "resrank index PATH" in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.output


def test_search_on_an_empty_store_says_so(resrank, tmp_path):
    (tmp_path / "empty").mkdir()
    assert resrank("index", str(tmp_path / "empty")).exit_code == 0
    done = resrank("search", "x")
    assert done.exit_code == 0
    assert "holds no passages yet" in " ".join(done.stderr.split())


def test_a_blank_query_is_one_line(resrank, source_folder):
    resrank("index", str(source_folder))
    done = resrank("search", "   ")
    assert done.exit_code == 1
    assert "error: the query is blank" in done.stderr


@pytest.mark.parametrize("query", ["the of and", "🚀", "[bold]x[/bold]", "a" * 5_000])
def test_odd_queries_are_answered(resrank, source_folder, query):
    resrank("index", str(source_folder))
    assert resrank("search", query).exit_code == 0


def test_an_unknown_model_says_what_there_is(resrank):
    done = resrank("info", "--model", "no-such-model")
    assert done.exit_code == 1
    assert "resrank-mini" in done.stderr


def test_wrong_usage_is_exit_code_2(resrank):
    assert resrank("index").exit_code == 2
    assert resrank("search", "x", "--top-k", "0").exit_code == 2


def test_a_store_of_another_dimension_is_refused_and_kept(resrank, source_folder):
    resrank("index", str(source_folder))
    done = resrank("index", str(source_folder), "--model", "resrank-mini")
    assert done.exit_code == 1
    assert "embedding_dim" in done.stderr
    assert json.loads(resrank("info", "--json").stdout)["store"]["passages"] == 3


def test_interrupt_is_one_line_and_exit_code_130(resrank, source_folder, monkeypatch):
    from resrank_pipelines.indexing import Indexer

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Indexer, "write", interrupted)
    done = resrank("index", str(source_folder))
    assert done.exit_code == 130
    assert "running the same command again goes on" in " ".join(done.stderr.split())


def test_version(resrank):
    assert resrank("--version").stdout.strip()


def test_demo_compares_the_systems_and_reuses_what_is_there(resrank, tmp_path, monkeypatch):
    from haystack import Document

    from resrank_pipelines import demo

    passages = [
        Document(
            content=f"def mod.f{n}()\nParses {word} number {n}.", meta={"title": f"mod.f{n}", "file_path": "mod.py"}
        )
        for n, word in enumerate(["dates", "commands", "trees", "lists", "requests", "caches"] * 5)
    ]
    monkeypatch.setattr(demo, "harvest", lambda: passages)
    first = resrank("demo", "--store", str(tmp_path / "demo"))
    assert first.exit_code == 0, first.output
    for name in ("BM25", "dense", "ResRank"):
        assert first.stdout.count(name) >= len(demo.QUESTIONS)
    assert "30 embedded, 0 already stored" in " ".join(first.stdout.split())
    assert "resrank index" in first.stdout
    second = json.loads(resrank("demo", "--store", str(tmp_path / "demo"), "--json").stdout)
    assert (second["index"]["written"], second["index"]["unchanged"]) == (0, 30)
    systems = second["comparisons"][0]["systems"]
    assert all(systems[name]["latency_ms"] > 0 and systems[name]["results"] for name in systems)


def test_names_with_markup_and_the_reason_of_a_failure_are_shown(resrank, source_folder):
    (source_folder / "[draft] [bold].txt").write_bytes(b"\xff\xfe\x80 broken")
    done = resrank("index", str(source_folder))
    assert done.exit_code == 3
    shown = done.stderr.replace("\n", "")
    assert "[draft] [bold].txt" in shown
    assert "codec" in shown


def test_a_device_that_is_not_there_is_one_line(resrank, source_folder):
    done = resrank("index", str(source_folder), "--device", "mps")
    assert done.exit_code == 1
    assert "not available" in done.stderr


def test_demo_gives_as_many_results_as_asked(resrank, tmp_path, monkeypatch):
    from haystack import Document

    from resrank_pipelines import demo

    passages = [Document(content=f"Parses date {n}.", meta={"title": f"f{n}", "file_path": "m.py"}) for n in range(20)]
    monkeypatch.setattr(demo, "harvest", lambda: passages)
    answer = json.loads(resrank("demo", "--store", str(tmp_path / "demo"), "--top-k", "15", "--json").stdout)
    assert len(answer["comparisons"][0]["systems"]["ResRank"]["results"]) == 15


@pytest.mark.parametrize("module", ["resrank_pipelines.cli", "resrank_evals.cli"])
def test_a_command_sends_no_telemetry_unless_asked(module):
    look = f"import {module}; from haystack.telemetry import _telemetry; print(_telemetry.telemetry)"
    environment = {name: value for name, value in os.environ.items() if name != "HAYSTACK_TELEMETRY_ENABLED"}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
