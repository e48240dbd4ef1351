# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch

from resrank import TruncationReport
from resrank.encoder import Encoder
from resrank.query_memory import QueryMemory


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the encoder was really asked for."""
    asked: list[list[str]] = []
    encode = Encoder.encode

    def counted(self, texts, **options):
        asked.append(list(texts))
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    return asked


def test_a_request_encodes_its_query_once(tiny_model, encodings, corpus):
    model = tiny_model()
    passages = model.encode_passages(corpus)
    encodings.clear()
    vector = model.encode_queries(["capital of France"])[0]
    remembered = model.rerank("capital of France", passages)
    assert encodings == [["capital of France"]]
    np.testing.assert_array_equal(remembered, model.rerank("capital of France", passages, query_embedding=vector))


def test_what_is_remembered_cannot_be_changed_from_outside(tiny_mini):
    model = tiny_mini()
    first = model.encode_queries(["x"])
    first[:] = 0
    assert np.linalg.norm(model.encode_queries(["x"])) == pytest.approx(1)


def test_truncation_is_reported_each_time(tiny_mini):
    model = tiny_mini()
    for _ in range(2):
        report = TruncationReport()
        model.encode_queries(["word " * 500], report=report)
        assert report.truncated == 1
        assert report.cut_tokens > 400


def test_changed_weights_are_noticed(tiny_mini):
    model = tiny_mini()
    before = model.encode_queries(["x y z"])
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1.5)
    assert not np.allclose(before, model.encode_queries(["x y z"]))


def test_passages_and_batches_are_not_remembered(tiny_mini, encodings):
    model = tiny_mini()
    model.encode_queries(["a"])
    for _ in range(2):
        model.encode_passages(["a"])
        model.encode_queries(["a", "b"])
    assert encodings == [["a"], ["a"], ["a", "b"], ["a"], ["a", "b"]]


def test_forget_queries(tiny_mini, encodings):
    model = tiny_mini()
    model.encode_queries(["a"])
    model.forget_queries()
    model.encode_queries(["a"])
    assert len(encodings) == 2


def test_the_least_recently_used_goes_first():
    memory, encoder = QueryMemory(capacity=2), torch.nn.Linear(1, 1)
    for name in ("a", "b"):
        assert memory.get(name, encoder) is None
        memory.put(name, np.ones(1, dtype=np.float32), 0)
    assert memory.get("a", encoder) is not None
    memory.put("c", np.ones(1, dtype=np.float32), 0)
    assert memory.get("b", encoder) is None
    assert memory.get("a", encoder) is not None


def test_weights_loaded_by_a_first_rerank_can_be_trained(tiny_mini):
    model = tiny_mini()
    model.rerank("x", np.eye(32, dtype=np.float32)[:3])
    assert not any(parameter.is_inference() for parameter in model.encoder.parameters())


def test_a_trained_encoder_gets_a_new_fingerprint(tiny_mini):
    model = tiny_mini()
    before, vector = model.fingerprint, model.encode_queries(["x y z"])
    for parameter in model.encoder.parameters():
        parameter.data.copy_(parameter.data * 1.5)  # as some optimizers do: no version is counted
    model.weights_changed()
    assert model.fingerprint != before
    assert not np.allclose(vector, model.encode_queries(["x y z"]))
