# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import inspect
import json
import logging
import math
from typing import Any

import numpy as np
import pytest
from haystack.components.embedders.types import TextEmbedder
from haystack.core.serialization import component_from_dict, component_to_dict

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankTextEmbedder

TYPE = "haystack_integrations.components.embedders.resrank.text_embedder.ResRankTextEmbedder"


@pytest.fixture
def embedder(tiny: ResRankModel) -> ResRankTextEmbedder:
    return ResRankTextEmbedder(model=tiny)


def test_default_model_is_resrank_mini():
    assert ResRankTextEmbedder().model.model == "resrank-mini"


def test_string_is_short_for_a_handle():
    assert ResRankTextEmbedder(model="org/name").model.to_dict() == ResRankModel("org/name").to_dict()


def test_construction_loads_nothing(loads: dict[str, int], fresh_checkpoint: Any):
    ResRankTextEmbedder(model=str(fresh_checkpoint))
    assert loads == {"encoder": 0, "reranker": 0}


def test_construction_does_not_look_for_the_model():
    assert ResRankTextEmbedder(model="/no/such/folder").model.model == "/no/such/folder"


def test_round_trip_is_stable(tiny: ResRankModel):
    first = component_to_dict(ResRankTextEmbedder(model=tiny), "embedder")
    assert first == {"type": TYPE, "init_parameters": {"model": tiny.to_dict()}}
    assert component_to_dict(component_from_dict(ResRankTextEmbedder, first, "embedder"), "embedder") == first


def test_embedding_is_a_list_of_python_floats_of_unit_length(embedder: ResRankTextEmbedder):
    embedding = embedder.run(text="how do I parse a date?")["embedding"]
    assert all(type(value) is float for value in embedding)
    assert math.fsum(value * value for value in embedding) == pytest.approx(1.0, abs=1e-5)
    assert len(embedding) == 32
    json.dumps(embedding)


def test_embedding_is_the_models_query_vector(embedder: ResRankTextEmbedder, tiny: ResRankModel):
    expected = tiny.load("encoder").encode_queries(["capital of France"])[0]
    assert np.array_equal(np.float32(embedder.run(text="capital of France")["embedding"]), expected)


def test_query_prompt_is_applied(tiny_qwen_checkpoint: Any, handle: Any):
    model = handle(tiny_qwen_checkpoint)
    embedding = np.float32(ResRankTextEmbedder(model=model).run(text="capital of France")["embedding"])
    as_passage = model.load("encoder").encode_passages(["capital of France"])[0]
    assert not np.allclose(embedding, as_passage, atol=1e-3)


def test_same_text_gives_the_same_vector_twice(embedder: ResRankTextEmbedder):
    assert embedder.run(text="bread") == embedder.run(text="bread")


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank_query_is_refused(embedder: ResRankTextEmbedder, blank: str):
    with pytest.raises(ValueError, match="the query is blank: expected a question or keywords"):
        embedder.run(text=blank)


def test_blank_query_is_refused_before_loading(loads: dict[str, int], fresh_checkpoint: Any):
    with pytest.raises(ValueError, match="blank"):
        ResRankTextEmbedder(model=str(fresh_checkpoint)).run(text=" ")


@pytest.mark.parametrize("query", ["the of and", "is it", "?!", "\u200b"])
def test_query_of_stop_words_or_signs_is_embedded(embedder: ResRankTextEmbedder, query: str):
    assert all(math.isfinite(value) for value in embedder.run(text=query)["embedding"])


@pytest.mark.parametrize(
    ("wrong", "name"), [(None, "NoneType"), (["a", "b"], "list"), (5, "int"), (b"bytes", "bytes"), ({}, "dict")]
)
def test_wrong_type_is_refused_with_a_hint(embedder: ResRankTextEmbedder, wrong: Any, name: str):
    with pytest.raises(
        TypeError, match=f"the query must be a string, got {name}. For documents use ResRankDocumentEmbedder"
    ):
        embedder.run(text=wrong)


def test_hostile_text_is_embedded(embedder: ResRankTextEmbedder, hostile_text: str):
    embedding = embedder.run(text=hostile_text)["embedding"]
    assert math.fsum(value * value for value in embedding) == pytest.approx(1.0, abs=1e-5)


def test_long_query_is_cut_with_a_warning(embedder: ResRankTextEmbedder, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        embedder.run(text="date " * 500)
    assert "1 of 1 queries were longer than 48 tokens and were cut (454 tokens in all)" in caplog.text


def test_run_warms_up_by_itself(loads: dict[str, int], fresh_checkpoint: Any, handle: Any):
    ResRankTextEmbedder(model=handle(fresh_checkpoint)).run(text="bread")
    assert loads == {"encoder": 1, "reranker": 0}


def test_satisfies_haystacks_protocol():
    _assert_accepts(ResRankTextEmbedder.run, TextEmbedder.run)


def test_parameters_are_keyword_only(tiny: ResRankModel):
    with pytest.raises(TypeError, match="positional"):
        ResRankTextEmbedder(tiny)  # type: ignore[misc]


def _assert_accepts(implementation: Any, protocol: Any) -> None:
    """Whatever the protocol's caller may give, by position or by keyword, the implementation takes."""
    ours, theirs = (list(inspect.signature(f).parameters.values())[1:] for f in (implementation, protocol))
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    assert [p.default for p in ours[: len(theirs)]] == [p.default for p in theirs]
    assert all(p.default is not p.empty for p in ours[len(theirs) :])
