# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank-eval rag` with the real components and a reader that has learnt nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank.reader import ReaderConfig, new_reader
from resrank_evals import cli
from resrank_evals.answer_results import read_all_answers, write_answers
from resrank_evals.environment import weights_hash

GOLD = {"q0": ["datetime.strptime"], "q1": [], "q2": ["Paris"], "q3": ["Alexander Fleming", "Fleming"]}


@pytest.fixture
def beir(write_beir: Callable[..., Path], tmp_path: Path, corpus: tuple[str, ...], queries: tuple[str, ...]) -> Path:
    passages = {f"c{n}": text for n, text in enumerate(corpus)}
    texts = {f"q{n}": text for n, text in enumerate(queries)}
    folder = write_beir(
        tmp_path / "data" / "small", passages, texts, {f"q{n}": {f"c{n}": 1} for n in range(len(texts))}
    )
    (folder / "answers.jsonl").write_text(
        "".join(json.dumps({"_id": id_, "answers": gold}) + "\n" for id_, gold in GOLD.items())
    )
    return folder


@pytest.fixture(scope="module")
def reader(mini_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny-reader"
    new_reader(str(mini_encoder_folder), ReaderConfig(64, 16, 16, 5)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def resrank_eval(tmp_path: Path, tiny_safe_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RESRANK_MODEL", str(tiny_safe_checkpoint))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("RESRANK_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: str) -> Any:
        return runner.invoke(cli.app, list(arguments), catch_exceptions=False)

    return run


def test_ranks_reads_and_publishes(resrank_eval, beir, reader, tmp_path):
    command = ("rag", str(beir), "--reader", reader, "-s", "bm25", "-s", "dense", "--budget", "8, 16,32")
    done = resrank_eval(*command)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    for text in ("F1@16", "bm25", "gold passage", "no context", "bounds, neither ranked", "Cost of reading 16 tokens"):
        assert text in shown
    told = " ".join(done.stderr.split())
    assert "small: 1 queries have no gold answer: left out" in told
    assert "small: answers from dense: F1@16 0." in told
    results = tmp_path / ".resrank" / "results"
    name = f"answers-tiny-reader-{weights_hash(reader)[:6]}"
    rows = list(csv.DictReader((results / f"{name}.csv").open(encoding="utf-8")))
    assert {row["system"] for row in rows} == {"bm25", "dense", "gold passage", "no context"}
    assert all(row["queries"] == "3" for row in rows)
    assert {row["system"] for row in csv.DictReader((results / "results.csv").open())} == {"bm25", "dense"}
    kept = json.loads((results / "small" / "bm25" / f"{name}.json").read_text())
    assert kept["answers"]["q3"]["gold"] == ["Alexander Fleming", "Fleming"]
    again = resrank_eval(*command, "--json")
    results_shown = json.loads(again.stdout)["results"]
    assert [each["system"] for each in results_shown] == ["bm25", "dense", "gold passage", "no context"]
    assert "answers" not in results_shown[0]
    assert "4 of 4 results were there already" in resrank_eval(*command).stdout


def test_rankings_of_ir_are_used_and_other_measures_shown(resrank_eval, beir, reader, tmp_path):
    assert resrank_eval("ir", str(beir), "-s", "bm25", "--queries", "3").exit_code == 0
    result = tmp_path / ".resrank" / "results" / "small" / "bm25" / "result.json"
    before = result.stat().st_mtime_ns
    command = ("rag", str(beir), "--reader", reader, "-s", "bm25", "--queries", "3", "--budget", "16")
    done = resrank_eval(*command, "--measure", "answer in context@16", "--baseline", "bm25")
    assert done.exit_code == 0, done.output
    assert "answer in context@16" in done.stdout
    assert result.stat().st_mtime_ns == before
    assert resrank_eval(*command, "--measure", "no answer@16").exit_code == 0


def test_rankings_with_other_measures_are_kept(resrank_eval, beir, reader, tmp_path):
    measures = ("--measures", "RR@5", "--measure", "RR@5")
    assert resrank_eval("ir", str(beir), "-s", "bm25", *measures).exit_code == 0
    result = tmp_path / ".resrank" / "results" / "small" / "bm25" / "result.json"
    before = result.read_bytes()
    done = resrank_eval("rag", str(beir), "--reader", reader, "-s", "bm25", "--budget", "16")
    assert done.exit_code == 0, done.output
    assert result.read_bytes() == before
    resrank_eval("ir", str(beir), "-s", "bm25")
    assert "nDCG@10" in json.loads(result.read_text())["means"], "whoever wants measures gets them"


def test_a_baseline_is_one_that_the_reader_has_answered_from(resrank_eval, beir, reader, tmp_path):
    """A ranking is not enough: there would be nothing to compare with, after all the work."""
    assert resrank_eval("ir", str(beir), "-s", "dense").exit_code == 0
    command = ("rag", str(beir), "--reader", reader, "--budget", "16", "--baseline", "dense")
    refused = resrank_eval(*command, "-s", "bm25")
    assert refused.exit_code == 1
    assert "(bm25), got 'dense'" in " ".join(refused.stderr.split())
    results = tmp_path / ".resrank" / "results" / "small"
    assert not (results / "bm25").exists()
    assert resrank_eval(*command, "-s", "dense").exit_code == 0
    done = resrank_eval(*command, "-s", "bm25")
    assert done.exit_code == 0, done.output
    assert "worse than dense" in " ".join(done.stdout.split())
    assert resrank_eval(*command, "-s", "bm25", "--budget", "8").exit_code == 1


def test_judgments_of_missing_passages_are_kept_on_request(resrank_eval, beir, reader):
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q0\tnowhere\t1\n")
    assert resrank_eval("ir", str(beir), "-s", "bm25", "--missing-passages", "keep").exit_code == 0
    command = ("rag", str(beir), "--reader", reader, "-s", "bm25", "--budget", "16")
    refused = resrank_eval(*command)
    assert refused.exit_code == 1
    assert "--missing-passages keep" in " ".join(refused.stderr.split())
    done = resrank_eval(*command, "--missing-passages", "keep")
    assert done.exit_code == 0, done.output


def test_answers_of_a_reader_that_is_described_otherwise_are_not_in_the_table(resrank_eval, beir, reader, tmp_path):
    command = ("rag", str(beir), "--reader", reader, "--budget", "16")
    assert resrank_eval(*command, "-s", "bm25", "-s", "dense").exit_code == 0
    (old,) = (each for each in read_all_answers(tmp_path / ".resrank" / "results") if each.system == "dense")
    other = {**old.settings["reader"], "dtype": "another"}
    write_answers(tmp_path / ".resrank" / "results", replace(old, settings={**old.settings, "reader": other}))
    assert "dense" not in resrank_eval(*command, "-s", "bm25").stdout
    assert "dense" in resrank_eval(*command, "-s", "bm25", "-s", "dense").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "many"], "--budget must be numbers of tokens such as 128,256,512, got 'many'"),
        (["--budget", "16,16"], "budgets must be different numbers of tokens from 1 on, got 16, 16"),
        (["--measure", "F1@99"], "--measure must be F1, EM, answer in context or no answer, @ and one of the budgets"),
        (["--measure", "nDCG@128"], "such as F1@128; got 'nDCG@128'"),
        (["--baseline", "elsewhere"], "--baseline must be one of this run's systems"),
        (["--baseline", "gold passage"], "(bm25), got 'gold passage'"),
        (["--reader", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_mistakes_are_one_line(resrank_eval, beir, reader, arguments, message):
    done = resrank_eval("rag", str(beir), "--reader", reader, "-s", "bm25", *arguments)
    assert done.exit_code == 1, done.output
    assert message in " ".join(done.stderr.split())


def test_a_collection_without_gold_answers(resrank_eval, beir, reader):
    (beir / "answers.jsonl").unlink()
    done = resrank_eval("rag", str(beir), "--reader", reader, "-s", "bm25")
    assert done.exit_code == 1
    assert "small has no gold answers: expected" in " ".join(done.stderr.split())
