# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The report in a real browser.

Needs the Python package `playwright` and a Chromium: that of RESRANK_CHROMIUM, one on the PATH, or Playwright's own.
With RESRANK_CI set, a missing browser fails the tests instead of skipping them. RESRANK_SHOTS is a folder for pictures.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resrank_evals.report import write_report

SIZES = {"wide": (1280, 900), "narrow": (360, 740)}


@pytest.fixture(scope="module")
def file(results_folder, tmp_path_factory) -> Path:
    return write_report(results_folder, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=list(SIZES))
def size(request):
    return request.param


@pytest.fixture
def page(browser, file, size, scheme):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: problems.append(request.url) if request.url not in {file.as_uri(), "data:,"} else None,
    )
    page.goto(file.as_uri())
    yield page
    assert problems == []
    context.close()


def fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_size_and_scheme(page, size, scheme):
    fits(page)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    fits(page)
    small = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility()
            && each.namespaceURI.endsWith('xhtml') && [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim())
            && parseFloat(getComputedStyle(each).fontSize) < 11.9 && !each.closest('.sign, .star')).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert small == []
    if folder := os.environ.get("RESRANK_SHOTS"):
        page.evaluate("document.querySelectorAll('details').forEach((part, i) => { part.open = i % 4 === 0; })")
        page.screenshot(path=Path(folder) / f"{size}-{scheme}.png", full_page=True)


def test_contrast(page):
    """Text against the page, by the formula of WCAG 2: 4.5 to 1."""
    worst = page.evaluate(
        """() => {
            const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
            const light = (c) => { const [r, g, b] = parse(c).map((v) => { v /= 255;
                return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const page = light(getComputedStyle(document.body).backgroundColor);
            return Math.min(...[...document.querySelectorAll('p, td, th, .under, .soft, .sign, caption, a, svg text')].map((e) => {
                const style = getComputedStyle(e);
                const text = light(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
                return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05); }));
        }"""
    )
    assert worst >= 4.5


def test_first_column_stays(page, size):
    box = page.locator(".leaderboard").first.locator("xpath=..")
    cell = page.locator(".leaderboard tbody th").first
    before = cell.bounding_box()["x"]
    box.evaluate("(each) => { each.scrollLeft = 200; }")
    assert abs(cell.bounding_box()["x"] - before) < 1
    if size == "narrow":
        assert box.evaluate("(each) => each.scrollLeft") > 0


def test_measure_changes_the_numbers(page):
    value = page.locator(".leaderboard .value:visible").first
    before = value.inner_text()
    summary = page.locator("#query-summary").inner_text()
    page.get_by_label("Measure").first.select_option("R@100")
    assert page.locator(".leaderboard .value:visible").first.inner_text() != before
    assert page.locator(".leaderboard:visible").count() == 1
    assert page.locator("#query-measure").input_value() == "R@100"
    assert page.locator("#query-summary").inner_text() != summary
    assert page.locator("#query-caption").inner_text().startswith("R@100")
    page.locator("#query-measure").select_option("AP")
    assert page.locator("#measure").input_value() == "AP"
    fits(page)


def test_wins_and_losses(page):
    summary = page.locator("#query-summary")
    assert "than bm25" in summary.inner_text()
    assert page.locator("#query-b").input_value() == page.evaluate(
        "String(JSON.parse(document.getElementById('index').textContent).baseline)"
    )
    page.locator("#query-collection").select_option(label="scifact")
    assert "of 60 queries" in summary.inner_text()
    before = summary.inner_text()
    page.locator("#query-a").select_option(label="dense(all-MiniLM-L6-v2)")
    page.locator("#query-b").select_option(label="cross-encoder(pool=bm25)")
    assert summary.inner_text() != before
    assert summary.inner_text().startswith("dense(all-MiniLM-L6-v2) is better on ")
    page.locator("#query-a").select_option(label="run:elsewhere")
    page.locator("#query-collection").select_option(label="nfcorpus")
    assert page.locator("#query-a option", has_text="run:elsewhere").count() == 0
    assert "of 45 queries" in summary.inner_text()
    assert page.locator("#query-chart svg path.wins").get_attribute("d").startswith("M0.15")


