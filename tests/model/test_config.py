# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The config: round trip, validation, and the configs that are shipped."""

from __future__ import annotations

import json
import re

import pytest

import resrank
from resrank import EncoderConfig, LexicalConfig, RerankerConfig, ResRankConfig
from resrank.sources import CHECKPOINTS

FULL = ResRankConfig(
    mode="paper",
    encoder=EncoderConfig(
        source="org/name", revision="abc", pooling="last", max_length=7, max_query_length=5, query_prompt="Q: "
    ),
    reranker=RerankerConfig(encoder_layers=(1, 3), attention="causal", query_template="Query: {query}\n"),
    lexical=LexicalConfig(language="german", k=0.9, b=0.4, avg_len=80.0),
    rrf_k=10,
    evidence_share=0.3,
)


@pytest.mark.parametrize("config", [ResRankConfig(), FULL], ids=["default", "full"])
def test_round_trip_through_json(config: ResRankConfig) -> None:
    assert ResRankConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_to_dict_says_what_it_is() -> None:
    values = ResRankConfig().to_dict()
    assert (values["model_type"], values["format"]) == ("resrank", 1)


def test_missing_values_take_the_defaults() -> None:
    assert ResRankConfig.from_dict({"model_type": "resrank", "format": 1}) == ResRankConfig()


@pytest.mark.parametrize("share", [0, 0.0, 0.3, 1, 1.0])
def test_evidence_shares_from_nothing_to_all(share: float) -> None:
    assert ResRankConfig(evidence_share=share).evidence_share == share
    assert ResRankConfig().evidence_share == 1.0


def test_from_dict_leaves_its_argument_alone() -> None:
    values = FULL.to_dict()
    before = json.dumps(values)
    ResRankConfig.from_dict(values)
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "expected a ResRank config.json (model_type 'resrank'); got another kind of model."),
        ({"format": 2}, "reads checkpoint format 1, got 2: install a matching resrank"),
        ({"format": None}, "reads checkpoint format 1, got None: install a matching resrank"),
        (
            {"mod": "paper"},
            "config: unknown mod; known are encoder, evidence_share, lexical, mode, reranker, residual, rrf_k",
        ),
        ({"mode": "fast"}, "mode must be one of evidence, paper, got 'fast'"),
        ({"residual": 1}, "residual must be true or false, got 1"),
        ({"rrf_k": 0}, "rrf_k must be a positive integer, got 0"),
        ({"rrf_k": True}, "rrf_k must be a positive integer, got True"),
        ({"evidence_share": -0.1}, "evidence_share must be a number from 0 to 1, got -0.1"),
        ({"evidence_share": 1.1}, "evidence_share must be a number from 0 to 1, got 1.1"),
        ({"evidence_share": float("nan")}, "evidence_share must be a number from 0 to 1, got nan"),
        ({"evidence_share": True}, "evidence_share must be a number from 0 to 1, got True"),
        ({"evidence_share": "0.3"}, "evidence_share must be a number from 0 to 1, got '0.3'"),
        ({"evidence_share": None}, "evidence_share must be a number from 0 to 1, got None"),
        ({"encoder": "minilm"}, "encoder: expected an object, got str"),
        ({"encoder": {"colour": 1, "age": 2}}, "encoder: unknown age, colour; known are max_length, "),
        ({"encoder": {"pooling": "max"}}, "encoder.pooling must be one of mean, cls, last, got 'max'"),
        ({"encoder": {"max_length": -1}}, "encoder.max_length must be a positive integer, got -1"),
        ({"encoder": {"max_query_length": 1.5}}, "encoder.max_query_length must be a positive integer, got 1.5"),
        ({"reranker": {"attention": "full"}}, "reranker.attention must be one of causal, order_free, got 'full'"),
        ({"reranker": {"max_candidates": 0}}, "reranker.max_candidates must be a positive integer, got 0"),
        ({"reranker": {"window_anchors": 0}}, "reranker.window_anchors must be a positive integer, got 0"),
        ({"reranker": {"max_query_length": None}}, "reranker.max_query_length must be a positive integer, got None"),
        (
            {"reranker": {"query_template": "no place"}},
            "reranker.query_template must hold '{query}' exactly once, got 'no place'",
        ),
        (
            {"reranker": {"closing_template": "{query}{query}"}},
            "reranker.closing_template must hold '{query}' exactly once, got '{query}{query}'",
        ),
        ({"lexical": {"k": -1.0}}, "lexical needs k >= 0, 0 <= b <= 1 and avg_len > 0, got k=-1.0, b=0.75"),
        ({"lexical": {"b": 1.1}}, "lexical needs k >= 0, 0 <= b <= 1 and avg_len > 0, got k=1.2, b=1.1"),
        ({"lexical": {"avg_len": 0}}, "lexical needs k >= 0, 0 <= b <= 1 and avg_len > 0"),
    ],
)
def test_wrong_values_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ResRankConfig.from_dict({**ResRankConfig().to_dict(), **change})


def test_with_encoder_and_with_reranker_change_copies() -> None:
    changed = FULL.with_encoder(max_length=9).with_reranker(max_candidates=3)
    assert (changed.encoder.max_length, changed.reranker.max_candidates) == (9, 3)
    assert (changed.encoder.query_prompt, changed.mode) == ("Q: ", "paper")
    assert (FULL.encoder.max_length, FULL.reranker.max_candidates) == (7, 4096)


def test_with_encoder_validates() -> None:
    with pytest.raises(ValueError, match=r"encoder\.max_length must be a positive integer, got 0"):
        FULL.with_encoder(max_length=0)


def test_encoder_layers_become_a_tuple_of_integers() -> None:
    assert RerankerConfig(encoder_layers=[3, 4]).encoder_layers == (3, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*/config.json")), ids=lambda p: p.parent.name)
def test_shipped_configs_parse(path) -> None:
    described = json.loads(path.read_text(encoding="utf-8"))
    if path.parent.name == "resrank-reader-mini":
        with pytest.raises(ValueError, match="reader"):
            ResRankConfig.from_dict(described)
        return
    config = ResRankConfig.from_dict(described)
    assert config.mode == "evidence"
    assert config.encoder.source


def test_the_expected_checkpoints_are_shipped() -> None:
    assert {p.parent.name for p in CHECKPOINTS.glob("*/config.json")} >= {
        "resrank-mini",
        "resrank-qwen3-0.6b",
        "resrank-qwen3-4b",
    }


@pytest.mark.parametrize("size", ["0.6B", "4B"])
def test_qwen_twins_are_the_papers(size: str) -> None:
    path = CHECKPOINTS / f"resrank-qwen3-{size.lower()}" / "config.json"
    config = ResRankConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    assert config.encoder.source == f"Qwen/Qwen3-Embedding-{size}"
    assert config.reranker.source == f"Qwen/Qwen3-{size}"
    assert config.reranker.attention == "causal"


@pytest.mark.parametrize("name", resrank.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(resrank, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'resrank' has no attribute 'Nope'"):
        _ = resrank.Nope
