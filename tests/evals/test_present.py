# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Answers of an old ranking, and judgments of old answers, do not stand beside what is new."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from resrank_evals.answer_results import Given, answers_path, read_all_answers, read_answers, write_answers
from resrank_evals.command_line import publish
from resrank_evals.judging import read_all_judged
from resrank_evals.present import present
from resrank_evals.report import write_report
from resrank_evals.results import RUN, folder_name, read_results, write_collection


@pytest.fixture
def folder(results_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results_folder, tmp_path / "results"))


def found(folder: Path):
    return present(folder, read_results(folder)[0], read_all_answers(folder), read_all_judged(folder))


def test_all_belongs_together(folder):
    assert found(folder) == type(found(folder))(read_all_answers(folder), read_all_judged(folder), [])


def test_answers_of_an_older_ranking_are_left_out_and_named(folder, capsys):
    (folder / "scifact" / "bm25" / RUN).write_text("q1 Q0 p2 1 2.0 x\n")
    now = found(folder)
    assert {(each.collection, each.system) for each in read_all_answers(folder)} - {
        (each.collection, each.system) for each in now.answers
    } == {("scifact", "bm25")}
    assert now.judged == []
    answers, judged = now.left_out
    assert answers == (
        "Left out: answers of tiny-reader from older rankings (bm25 on scifact). `resrank-eval rag` makes them anew."
    )
    assert "of older answers of tiny-reader (bm25 on scifact). `resrank-eval rag --judge` makes" in judged
    assert publish(folder, folder / "report.html", "nDCG@10", None)[2] == now.answers
    assert answers in " ".join(capsys.readouterr().err.split())
    rows = csv.DictReader((folder / "answers-tiny-reader.csv").open(encoding="utf-8"))
    assert ("scifact", "bm25") not in {(row["collection"], row["system"]) for row in rows}
    for page in (folder / "report.html", write_report(folder, folder / "again.html")):
        assert answers in " ".join(page.read_text(encoding="utf-8").split())


def test_answers_without_a_ranking_are_left_out(folder):
    (folder / "scifact" / "bm25" / RUN).unlink()
    assert len(found(folder).answers) == len(read_all_answers(folder)) - 1


def test_bounds_are_of_the_collection(folder):
    path = answers_path(folder, "scifact", "no context", "tiny-reader")
    stored = read_answers(path)
    write_answers(folder, replace(stored, settings={**stored.settings, "collection": "ab12" * 4}))
    assert found(folder).left_out == []
    write_collection(folder, replace(read_results(folder)[0]["scifact"], fingerprint="other"))
    assert ["no context on scifact" in text for text in found(folder).left_out] == [True]


def test_judgments_of_other_answers_are_left_out(folder):
    path = answers_path(folder, "scifact", "bm25", "tiny-reader")
    assert path.parent.name == folder_name("bm25")
    stored = read_answers(path)
    query, of = next(iter(stored.answers.items()))
    said = {query: replace(of, given={**of.given, "256": Given("something else")})}
    write_answers(folder, replace(stored, answers={**stored.answers, **said}))
    now = found(folder)
    assert (len(now.answers), now.judged, len(now.left_out)) == (len(read_all_answers(folder)), [], 1)