def test_counts_agree_with_the_tests(page):
    page.locator("#query-collection").select_option(label="scifact")
    page.locator("#query-a").select_option(label="resrank(pool=bm25)")
    page.locator("#query-b").select_option(label="bm25")
    part = page.locator(
        "section[aria-labelledby=differences] [data-measure='nDCG@10'] details",
        has=page.get_by_text("scifact", exact=True),
    )
    wins, ties, losses = part.locator("tr", has_text="resrank(pool=bm25)").locator("td").all_inner_texts()[-3:]
    assert (
        f"better on {wins}, equal on {ties} and worse on {losses} of 60" in page.locator("#query-summary").inner_text()
    )


def test_sort_search_and_all(page):
    page.locator("#query-collection").select_option(label="scifact")
    rows = page.locator("#query-rows tr")
    assert rows.count() == 25

    def differences():
        texts = page.locator("#query-rows td:nth-child(4)").all_inner_texts()
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]

    assert differences() == sorted(differences(), reverse=True)
    page.get_by_role("button", name="A \N{MINUS SIGN} B").press("Enter")
    assert differences() == sorted(differences())
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("A \N{MINUS SIGN} B")
    page.get_by_role("button", name="Show all 60").click()
    assert rows.count() == 60
    page.get_by_label("Search queries").fill("SUBJECT 17")
    assert rows.count() == 1
    assert "what is known about subject 17" in rows.inner_text()
    page.get_by_label("Search queries").fill("nothing like it")
    assert rows.count() == 0
    assert "0 of 60 queries found" in page.locator("#query-caption").inner_text()
    fits(page)


def test_hostile_texts_are_texts(page, hostile):
    page.get_by_role("button", name="Show all").click()
    shown = page.locator("#query-rows td.text").evaluate_all("(cells) => cells.map((cell) => cell.firstChild.data)")
    assert {text.replace("\ud800", "") for text in hostile} <= set(shown)
    assert page.locator("img").count() == 0
    assert page.title().startswith("Retrieval evaluation: 5 systems, 3 collections")
    fits(page)


def test_answers_side_by_side(page):
    view = page.locator(".answer-view")
    examples = view.locator(".examples > li")
    summary = view.locator("[data-part=summary]")
    assert examples.count() == 10
    view.get_by_label("Collection").select_option(label="scifact")
    assert "of 51 questions" in summary.inner_text()
    before = summary.inner_text()
    view.get_by_label("Tokens of context").select_option("512")
    assert summary.inner_text() != before
    view.get_by_label("Questions").select_option(label="A answers better")
    better = int(summary.inner_text().split("A answers better on ")[1].split(",")[0])
    view.get_by_role("button", name=f"All {better} questions").click()
    assert examples.count() == better
    first = examples.first.inner_text()
    assert "Gold: " in first
    assert "resrank(pool=bm25)" in first
    assert "from p512" in first
    left, right = (examples.first.locator(".said").nth(side).bounding_box() for side in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    view.get_by_label("System A of answers").select_option(label="no context")
    view.get_by_label("Questions").select_option(label="B answers better")
    assert "no answer" in examples.first.inner_text()
    assert page.locator("img").count() == 0
    fits(page)


def test_names_of_lines(page):
    found = page.evaluate(
        """() => { const svg = document.querySelector('svg.lines');
            const boxes = [...svg.querySelectorAll('.line text')].map((each) => each.getBBox());
            const cut = boxes.filter((b) => b.x + b.width > svg.viewBox.baseVal.width).length;
            const both = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height)).length;
            return [boxes.length, cut, both]; }"""
    )
    assert found == [3, 0, 0]


def test_labels_of_the_plot(page):
    overlaps = page.evaluate(
        """() => { const svg = [...document.querySelectorAll('svg.scatter')].find((each) => each.checkVisibility());
            const boxes = [...svg.querySelectorAll('.point text')].map((each) => each.getBBox());
            const view = svg.viewBox.baseVal;
            const cut = boxes.filter((b) => b.x < 0 || b.x + b.width > view.width || b.y < 0).length;
            const both = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.x < b.x + b.width && b.x < a.x + a.width
                && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height)).length;
            return [boxes.length, cut, both]; }"""
    )
    assert overlaps == [4, 0, 0]


def test_without_script(browser, file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".leaderboard:visible").count() == 1
    assert page.locator("select:visible").count() == 0
    assert page.get_by_text("This section needs JavaScript").is_visible()
    context.close()


def test_print(browser, file):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("[...document.querySelectorAll('details')].every((part) => part.open)")
    context.close()
