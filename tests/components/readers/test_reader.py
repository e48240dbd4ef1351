# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, ExtractedAnswer, Pipeline
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.common.resrank import loaded_models
from haystack_integrations.components.readers.resrank import ResRankReader
from resrank.reader import Span, SpanReader

TYPE = "haystack_integrations.components.readers.resrank.reader.ResRankReader"
TOKEN = {"type": "env_var", "env_vars": ["HF_API_TOKEN", "HF_TOKEN"], "strict": False}
QUERY = "who discovered penicillin?"


@pytest.fixture(scope="module")
def make_reader(tiny_reader_folder: Path) -> Callable[..., ResRankReader]:
    def make(**parameters: Any) -> ResRankReader:
        return ResRankReader(**{"model": str(tiny_reader_folder), "device": "cpu", "dtype": "float32", **parameters})

    return make


@pytest.fixture(scope="module", autouse=True)
def stays_loaded(make_reader: Callable[..., ResRankReader]) -> Iterator[None]:
    """The reader is loaded once for the module."""
    reader = make_reader()
    reader.warm_up()
    yield
    reader.close()


@pytest.fixture
def margins(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Return a function that makes the spans of each passage: its first words, of these margins."""

    def set_margins(*of: Sequence[float]) -> None:
        def read(self: Any, query: str, passages: Sequence[str], *, spans_per_passage: int, report: Any) -> list[Span]:
            report.add([0])
            found = [
                Span(place, start, start + 1, passages[place][start : start + 1], margin)
                for place, own in enumerate(of)
                for start, margin in enumerate(own[:spans_per_passage])
            ]
            return sorted(found, key=lambda span: (-span.margin, span.passage))

        monkeypatch.setattr(SpanReader, "read", read)

    return set_margins


@pytest.fixture
def documents(make_documents: Callable[..., list[Document]]) -> list[Document]:
    return make_documents(["abc", "def", "ghi"])


def shown(answers: list[ExtractedAnswer]) -> list[tuple[str | None, float]]:
    return [(answer.data, round(answer.score, 6)) for answer in answers]


def softmax(*margins: float) -> list[float]:
    """With "no answer" last."""
    total = sum(math.exp(margin) for margin in margins) + 1.0
    return [round(math.exp(margin) / total, 6) for margin in margins] + [round(1.0 / total, 6)]


# ------------------------------------------------------------------------------------------------------------ answers


def test_answers_are_places_in_their_documents(make_reader, make_documents, corpus, unchanged):
    documents = make_documents(corpus, file_path="a.txt")
    unchanged(documents)
    answers = make_reader(top_k=None, answers_per_document=2).run(query=QUERY, documents=documents)["answers"]
    found = [answer for answer in answers if answer.data is not None]
    assert len(found) == 2 * len(corpus)
    assert len(answers) == len(found) + 1
    for answer in found:
        for text, place in ((answer.document.content, answer.document_offset), (answer.context, answer.context_offset)):
            assert text[place.start : place.end] == answer.data
        assert answer.query == QUERY
        assert answer.document.meta == {"file_path": "a.txt"}
        assert 0.0 <= answer.score <= 1.0
        assert type(answer.score) is float
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)


def test_scores_are_a_softmax_over_documents_and_no_answer(make_reader, documents, margins):
    margins([1.0], [2.0], [-3.0])
    answers = make_reader().run(query=QUERY, documents=documents)["answers"]
    a, b, c, none = softmax(1.0, 2.0, -3.0)
    assert shown(answers) == [("d", b), ("a", a), (None, none), ("g", c)]


def test_no_answer_has_no_place_and_may_be_left_out(make_reader, documents, margins):
    margins([-1.0], [-2.0], [-3.0])
    answers = make_reader().run(query=QUERY, documents=documents)["answers"]
    assert answers[0] == ExtractedAnswer(query=QUERY, score=answers[0].score)
    without = make_reader(no_answer=False).run(query=QUERY, documents=documents)["answers"]
    assert without == answers[1:]


def test_top_k_does_not_count_no_answer(make_reader, documents, margins):
    margins([1.0], [2.0], [-3.0])
    a, b, _, none = softmax(1.0, 2.0, -3.0)
    assert shown(make_reader(top_k=1).run(query=QUERY, documents=documents)["answers"]) == [("d", b), (None, none)]
    reader = make_reader(top_k=1)
    answers = reader.run(query=QUERY, documents=documents, top_k=2)["answers"]
    assert shown(answers) == [("d", b), ("a", a), (None, none)]
    assert len(make_reader(top_k=None).run(query=QUERY, documents=documents)["answers"]) == 4


def test_more_answers_of_a_document_change_no_other_score(make_reader, documents, margins):
    margins([1.0, 0.5, -9.0], [2.0], [-3.0])
    a, b, c, none = softmax(1.0, 2.0, -3.0)
    answers = make_reader(top_k=None, answers_per_document=2).run(query=QUERY, documents=documents)["answers"]
    assert shown(answers) == [("d", b), ("a", a), ("b", pytest.approx(a * math.exp(-0.5), abs=1e-5)), (None, none), ("g", c)]  # fmt: skip


def test_score_threshold_also_leaves_out_no_answer(make_reader, documents, margins):
    margins([1.0], [2.0], [-3.0])
    a, b, _, _ = softmax(1.0, 2.0, -3.0)
    answers = make_reader(score_threshold=0.2).run(query=QUERY, documents=documents)["answers"]
    assert shown(answers) == [("d", b), ("a", a)]
    assert len(make_reader(score_threshold=0.0).run(query=QUERY, documents=documents)["answers"]) == 4


def test_ties_go_by_document_id_and_no_answer_comes_last(make_reader, documents, margins):
    margins([0.0], [0.0], [0.0])
    answers = make_reader().run(query=QUERY, documents=documents[::-1])["answers"]
    assert [answer.document and answer.document.id for answer in answers] == ["doc-000", "doc-001", "doc-002", None]
    assert {answer.score for answer in answers} == {0.25}


def test_rank_weight_takes_the_distance_to_the_best_off_the_margin(make_reader, documents, margins):
    margins([1.0], [2.0], [-3.0])
    scored = [replace(document, score=score) for document, score in zip(documents, (4.0, 1.0, None), strict=True)]
    a, b, c, none = softmax(1.0, 2.0 - 0.5 * (4.0 - 1.0), -3.0)
    answers = make_reader(rank_weight=0.5).run(query=QUERY, documents=scored)["answers"]
    assert shown(answers) == [("a", a), ("d", b), (None, none), ("g", c)]


def test_scores_that_are_equal_missing_or_no_numbers_weigh_nothing(make_reader, documents, margins):
    margins([1.0], [2.0], [-3.0])
    expected = make_reader().run(query=QUERY, documents=documents)["answers"]
    for score in (None, 7.0, math.nan):
        equal = [replace(document, score=score) for document in documents]
        answers = make_reader(rank_weight=3.0).run(query=QUERY, documents=equal)["answers"]
        assert shown(answers) == shown(expected)


def test_duplicates_are_read_once(make_reader, make_documents, corpus):
    documents = make_documents(corpus[:3])
    doubled = [documents[0], *documents, replace(documents[1], score=9.0)]
    once = make_reader(top_k=None).run(query=QUERY, documents=documents)["answers"]
    twice = make_reader(top_k=None).run(query=QUERY, documents=doubled)["answers"]
    assert shown(twice) == shown(once)
    assert 9.0 in [answer.document.score for answer in twice if answer.document]


def test_documents_without_text_are_passed_over_with_one_warning(make_reader, make_documents, corpus, caplog):
    documents = make_documents([None, corpus[0], "  \n", corpus[1]])
    with caplog.at_level(logging.WARNING):
        answers = make_reader(top_k=None).run(query=QUERY, documents=documents)["answers"]
    assert {answer.document.id for answer in answers if answer.document} == {"doc-001", "doc-003"}
    assert [record.getMessage() for record in caplog.records] == ["2 of 4 documents have no text and are not read"]


@pytest.mark.parametrize("texts", [[], [None], [" "]])
def test_nothing_to_read_is_no_answer_and_loads_nothing(make_documents, texts):
    documents = make_documents(texts)
    answers = ResRankReader(model="no-such-model").run(query=QUERY, documents=documents)["answers"]
    assert answers == [ExtractedAnswer(query=QUERY, score=1.0)]
    assert ResRankReader(model="no-such-model", no_answer=False).run(query=QUERY, documents=documents) == {
        "answers": []
    }


def test_a_long_question_is_cut_with_a_warning(make_reader, make_documents, corpus, caplog):
    with caplog.at_level(logging.WARNING):
        answers = make_reader().run(query="water " * 50, documents=make_documents(corpus))["answers"]
    assert answers
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ["the question is longer than the 32 tokens that the reader takes: the last 18 are not read"]


def test_hostile_text_is_read(make_reader, make_documents, hostile_text):
    documents = make_documents([hostile_text[:2_000], "Bread needs yeast."])
    assert make_reader().run(query=hostile_text, documents=documents)["answers"]


@pytest.mark.parametrize(
    ("query", "documents", "kind", "message"),
    [
        ("  ", [], ValueError, "the query is blank"),
        (None, [], TypeError, "the query must be a string, got NoneType"),
        (QUERY, ["text"], TypeError, "documents must be a list of haystack Documents, got a list with str"),
        (QUERY, None, TypeError, "documents must be a list of haystack Documents, got NoneType"),
        (QUERY, [Document(id="x", content="half \ud83d")], ValueError, "document x has a lone surrogate"),
    ],
)
def test_wrong_inputs_are_named(make_reader, query, documents, kind, message):
    with pytest.raises(kind, match=message):
        make_reader().run(query=query, documents=documents)


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True])
def test_a_bad_top_k_is_refused(make_reader, top_k):
    with pytest.raises(ValueError, match="top_k must be a positive integer or None, got"):
        ResRankReader(top_k=top_k)
    with pytest.raises(ValueError, match="top_k must be a positive integer or None, got"):
        make_reader().run(query=QUERY, documents=[], top_k=top_k)


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"answers_per_document": 0}, ValueError, "answers_per_document must be a positive integer, got 0"),
        ({"answers_per_document": True}, ValueError, "answers_per_document must be a positive integer, got True"),
        ({"rank_weight": -0.1}, ValueError, "rank_weight must be 0 or more and finite, got -0.1"),
        ({"rank_weight": math.nan}, ValueError, "rank_weight must be 0 or more and finite, got nan"),
        ({"model": Path("x")}, TypeError, "model must be a name, a folder or a hub id, got "),
    ],
)
def test_wrong_parameters_are_named(parameters, kind, message):
    with pytest.raises(kind, match=message):
        ResRankReader(**parameters)


def test_a_missing_model_says_how_to_make_one(documents):
    with pytest.raises(FileNotFoundError, match=r"no model 'no-such-model': .*; `resrank-train reader` makes a reader"):
        ResRankReader(model="no-such-model").run(query=QUERY, documents=documents)


# ------------------------------------------------------------------------------------------------------ serialisation


def test_defaults_are_portable():
    pipeline = Pipeline()
    pipeline.add_component("reader", ResRankReader())
    assert pipeline.to_dict()["components"]["reader"] == {
        "type": TYPE,
        "init_parameters": {
            "model": "resrank-reader-mini",
            "device": None,
            "dtype": "auto",
            "top_k": 3,
            "no_answer": True,
            "answers_per_document": 1,
            "score_threshold": None,
            "rank_weight": 0.0,
            "revision": None,
            "token": TOKEN,
            "local_files_only": False,
        },
    }


def test_a_device_may_be_a_string_and_a_token_is_not_written():
    pipeline = Pipeline()
    pipeline.add_component("reader", ResRankReader(device="cuda:1", token=Secret.from_env_var("MINE")))
    again = Pipeline.loads(pipeline.dumps()).get_component("reader")
    assert again.device == ComponentDevice.from_str("cuda:1")
    assert again.token == Secret.from_env_var("MINE")
    pipeline = Pipeline()
    pipeline.add_component("reader", ResRankReader(token=Secret.from_token("hf_secret")))
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        pipeline.dumps()


CHILD = """
import json, sys
from haystack import Document, Pipeline
assert not any("resrank" in name for name in sys.modules)
pipeline = Pipeline.loads(sys.argv[1])
from haystack_integrations.common.resrank import loaded_models
counts = [loaded_models()]
pipeline.warm_up()
counts.append(loaded_models())
documents = [Document(id=f"doc-{i:03}", content=text) for i, text in enumerate(json.loads(sys.argv[2]))]
answers = pipeline.run({"query": "who discovered penicillin?", "documents": documents})["reader"]["answers"]
pipeline.close()
counts.append(loaded_models())
answers = [[a.data, a.score, a.document and a.document.id] for a in answers]
print(json.dumps({"dump": pipeline.dumps(), "counts": counts, "answers": answers}))
"""


def test_a_fresh_process_loads_it_from_yaml_and_answers_the_same(make_reader, make_documents, corpus):
    reader = make_reader(top_k=2, rank_weight=0.5, answers_per_document=2, score_threshold=1e-9)
    pipeline = Pipeline()
    pipeline.add_component("reader", reader)
    written = pipeline.dumps()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HAYSTACK_DES")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, written, json.dumps(corpus)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["dump"] == written
    assert theirs["counts"] == [0, 1, 0]
    ours = reader.run(query=QUERY, documents=make_documents(corpus))["answers"]
    assert theirs["answers"] == [
        [answer.data, pytest.approx(answer.score, rel=1e-4), answer.document and answer.document.id] for answer in ours
    ]


# ----------------------------------------------------------------------------------------- one loaded reader, threads


@pytest.fixture
def fresh_folder(tiny_reader_folder: Path, tmp_path: Path) -> Path:
    """A copy that nobody has loaded."""
    return Path(shutil.copytree(tiny_reader_folder, tmp_path / "fresh"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    load = SpanReader.from_pretrained
    monkeypatch.setattr(SpanReader, "from_pretrained", lambda source, **how: made.append(source) or load(source, **how))
    return made


def test_eight_threads_load_once_and_answer_as_one(make_reader, make_documents, corpus, fresh_folder, loads):
    documents, before = make_documents(corpus), loaded_models()
    readers = [make_reader(model=str(fresh_folder)) for _ in range(8)]
    barrier = threading.Barrier(8)

    def answer(reader: ResRankReader) -> list[tuple[str | None, float]]:
        barrier.wait(timeout=60)
        return shown(reader.run(query=QUERY, documents=documents)["answers"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answer, readers))
    assert loads == [str(fresh_folder)]
    assert loaded_models() == before + 1
    assert all(each == found[0] for each in found)
    for reader in readers:
        reader.close()
    assert loaded_models() == before


def test_what_stands_before_the_reader_reads_until_close(make_reader, documents):
    reader, asked = make_reader(), []
    expected = reader.run(query=QUERY, documents=documents)

    class StandIn:
        def __init__(self, inner: Any) -> None:
            self.read, self.config, self.device = self._read, inner.config, inner.device
            self._inner = inner

        def _read(self, query: str, *rest: Any, **named: Any) -> Any:
            asked.append(query)
            return self._inner.read(query, *rest, **named)

    reader.share(StandIn)
    assert reader.run(query=QUERY, documents=documents) == expected
    assert asked == [QUERY]
    reader.close()
    assert reader.run(query=QUERY, documents=documents) == expected
    assert asked == [QUERY]
    reader.close()


def test_memory_is_freed_after_the_last_close_and_run_loads_again(make_reader, fresh_folder, documents, loads):
    first, second = make_reader(model=str(fresh_folder)), make_reader(model=str(fresh_folder), top_k=1)
    expected = first.run(query=QUERY, documents=documents)
    second.warm_up()
    weights = weakref.ref(next(first._reader.model.parameters()))
    first.close()
    first.close()
    gc.collect()
    assert weights() is not None
    second.close()
    gc.collect()
    assert weights() is None
    assert shown(first.run(query=QUERY, documents=documents)["answers"]) == shown(expected["answers"])
    assert len(loads) == 2


def test_readers_that_run_differently_do_not_share(make_reader, fresh_folder):
    first, second = make_reader(model=str(fresh_folder)), make_reader(model=str(fresh_folder), dtype="bfloat16")
    first.warm_up()
    second.warm_up()
    assert first._reader is not second._reader


def test_asynchronous_runs_load_off_the_loop(make_reader, make_documents, corpus, fresh_folder, monkeypatch):
    names = set()
    load = ResRankReader._load
    monkeypatch.setattr(ResRankReader, "_load", lambda self: names.add(threading.current_thread().name) or load(self))
    pipeline = Pipeline()
    pipeline.add_component("reader", make_reader(model=str(fresh_folder)))
    documents = make_documents(corpus)

    async def run() -> list[Any]:
        return await asyncio.gather(*(pipeline.run_async({"query": QUERY, "documents": documents}) for _ in range(4)))

    found = [shown(outcome["reader"]["answers"]) for outcome in asyncio.run(run())]
    assert all(each == found[0] for each in found)
    assert threading.main_thread().name not in names
    pipeline.close()


def test_a_token_is_resolved_when_loading(make_reader, fresh_folder, monkeypatch):
    monkeypatch.delenv("RESRANK_TEST_TOKEN", raising=False)
    reader = make_reader(model=str(fresh_folder), token=Secret.from_env_var("RESRANK_TEST_TOKEN"))
    with pytest.raises(ValueError, match="RESRANK_TEST_TOKEN"):
        reader.warm_up()
    monkeypatch.setenv("RESRANK_TEST_TOKEN", "hf_x")
    reader.warm_up()
