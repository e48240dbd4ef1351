# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The search page in a real browser, on a real server on the loopback.

Needs what `tests/evals/test_report_browser.py` needs: playwright and a Chromium (RESRANK_CHROMIUM). RESRANK_SHOTS is a
folder for pictures.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from resrank.reader import Span, SpanReader
from resrank_pipelines.indexing import Indexer
from resrank_pipelines.serving.settings import Limits

from .conftest import listening

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script><b>bold</b> & 🚀 Paris is the capital'
SIZES = {"wide": (1280, 900), "narrow": (360, 740)}


@pytest.fixture(scope="module")
def serve(settings, store, tmp_path_factory, tiny_mini_checkpoint):
    """Return a function that starts a server in a thread and gives its address."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "evil.txt").write_text(EVIL, encoding="utf-8")
    (folder / "long.txt").write_text("France " * 140, encoding="utf-8")
    indexer = Indexer(model={"model": str(tiny_mini_checkpoint)}, store=store)
    indexer.run([folder])
    indexer.close()
    with ExitStack() as running:

        def start(**changes):
            address = running.enter_context(listening(settings(limits=Limits(query_characters=300), **changes)))
            return f"{address}/"

        yield start


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=list(SIZES))
def size(request):
    return request.param


@pytest.fixture
def opened(browser):
    """Return a function that opens an address; nothing may go wrong on the page or leave it."""
    contexts, problems = [], []

    def open_page(address, size="wide", scheme="light", expected=()):
        width, height = SIZES[size]
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()

        def problem(text):
            if not any(each in text for each in expected):
                problems.append(text)

        page.on("console", lambda said: problem(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: problem(str(error)))
        page.on("dialog", lambda dialog: (problem(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.startswith((address, "data:,")) else problem(r.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def reads(monkeypatch):
    def make(answer):
        def read(self, query, passages, **_):
            places = [(i, text.index(answer)) for i, text in enumerate(passages) if answer in text]
            return [Span(i, start, start + len(answer), answer, 3.0) for i, start in places]

        monkeypatch.setattr(SpanReader, "read", read)

    return make


def submit(page, query, mode="search"):
    page.get_by_label("Query").fill(query)
    page.get_by_label(mode.capitalize(), exact=True).check()
    page.get_by_role("button", name="Go").click()
    page.locator("#status").filter(has_text=re.compile(r"passages? in|expected")).wait_for(timeout=10_000)


def fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def shot(page, name):
    if folder := os.environ.get("RESRANK_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_search_on_every_size_and_scheme(opened, address, size, scheme):
    page = opened(address, size, scheme)
    submit(page, "capital of France")
    rows = page.locator("#results > li")
    texts = rows.locator(".text").all_text_contents()
    assert len(texts) > 5
    assert [rank.strip() for rank in rows.locator(".rank").all_text_contents()] == [
        str(n + 1) for n in range(len(texts))
    ]
    assert rows.locator("svg").count() == len(texts)
    assert rows.locator(".up").count() > 0
    assert rows.locator(".down").count() > 0
    assert "score " in rows.first.locator(".score").text_content()
    said = page.locator("#status").text_content()
    assert f"{len(texts)} passages in" in said
    assert "encode" in said
    assert "rank" in said
    fits(page)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
    shot(page, f"search-{size}-{scheme}")


def test_html_in_passages_is_text(opened, address, reads):
    page = opened(address)
    page.get_by_label("Results").select_option("20")
    submit(page, "bold capital Paris")
    text = page.locator("#results .text", has_text="bold").first
    assert text.text_content() == EVIL
    assert page.locator("#results img, #results script, #results b").count() == 0
    reads("Paris is")
    submit(page, "bold capital Paris", "ask")
    assert page.locator("#answer mark").text_content() == "Paris is"  # after an emoji of two UTF-16 units
    assert page.locator("#answer img, #answer script, #answer b").count() == 0


def test_long_passages_unfold(opened, address):
    page = opened(address)
    page.get_by_label("Results").select_option("20")
    submit(page, "France France")
    more = page.get_by_role("button", name="Show all").first
    text = page.locator(".text.short").first
    folded = text.bounding_box()["height"]
    more.click()
    assert (
        page.locator("li", has=page.get_by_role("button", name="Show less")).locator(".text").bounding_box()["height"]
        > folded
    )


def test_an_answer_is_marked_in_its_source(opened, address, reads, size):
    reads("Alexander Fleming")
    page = opened(address, size)
    page.get_by_label("Results").select_option("20")
    submit(page, "who discovered penicillin?", "ask")
    assert page.locator("#answer .said").text_content() == "Alexander Fleming"
    assert page.locator("#answer mark").text_content() == "Alexander Fleming"
    assert "confidence 0.95" in page.locator("#answer").text_content()
    assert page.locator("#results > li").count() > 5
    fits(page)
    shot(page, f"ask-{size}")
    reads("nowhere")
    submit(page, "who discovered penicillin?", "ask")
    assert page.locator("#answer .said").text_content() == "No answer found."


def test_an_llms_answer_cites(opened, serve, llm):
    llm.body = (
        b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"<b>Paris</b> [1][2]."},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
    )
    page = opened(serve(llm=True))
    submit(page, "capital of France", "ask")
    assert page.locator("#answer .said").text_content() == "<b>Paris</b> [1][2]."
    assert page.locator("#answer .source").count() == 2
    assert page.locator("#answer .source").first.text_content().startswith("[1] ")


def test_errors_are_shown(opened, address):
    page = opened(address, expected=["422"])
    submit(page, "a" * 301)
    assert "at most 300 characters, got 301" in page.locator("#status").text_content()


def test_a_token_is_asked_for_and_kept_for_the_session(opened, serve):
    address = serve(api_key="a-token")
    page = opened(address, expected=["401"])
    submit(page, "France")
    assert "token" in page.locator("#status").text_content()
    page.get_by_label("Token").fill("a-token")
    submit(page, "France")
    assert page.locator("#results > li").count() > 5
    page.reload()
    submit(page, "France")
    assert page.locator("#results > li").count() > 5
    assert "a-token" not in page.url
