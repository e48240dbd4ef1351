# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from resrank_evals import report_answers
from resrank_evals.answer_results import BOUNDS, read_all_answers
from resrank_evals.boards import make_board
from resrank_evals.judging import read_all_judged
from resrank_evals.report import describe, render_report, signed, write_report
from resrank_evals.report_answers import sections
from resrank_evals.report_charts import FONT, HEIGHT, WIDTH, Series, Spot, lines, scatter
from resrank_evals.results import read_results
from resrank_evals.statistics import compare, interval

VOID = {"meta", "link", "input", "br", "img", "hr", "wbr"}


class Page(HTMLParser):
    """Elements, their attributes, and the text of scripts; fails on a page whose elements do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            key = next(attrs for tag, attrs in reversed(self.elements) if tag == "script").get("id", "")
            self.scripts[key] = self.scripts.get(key, "") + data
        else:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(results_folder):
    return Page(
        render_report(*read_results(results_folder), read_all_answers(results_folder), read_all_judged(results_folder))
    )


def test_write(results_folder, tmp_path):
    out = write_report(results_folder, tmp_path / "new" / "report.html")
    assert out == tmp_path / "new" / "report.html"
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_errors(results_folder, tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(ValueError, match=r"'nDCG@11'; there is nDCG@10, RR@10, R@100, AP, P@1"):
        write_report(results_folder, out, measure="nDCG@11")
    with pytest.raises(ValueError, match=r"'bm26'.*there is bm25, cross-encoder\(pool=bm25\)"):
        write_report(results_folder, out, baseline="bm26")
    with pytest.raises(FileNotFoundError, match="holds no results"):
        write_report(tmp_path, out)
    with pytest.raises(ValueError, match="no results"):
        render_report({}, [])
    assert not out.exists()


def test_self_contained(page):
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:")
    for tag, attrs in page.elements:
        assert tag not in {"img", "iframe", "object", "embed", "audio", "video", "base", "form"}
        assert "src" not in attrs
        assert attrs.get("href", "#")[0] == "#" or attrs["href"] == "data:,", (tag, attrs)
        assert not any(name.startswith("on") for name in attrs)


def test_structure(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        for name in ("aria-labelledby", "for"):
            for each in (attrs.get(name) or "").split():
                assert each in ids
        if (attrs.get("href") or "").startswith("#"):
            assert attrs["href"][1:] in ids


def test_answers(made, made_answers):
    cards, results = made
    page = Page(render_report(cards, results, made_answers))
    text = " ".join(" ".join(page.texts).split())
    assert "Reader tiny-reader" in text
    assert "Left out, because they have no gold answer: 9 queries of scifact, 7 queries of nfcorpus" in text
    (index,) = json.loads(page.scripts["answer-index"])
    assert set(index["systems"]) == {"bm25", "resrank(pool=bm25)", "gold passage", "no context"}
    assert index["systems"][index["baseline"]] == "bm25"
    assert index["budgets"] == [128, 256, 512]
    place = index["collections"].index("scifact")
    block = json.loads(page.scripts[f"answer-block-0-{place}"])
    result = next(each for each in made_answers if (each.system, each.collection) == ("bm25", "scifact"))
    assert [query for query, *_ in block["queries"]] == list(result.answers)
    assert block["queries"][0][1:] == [cards["scifact"].queries["q1"], result.answers["q1"].gold]
    said, passage, f1 = block["given"]["256"][str(index["systems"].index("bm25"))][0]
    assert said.replace("\ud800", "?") == result.answers["q1"].given["256"].answer.replace("\ud800", "?")
    assert (passage, f1) == ("p256", round(result.per_query["q1"]["F1@256"] * 10_000))
    for key, script in page.scripts.items():
        if key:
            assert not set("<>&\u2028\u2029") & set(script)
    assert not page.all("img")


def test_numbers_of_answers(made, made_answers):
    board = make_board([each.as_system_result() for each in made_answers], measure="F1@256", bounds=BOUNDS)

    def make(results, measure, _):
        return make_board(results, measure=measure, bounds=BOUNDS)

    (section,) = sections(made[0], made_answers, [], make)
    assert section.boards["F1"][256] == board
    assert list(section.boards) == ["F1", "EM", "answer in context"]
    assert board.cells["resrank(pool=bm25)", "scifact"].significant == 1
    assert board.cells["gold passage", "scifact"].comparison is None
    drawn = [line.series for line in section.chart.lines]
    assert {each.name: each.values[256] for each in (*drawn, *section.chart.left_out)} == board.means
    assert [(each.name, each.bound) for each in drawn] == [
        ("gold passage", True),
        ("resrank(pool=bm25)", False),
        ("bm25", False),
    ]
    cost = section.costs["bm25"][256]
    own = [each for each in made_answers if each.system == "bm25"]
    evaluated = sum(len(each.per_query) for each in own)
    assert (cost.tokens, cost.cut, cost.time.p95_ms) == (254.5, 60 / evaluated, 256 / 5)
    assert cost.no_answer == pytest.approx(sum(each.means["no answer@256"] for each in own) / 3)


def test_readers_and_budgets_are_kept_apart(made, made_answers):
    other = [replace(each, reader="other") for each in made_answers[:4]]
    first = replace(made_answers[0], cut={"64": 0}, system="dense")
    text = render_report(*made, [first, *made_answers, *other], baseline="run:elsewhere")
    page = " ".join(" ".join(Page(text).texts).split())
    assert "Reader tiny-reader" in page
    assert "Reader other" in page
    assert "Not shown, because they were read within other budgets: dense" in page
    assert "Baseline: bm25" in page, "answers have none of the report's baseline"
    assert "Answers side by side" not in render_report(*made)


def test_judges(made, made_answers, made_judged):
    text = " ".join(" ".join(Page(render_report(*made, made_answers, made_judged)).texts).split())
    assert "Opinions of a language model, not measurements" in text
    assert "— 102 failed, 4 not asked 0.500 ± 0.125 0 failed 0.250 ± 0.125" in text
    other = [replace(each, reader="other") for each in made_judged]
    assert "What a judge thinks" not in render_report(*made, made_answers, other)


def test_what_to_know_before_comparing_answers(made, made_answers):
    assert "Reader tiny-reader" in render_report(*made, made_answers)
    assert "different weights or versions" not in render_report(*made, made_answers)
    changed = replace(made_answers[0], settings={"reader": {"name": "tiny-reader", "weights": "b"}}, missing_queries=2)
    text = render_report(*made, [changed, *made_answers[1:]])
    assert "These answers come from different weights or versions of the reader" in text
    assert "bm25 gave nothing for some queries, which count as 0: 2 of 51 of scifact." in text


def test_failed_answers_are_told(made, made_answers):
    failed = replace(made_answers[0], failed=1_234)
    amount = len(failed.answers) * 3
    text = render_report(*made, [failed, *made_answers[1:]])
    assert f"1,234 of {amount:,} answers from bm25 on scifact were refused, cut short or empty" in text
    assert "refused, cut short" not in render_report(*made, made_answers)


def test_too_many_answers_for_a_page(made, made_answers, monkeypatch):
    monkeypatch.setattr(report_answers, "_PAGE_BUDGET", 100)
    page = Page(render_report(*made, made_answers))
    assert json.loads(page.scripts["answer-index"])[0]["budgets"] == [256]
    assert list(json.loads(page.scripts["answer-block-0-0"])["given"]) == ["256"]


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (20, 0), (25, 5)])
def test_names_of_lines_are_apart_and_in_the_order_of_their_ends(count, left_out):
    series = [Series(f"resrank:pool=bm25,number={i}", {128: 0.5, 512: 0.6 - i / 10_000}) for i in range(count)]
    chart = lines(series)
    assert len(chart.left_out) == left_out
    heights = [line.label_y for line in chart.lines]
    assert all(after - before >= 15.9 for before, after in itertools.pairwise(heights))
    for line in chart.lines:
        assert chart.right < line.label_x
        assert line.label_x + len(line.label) * FONT * 0.54 <= WIDTH
        assert chart.top <= line.label_y - FONT * 0.5
        assert line.label_y <= HEIGHT - 40
        assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in line.points)
    assert [text for _, text in chart.x_ticks] == ["128", "512"]


def test_a_line_over_one_budget_is_a_point():
    nothing = Series("no context", {256: 0.0}, bound=True)
    chart = lines([Series("bm25", {256: 0.5}), Series("dense", {256: 0.0}), nothing])
    assert [len(line.points) for line in chart.lines] == [1, 1]
    assert chart.lines[0].points[0][1] < chart.lines[1].points[0][1] == chart.bottom
    assert chart.left_out == [nothing]
    assert [line.series for line in lines([nothing]).lines] == [nothing]


def test_hostile_texts(made):
    cards, results = made
    evil = "<b onclick=x>'\"&</b>"
    results = [replace(each, system=evil, settings={evil: evil}) if each.system == "bm25" else each for each in results]
    text = render_report(cards, results, baseline=evil)
    page = Page(text)
    assert not page.all("b") or all(not attrs for attrs in page.all("b"))
    assert not page.all("img")
    assert len(page.scripts) == 5  # index, three collections, the program
    block = json.loads(page.scripts["block-0"])
    assert [text for _, text in block["queries"]][:6] == list(next(iter(cards.values())).queries.values())[:6]
    for key, script in page.scripts.items():
        if key:
            assert not set("<>&\u2028\u2029") & set(script)
    assert evil in "".join(page.texts)


def test_numbers(made):
    _, results = made
    board = make_board(results)
    values = {
        each.system: {q: v["nDCG@10"] for q, v in each.per_query.items()}
        for each in results
        if each.collection == "scifact"
    }
    cell = board.cells["resrank(pool=bm25)", "scifact"]
    assert cell.value == pytest.approx(sum(values["resrank(pool=bm25)"].values()) / 60)
    assert (cell.low, cell.high) == interval(list(values["resrank(pool=bm25)"].values()))
    baseline = values.pop("bm25")
    assert cell.comparison == compare(values, baseline)["resrank(pool=bm25)"]
    assert cell.significant == 1
    assert board.cells["bm25", "scifact"].comparison is None
    row = [board.cells["bm25", name].value for name in board.collections]
    assert board.means["bm25"] == pytest.approx(sum(row) / 3)
    assert board.systems[-1] == "run:elsewhere"
    assert [board.means[name] for name in board.systems[:-1]] == sorted(
        (board.means[n] for n in board.systems[:-1]), reverse=True
    )


def test_missing_collection_has_no_mean(made):
    board = make_board(made[1])
    assert board.means["run:elsewhere"] is None
    assert board.absent("run:elsewhere") == ["nfcorpus"]
    assert "no comparable result on nfcorpus" in render_report(*made)


def test_baseline_missing_on_a_collection(made):
    board = make_board(made[1], baseline="run:elsewhere")
    assert all(cell.comparison is None for (_, name), cell in board.cells.items() if name == "nfcorpus")
    assert board.cells["bm25", "nfcorpus"].comparable
    assert "Nothing to compare" in render_report(*made, baseline="run:elsewhere")


def test_default_baseline(made):
    results = [each for each in made[1] if each.system != "bm25"]
    assert make_board(results).baseline == "cross-encoder(pool=bm25)"


def test_other_queries_are_not_compared(made):
    cards, results = made
    results = [
        replace(each, per_query=dict(list(each.per_query.items())[5:]))
        if (each.system, each.collection) == ("resrank(pool=bm25)", "scifact")
        else each
        for each in results
    ]
    board = make_board(results)
    cell = board.cells["resrank(pool=bm25)", "scifact"]
    assert not cell.comparable
    assert not cell.best
    assert cell.comparison is None
    assert board.means["resrank(pool=bm25)"] is None
    text = render_report(cards, results)
    assert "Not all systems were measured on the same queries of scifact" in text
    block = json.loads(Page(text).scripts["block-2"])
    assert block["values"]["nDCG@10"][str(board.systems.index("resrank(pool=bm25)"))][:5] == [None] * 5


def test_one_system_on_one_collection_without_anything_else(made):
    result = made[1][0]
    bare = replace(
        result, latency={}, tokens={}, environment={}, settings={}, peak_memory_mb=None, indexing_tokens=None
    )
    text = render_report({}, [bare])
    page = Page(text)
    assert "1 system on 1 collection" in "".join(page.texts).replace("\n", " ")
    assert "No plot" in text
    assert "No system here reranks" in text
    assert "Nothing to compare" in text
    assert "not described in the results folder" in text


def test_warnings(made):
    text = render_report(*made)
    assert "2 different environments, which differ in device and machine" in text
    assert (
        "different models: other-model (cross-encoder(pool=bm25)); tiny (dense(all-MiniLM-L6-v2) and resrank(" in text
    )
    assert (
        "cross-encoder(pool=bm25) and resrank(pool=bm25) were set differently on different collections: depth" in text
    )
    quiet = [replace(each, environment={}, settings={}) for each in made[1]]
    assert "Before you compare" not in render_report(made[0], quiet)
    lost = [replace(quiet[0], missing_queries=3)]
    assert "gave nothing for some queries, which count as 0: 3 of 60 of scifact." in render_report(made[0], lost)


def test_ceilings(made):
    text = " ".join(Page(render_report(*made)).texts)
    assert "Pool of bm25, 100 passages per query" in text
    assert "0.930" in text


def test_thirty_systems_on_thirteen_collections(made):
    result = made[1][0]
    short = {query: {"AP": row["AP"]} for query, row in list(result.per_query.items())[:5]}
    results = [
        replace(result, collection=f"c{c}", system=f"bm25(k1={s})", per_query=short, means={"AP": 0.5})
        for c in range(13)
        for s in range(30)
    ]
    page = Page(render_report({}, results, measure="AP"))
    assert len(json.loads(page.scripts["index"])["systems"]) == 30
    assert "block-12" in page.scripts


@pytest.mark.parametrize(("count", "numbered"), [(1, False), (2, False), (4, False), (40, True)])
def test_labels_do_not_overlap(count, numbered):
    spots = [Spot(f"resrank(pool=bm25, depth={i})", 20 + i * 0.5, 0.61 + i * 0.0004) for i in range(count)]
    plot = scatter(spots)
    assert plot.numbered == numbered
    boxes = []
    for point in plot.points:
        width = len(point.label) * FONT * 0.54
        left = point.label_x if point.anchor == "start" else point.label_x - width
        boxes.append((left, point.label_y - FONT * 0.8, left + width, point.label_y + 3))
        assert plot.left <= left
        assert left + width <= WIDTH
        assert plot.left <= point.x <= plot.right
        assert 0 <= point.label_y <= HEIGHT
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or one[0] >= other[2] or one[3] <= other[1] or one[1] >= other[3]


def test_front_and_ticks():
    plot = scatter([Spot("slow", 100, 0.5), Spot("fast", 1, 0.6), Spot("good", 1000, 0.7)])
    assert {point.spot.name for point in plot.points if point.front} == {"fast", "good"}
    assert [text for _, text in plot.x_ticks] == ["1", "10", "100", "1,000"]
    same = scatter([Spot("a", 5, 0.5), Spot("b", 5, 0.5)])
    assert all(point.front for point in same.points)
    assert len(same.x_ticks) >= 3


def test_words():
    assert describe("nDCG@10").startswith("how good the order of the first 10 passages")
    assert describe("AP").startswith("average precision")
    assert describe("nDCG(dcg='exp-log2')@20").startswith("how good the order of the first 20")
    assert describe("Bpref") == ""
    assert signed(-0.0123) == "\N{MINUS SIGN}0.012"
    assert signed(-0.0001) == "0.000"
    assert signed(0.5) == "+0.500"
