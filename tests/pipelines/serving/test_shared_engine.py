# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Requests at once give what each gives alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from resrank import ResRank
from resrank.reader import SpanReader
from resrank_pipelines.serving.settings import ServeSettings
from resrank_pipelines.serving.shared_engine import SharedEngine
from resrank_pipelines.serving.shared_reader import SharedReader
from resrank_pipelines.serving.work import Work, current

THREADS = 16


@pytest.fixture(params=["mini", "qwen"])
def model(request) -> ResRank:
    folder = request.getfixturevalue(f"tiny_{request.param}_checkpoint")
    return ResRank.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def at_once(function, arguments):
    barrier = threading.Barrier(len(arguments))

    def run(each):
        barrier.wait(60)
        return function(each)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(run, arguments))


@pytest.mark.parametrize("share", [True, False])
def test_lists_of_many_requests_are_ranked_as_alone(model, corpus, queries, share):
    passes = []
    engine = SharedEngine(model, share=share, observe_pass=lambda *what: passes.append(what))
    asked = [(f"{queries[n % 4]} {n}", list(corpus[: 1 + n % 12])) for n in range(THREADS)]
    expected = []
    for query, texts in asked:
        model.forget_queries()
        expected.append(model.rerank(query, model.encode_passages(texts)))
    for _ in range(3):
        found = at_once(lambda pair: engine.rerank(pair[0], engine.encode_passages(pair[1])), asked)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-5)
            assert mine.argmax() == theirs.argmax()
    engine.close()
    assert bool(passes) == share
    if share:
        assert max(requests for _, _, requests in passes) > 1


def test_without_sharing_bfloat16_depends_on_nobody(tiny_mini_checkpoint, corpus, queries):
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="bfloat16")
    engine = SharedEngine(model, share=False)
    asked = [(f"{queries[n % 4]} {'indeed ' * (n % 5)}{n}", list(corpus[: 1 + n % 12])) for n in range(THREADS)]
    expected = [model.rerank(query, model.encode_passages(texts)) for query, texts in asked]
    model.forget_queries()
    for _ in range(3):
        found = at_once(lambda pair: engine.rerank(pair[0], engine.encode_passages(pair[1])), asked)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    engine.close()


def test_a_pass_of_one_is_bitwise_that_of_the_model(model, corpus, queries):
    engine = SharedEngine(model)
    for query in queries:
        found = engine.rerank(query, engine.encode_passages(list(corpus)))
        model.forget_queries()
        assert (found == model.rerank(query, model.encode_passages(corpus))).all()
    engine.close()


def test_one_bad_list_fails_alone(model, corpus, queries):
    engine = SharedEngine(model)
    vectors = model.encode_passages(corpus)
    bad = np.full_like(vectors, np.nan)

    def rank(passages):
        try:
            return engine.rerank(queries[0], passages)
        except ValueError as error:
            return str(error)

    found = at_once(rank, [vectors, bad, vectors, vectors])
    assert "NaN" in found[1]
    for n in (0, 2, 3):
        np.testing.assert_allclose(found[n], model.rerank(queries[0], vectors), atol=1e-5)
    engine.close()


def test_counts_and_warnings_go_to_their_request(model, corpus):
    counted = []
    engine = SharedEngine(model, count_tokens=lambda *what: counted.append(what))

    def run(texts):
        work = Work()
        current.set(work)
        engine.rerank("a date", engine.encode_passages(texts))
        return work

    short, long = at_once(run, [list(corpus[:3]), ["date " * 200, "a"]])
    assert (short.candidates, long.candidates) == (3, 2)
    assert short.warnings == []
    assert ["1 of 2 documents" in warning for warning in long.warnings] == [True]
    assert short.tokens + long.tokens >= sum(n for _, n in counted) > 0
    engine.close()


def test_questions_are_read_in_the_threads_of_the_models(tiny_mini_checkpoint, tiny_reader_folder, corpus, queries):
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32")
    engine, threads = SharedEngine(model), []

    class Noted(SpanReader):
        def read(self, *arguments, **named):
            threads.append(threading.current_thread().name)
            return super().read(*arguments, **named)

    reader = Noted.from_pretrained(tiny_reader_folder, device="cpu", dtype="float32")
    shared = SharedReader(reader, engine)
    asked = [(f"{queries[n % 4]} {n}", list(corpus[: 1 + n % 5])) for n in range(THREADS)]
    expected = [reader.read(*each) for each in asked]
    threads.clear()
    assert at_once(lambda each: shared.read(*each), asked) == expected
    assert len(threads) == THREADS
    assert all(name.startswith("resrank-passes") for name in threads)
    with pytest.raises(TypeError):
        shared.read()
    assert shared.config is reader.config
    engine.close()


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("share", [True, False])
def test_requests_at_once_take_one_thread_each_and_one_alone_takes_all(model, corpus, queries, share, monkeypatch):
    engine, seen = SharedEngine(model, share=share), []
    vectors, score = model.encode_passages(corpus), model.rerank_batch
    at_once, meeting = threading.Semaphore(0), threading.Event()

    def noted(*arguments, **options):
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        at_once.release()
        assert meeting.wait(30)
        return score(*arguments, **options)

    monkeypatch.setattr(model, "rerank_batch", noted)
    meeting.set()
    engine.rerank(queries[0], vectors)
    assert [threads for _, threads in seen] == [3]
    seen.clear()
    meeting.clear()
    embedding = model.encode_queries([queries[0]])[0]
    with ThreadPoolExecutor(3) as pool:
        for n in range(3):
            at_once = threading.Semaphore(0)
            pool.submit(engine.rerank, f"{queries[0]} {n}", vectors, None, embedding)
            assert at_once.acquire(timeout=30)
        meeting.set()
    engine.close()
    assert [threads for _, threads in seen] == [3, 1, 1]
    assert len({name for name, _ in seen}) == 3
    assert torch.get_num_threads() == 3


def test_without_sharing_many_documents_are_encoded_in_turns(model, corpus, monkeypatch):
    engine, names = SharedEngine(model, share=False), []
    encode = model.encode_passages

    def noted(texts, **options):
        names.append(threading.current_thread().name)
        return encode(texts, **options)

    monkeypatch.setattr(model, "encode_passages", noted)
    texts = [f"{text} {'word ' * (n % 7)}{n}" for n in range(100) for text in corpus]
    found = engine.encode_passages(texts)
    engine.close()
    assert len(names) > 1
    assert all(name.startswith("resrank-passes") for name in names)
    np.testing.assert_allclose(found, encode(texts), atol=1e-6)


def test_a_query_is_encoded_once_a_request(model, corpus, monkeypatch):
    calls = []
    encode = model.encode_queries
    monkeypatch.setattr(model, "encode_queries", lambda queries, **o: (calls.extend(queries), encode(queries, **o))[1])
    engine = SharedEngine(model)
    engine.encode_queries(["a date"])
    engine.rerank("a date", model.encode_passages(corpus))
    assert calls == ["a date"]
    engine.close()


def test_settings_do_not_show_the_token():
    assert "secret" not in repr(ServeSettings(api_key="secret"))
