# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank_evals import cli


@pytest.fixture
def beir(write_beir: Callable[..., Path], tmp_path: Path, corpus: tuple[str, ...], queries: tuple[str, ...]) -> Path:
    passages = {f"c{n}": text for n, text in enumerate(corpus)}
    texts = {f"q{n}": text for n, text in enumerate(queries)}
    return write_beir(tmp_path / "data" / "small", passages, texts, {f"q{n}": {f"c{n}": 1} for n in range(len(texts))})


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


def test_measures_the_four_systems_and_writes_everything(resrank_eval, beir, tmp_path):
    done = resrank_eval("ir", str(beir))
    assert done.exit_code == 0, done.output
    for system in ("bm25", "dense", "rrf", "resrank"):
        assert system in done.stdout
        assert f"small: {system}: nDCG@10" in done.stderr
    results = tmp_path / ".resrank" / "results"
    assert "nDCG@10" in (results / "report.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((results / "results.csv").open(encoding="utf-8")))
    assert {row["system"] for row in rows} == {"bm25", "dense", "rrf", "resrank"}
    again = resrank_eval("ir", str(beir))
    assert "4 of 4 results were there already and were kept." in again.stdout


def test_json_is_one_document(resrank_eval, beir, monkeypatch):
    monkeypatch.setenv("RESRANK_DATA", str(beir.parent))
    done = resrank_eval("ir", "-s", "bm25", "--queries", "2", "--json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["results"]
    assert (result["system"], result["collection"]) == ("bm25", "small")
    assert set(result["means"]) == {"nDCG@10", "RR@10", "R@100", "AP", "P@1"}
    assert "per_query" not in result


def test_a_system_can_be_added_and_compared_with_what_is_there(resrank_eval, beir):
    resrank_eval("ir", str(beir), "-s", "dense")
    added = resrank_eval("ir", str(beir), "-s", "rrf", "--baseline", "dense")
    assert added.exit_code == 0, added.output
    assert "worse than dense" in " ".join(added.stdout.split())
    wrong = resrank_eval("ir", str(beir), "-s", "rrf", "--baseline", "dens")
    assert wrong.exit_code == 1
    assert "--baseline must be one of this run's systems or of those in" in " ".join(wrong.stderr.split())


def test_cut_and_blank_passages_are_told(resrank_eval, beir):
    with (beir / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"_id": "long", "text": "word " * 2_000}) + "\n" + json.dumps({"_id": "e", "text": ""}) + "\n"
        )
    done = resrank_eval("ir", str(beir), "-s", "dense")
    assert "small: 1 passages are longer than the model reads and were cut, 1 are blank" in " ".join(
        done.stderr.split()
    )
    page = Path(".resrank/results/report.html").read_text(encoding="utf-8")
    assert "Some passages were longer than the encoder reads and were cut: 1 of small." in page


def test_what_was_measured_before_an_error_is_in_the_report(resrank_eval, beir, tmp_path):
    (tmp_path / "bad.trec").write_text("q0 Q0 nowhere 1 1.0 x\n")
    done = resrank_eval("ir", str(beir), "-s", "bm25", "-s", "run:bad.trec")
    assert done.exit_code == 1
    assert "1 results are no passages of small" in " ".join(done.stderr.split())
    assert "bm25" in (tmp_path / ".resrank" / "results" / "report.html").read_text(encoding="utf-8")


def test_report_shows_what_is_stored(resrank_eval, beir, tmp_path):
    resrank_eval("ir", str(beir), "-s", "bm25", "-s", "dense", "--out", "there")
    done = resrank_eval("report", "there", "--measure", "AP", "--baseline", "dense", "--out", "page.html")
    assert done.exit_code == 0, done.output
    assert "better, ▼ worse than dense" in " ".join(done.stdout.split())
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ir"], "name a collection, e.g. a BEIR folder, or set RESRANK_DATA"),
        (["ir", "nowhere"], "expected a folder in BEIR layout"),
        (["ir", "{beir}", "-s", "bm26"], "unknown system 'bm26'"),
        (["ir", "{beir}", "--measures", "nope"], "unknown measure 'nope'"),
        (["ir", "{beir}", "--measures", "AP"], "--measure must be one of AP, got 'nDCG@10'"),
        (["ir", "{beir}", "--split", "dev"], "dev"),
        (["ir", "{beir}", "--model", "nowhere/at-all"], "nowhere/at-all"),
        (["report", "nothing-here"], "holds no results"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(resrank_eval, beir, arguments, message):
    done = resrank_eval(*(each.replace("{beir}", str(beir)) for each in arguments))
    assert done.exit_code == 1, done.output
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


@pytest.mark.slow
@pytest.mark.parametrize("systems_done", [1, 2, 3])
def test_kill_9_loses_at_most_one_system(resrank_eval, beir, tiny_safe_checkpoint, systems_done):
    command = [sys.executable, "-c", "from resrank_evals.cli import main; main()", "ir", str(beir)]
    environment = {**os.environ, "RESRANK_MODEL": str(tiny_safe_checkpoint), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    told = 0
    for line in process.stderr:
        told += "nDCG@10" in line
        if told == systems_done:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = resrank_eval("ir", str(beir))
    assert again.exit_code == 0, again.output
    kept = re.search(r"(\d) of 4 results were there already", again.stdout)
    assert kept is not None
    assert int(kept[1]) >= systems_done
