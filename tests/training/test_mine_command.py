# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank-train mine` on collections in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resrank_training import cli
from resrank_training.lists import read_lists


@pytest.fixture
def data(tmp_path: Path, corpus: tuple[str, ...], queries: tuple[str, ...]) -> Path:
    """Two collections in BEIR layout with training judgments, and one without."""
    for name, splits in {"one": ("train", "test"), "two": ("train",), "three": ("test",)}.items():
        folder = tmp_path / "data" / name
        (folder / "qrels").mkdir(parents=True)
        for file, texts in (("corpus", corpus), ("queries", queries)):
            rows = [json.dumps({"_id": f"{file[0]}{n}", "text": text}) for n, text in enumerate(texts)]
            (folder / f"{file}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        for split in splits:
            judged = ["query-id\tcorpus-id\tscore", *(f"q{n}\tc{n}\t1" for n in range(3)), "q0\tgone\t1"]
            (folder / "qrels" / f"{split}.tsv").write_text("\n".join(judged), encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def resrank_train(tmp_path: Path, tiny_safe_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("RESRANK_MODEL", str(tiny_safe_checkpoint))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


def test_the_command_mines_all_collections_with_the_split(resrank_train, data, tmp_path):
    done = resrank_train("mine", str(data), "--out", "lists", "--candidates", "5")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {"one", "two"}
    assert "Training lists" in done.stdout
    assert "two: 1 judged passages are not there or blank; 0 queries without another are left out." in done.stdout
    assert (tmp_path / ".resrank" / "eval-stores").is_dir()
    again = resrank_train("mine", str(data), "--out", "lists", "--candidates", "5", "--json")
    one, two = json.loads(again.stdout)["collections"]
    assert (one["collection"], one["kept"], one["lists"], one["not_found"]) == ("one", True, 3, 1)
    assert two["folder"] == str(Path("lists") / "two")
    assert "one (kept)" in resrank_train("mine", str(data), "--out", "lists", "--candidates", "5").stdout
    refused = resrank_train("mine", str(data), "--out", "lists", "--candidates", "6")
    assert refused.exit_code == 1
    assert "made with candidates 5, not 6" in " ".join(refused.stderr.split())


def test_the_command_takes_all_options(resrank_train, data):
    options = ["--candidates", "4", "--max-score-ratio", "0.9", "--query-form", "keywords", "--queries", "2"]
    more = ["--seed", "1", "--device", "cpu", "--dtype", "float32", "--stores", "s", "--duplicate-ids", "first"]
    done = resrank_train("mine", str(data / "one"), "--out", "o", "--split", "test", *options, *more, "--json")
    assert done.exit_code == 0, done.output
    info = read_lists(Path("o") / "one-keywords").info
    expected = {"candidates": 4, "max_score_ratio": 0.9, "query_form": "keywords", "queries": 2, "seed": 1}
    assert {name: info[name] for name in expected} == expected
    assert (info["split"], info["dtype"], info["list_depth"], info["lists"]) == ("test", "float32", 100, 2)


def test_the_command_derives_other_queries(resrank_train, data):
    corpus = data / "one" / "corpus.jsonl"
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    corpus.write_text("\n".join(json.dumps({**row, "title": f"About {row['_id']}"}) for row in rows), encoding="utf-8")
    done = resrank_train("mine", str(data / "one"), "--out", "o", "--derive", "titles", "--json")
    assert done.exit_code == 0, done.output
    lists = read_lists(Path("o") / "one-titles")
    assert {(each.query_id, each.query) for each in lists.lists} == {(f"c{n}#title", f"About c{n}") for n in range(3)}
    assert all([each.passages[i] for i in each.positives] == [each.query_id[:2]] for each in lists.lists)


def test_the_command_says_what_is_wrong(resrank_train, data):
    twice = resrank_train("mine", str(data / "one"), str(data), "--out", "lists")
    assert twice.exit_code == 1
    assert "collections must have different names, got one more than once" in " ".join(twice.stderr.split())
    ratio = resrank_train("mine", str(data), "--out", "lists", "--max-score-ratio", "2")
    assert "max_score_ratio must be above 0 and at most 1, got 2.0" in " ".join(ratio.stderr.split())
