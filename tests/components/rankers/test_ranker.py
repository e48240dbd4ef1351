# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import inspect
import json
import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document, Pipeline
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.dataclasses import ByteStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankTextEmbedder
from haystack_integrations.components.rankers.resrank import ResRankRanker
from resrank import ResRank
from resrank.evidence import Evidence, fuse, query_hash
from resrank.matching import WordMatcher

TYPE = "haystack_integrations.components.rankers.resrank.ranker.ResRankRanker"
QUERY = "how do I parse a date?"


@pytest.fixture
def ranker(tiny: ResRankModel) -> ResRankRanker:
    return ResRankRanker(model=tiny, top_k=None)


def ids(documents: list[Document]) -> list[str]:
    return [document.id for document in documents]


def scores(documents: list[Document]) -> list[float]:
    return [document.score for document in documents]


def with_evidence(query: str, documents: list[Document], seed: int = 0) -> list[Document]:
    """The documents as hybrid retrieval gives them; some are in one list only."""
    shuffled = [document.id for document in documents]
    generator = random.Random(seed)
    generator.shuffle(shuffled)
    third = len(shuffled) // 3
    bm25 = [(id_, 20.0 - i) for i, id_ in enumerate(shuffled[: 2 * third])]
    dense = [(id_, 0.9 - i / 100) for i, id_ in enumerate(shuffled[:third] + shuffled[2 * third :])]
    by_id = {document.id: document for document in documents}
    return [
        replace(by_id[c.id], score=c.score, meta={**by_id[c.id].meta, "resrank": {**entry(by_id[c.id]), **c.meta}})
        for c in fuse(query, bm25=bm25, dense=dense)
    ]


def entry(document: Document) -> dict[str, Any]:
    return document.meta.get("resrank", {})


# ------------------------------------------------------------------------------------------------------ construction


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "top_k": None,
            "scale_score": True,
            "score_threshold": 0.0,
            "use_evidence": False,
            "on_missing_embedding": "raise",
            "return_embedding": True,
            "meta_fields_to_embed": ["title"],
            "embedding_separator": " ",
        },
    ],
    ids=["defaults", "all"],
)
def test_round_trip_keeps_every_parameter(parameters: dict[str, Any]):
    defaults = {
        "top_k": 10,
        "scale_score": False,
        "score_threshold": None,
        "use_evidence": True,
        "on_missing_embedding": "encode",
        "return_embedding": False,
        "meta_fields_to_embed": None,
        "embedding_separator": "\n",
    }
    first = component_to_dict(ResRankRanker(model="org/name", **parameters), "ranker")
    expected = {**defaults, **parameters, "model": ResRankModel("org/name").to_dict()}
    assert first == {"type": TYPE, "init_parameters": expected}
    assert component_to_dict(component_from_dict(ResRankRanker, first, "ranker"), "ranker") == first


def test_construction_loads_nothing(loads: dict[str, int], fresh_checkpoint: Any):
    ResRankRanker(model=str(fresh_checkpoint))
    assert loads == {"encoder": 0, "reranker": 0}


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5, "3"])
def test_bad_top_k_is_refused_at_construction(top_k: Any):
    with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {top_k!r}"):
        ResRankRanker(top_k=top_k)


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5, "3"])
def test_bad_top_k_is_refused_at_run_time(ranker: ResRankRanker, embedded: list[Document], top_k: Any):
    with pytest.raises(ValueError, match=f"top_k must be a positive integer or None, got {top_k!r}"):
        ranker.run(query=QUERY, documents=embedded, top_k=top_k)


def test_unknown_on_missing_embedding_is_refused():
    with pytest.raises(ValueError, match="on_missing_embedding must be 'encode' or 'raise', got 'skip'"):
        ResRankRanker(on_missing_embedding="skip")  # type: ignore[arg-type]


def test_parameters_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        ResRankRanker("resrank-mini")  # type: ignore[misc]


def test_run_parameters_are_those_of_haystacks_rankers():
    parameters = list(inspect.signature(ResRankRanker.run).parameters)
    assert parameters[1:] == ["query", "documents", "query_embedding", "top_k", "scale_score", "score_threshold"]


# ----------------------------------------------------------------------------------------------------------- ranking


def test_scores_are_the_models(ranker: ResRankRanker, tiny: ResRankModel, embedded: list[Document]):
    engine = tiny.load("reranker")
    evidence = engine.text_evidence(QUERY, [document.content for document in embedded])
    expected = engine.rerank(QUERY, [document.embedding for document in embedded], evidence)
    found = {d.id: d.score for d in ranker.run(query=QUERY, documents=embedded)["documents"]}
    assert [found[document.id] for document in embedded] == expected.tolist()


def test_scores_descend_and_are_python_floats(ranker: ResRankRanker, embedded: list[Document]):
    ranked = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert scores(ranked) == sorted(scores(ranked), reverse=True)
    assert all(type(score) is float for score in scores(ranked))
    assert len(set(scores(ranked))) > 1


def test_output_is_json(ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    json.dumps([document.to_dict() for document in ranker.run(query=QUERY, documents=documents)["documents"]])


def test_every_candidate_comes_back_once(ranker: ResRankRanker, embedded: list[Document]):
    assert sorted(ids(ranker.run(query=QUERY, documents=embedded)["documents"])) == ids(embedded)


@pytest.mark.parametrize("evidence", [True, False])
def test_order_of_the_candidates_does_not_matter(ranker: ResRankRanker, embedded: list[Document], evidence: bool):
    documents = with_evidence(QUERY, embedded) if evidence else embedded
    forward = ranker.run(query=QUERY, documents=documents)["documents"]
    backward = ranker.run(query=QUERY, documents=documents[::-1])["documents"]
    assert ids(forward) == ids(backward)
    np.testing.assert_allclose(scores(forward), scores(backward), rtol=0, atol=1e-4)


def test_real_model_puts_the_answer_first(mini: ResRankModel, corpus: tuple[str, ...], queries: tuple[str, ...]):
    documents = [Document(id=str(i), content=text) for i, text in enumerate(corpus)]
    best = [ResRankRanker(model=mini, top_k=1).run(query=q, documents=documents)["documents"][0].id for q in queries]
    assert best == ["0", "6", "2", "10"]


def test_one_candidate(ranker: ResRankRanker, embedded: list[Document]):
    ranked = ranker.run(query=QUERY, documents=embedded[3:4])["documents"]
    assert ids(ranked) == ["doc-003"]
    assert math.isfinite(ranked[0].score)


def test_empty_input_gives_empty_output_without_loading(loads: dict[str, int], fresh_checkpoint: Any):
    assert ResRankRanker(model=str(fresh_checkpoint)).run(query=QUERY, documents=[]) == {"documents": []}
    assert loads == {"encoder": 0, "reranker": 0}


def test_more_candidates_than_one_pass_takes_all_come_back(
    ranker: ResRankRanker, tiny: ResRankModel, unit_vectors: Callable[..., Any]
):
    limit = tiny.load().config.reranker.max_candidates
    documents = [Document(id=str(i), embedding=v.tolist()) for i, v in enumerate(unit_vectors(2 * limit + 7))]
    ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    assert sorted(ids(ranked), key=int) == ids(documents)
    assert scores(ranked) == sorted(scores(ranked), reverse=True)


def test_query_of_stop_words_is_ranked(ranker: ResRankRanker, embedded: list[Document]):
    assert len(ranker.run(query="the of and", documents=embedded)["documents"]) == len(embedded)


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u3000"])
@pytest.mark.parametrize("count", [0, 3])
def test_blank_query_is_refused(ranker: ResRankRanker, embedded: list[Document], blank: str, count: int):
    with pytest.raises(ValueError, match="the query is blank"):
        ranker.run(query=blank, documents=embedded[:count])


@pytest.mark.parametrize(("query", "name"), [(None, "NoneType"), (["a"], "list"), (3, "int"), (b"a", "bytes")])
def test_query_of_another_type_is_refused(ranker: ResRankRanker, embedded: list[Document], query: Any, name: str):
    with pytest.raises(TypeError, match=f"the query must be a string, got {name}"):
        ranker.run(query=query, documents=embedded)


@pytest.mark.parametrize(
    ("documents", "name"),
    [(None, "NoneType"), ("text", "str"), (["text"], "a list with str"), (Document(content="a"), "Document")],
)
def test_documents_of_another_type_are_refused(ranker: ResRankRanker, documents: Any, name: str):
    with pytest.raises(TypeError, match=f"documents must be a list of haystack Documents, got {name}"):
        ranker.run(query=QUERY, documents=documents)


def test_query_with_half_an_emoji_is_refused(ranker: ResRankRanker, embedded: list[Document]):
    with pytest.raises(ValueError, match=r"the query has a lone surrogate \('\\ud83d' at character 5\)"):
        ranker.run(query="date \ud83d", documents=embedded)


def test_hostile_query_is_ranked(ranker: ResRankRanker, embedded: list[Document], hostile_text: str):
    ranked = ranker.run(query=hostile_text, documents=embedded)["documents"]
    assert np.isfinite(scores(ranked)).all()
    assert len(ranked) == len(embedded)


# ---------------------------------------------------------------------------------------------------------- overrides


def test_top_k_of_the_constructor(tiny: ResRankModel, embedded: list[Document]):
    everything = ResRankRanker(model=tiny, top_k=None).run(query=QUERY, documents=embedded)["documents"]
    assert ResRankRanker(model=tiny, top_k=4).run(query=QUERY, documents=embedded)["documents"] == everything[:4]


@pytest.mark.parametrize("top_k", [1, 5, 1_000])
def test_top_k_at_run_time_wins(tiny: ResRankModel, embedded: list[Document], top_k: int):
    ranked = ResRankRanker(model=tiny, top_k=3).run(query=QUERY, documents=embedded, top_k=top_k)["documents"]
    assert len(ranked) == min(top_k, len(embedded))


def test_default_is_ten(tiny: ResRankModel, embedded: list[Document]):
    assert len(ResRankRanker(model=tiny).run(query=QUERY, documents=embedded)["documents"]) == 10


def test_threshold_of_zero_at_run_time_wins_over_the_constructors(tiny: ResRankModel, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    everything = ResRankRanker(model=tiny, top_k=None).run(query=QUERY, documents=documents)["documents"]
    strict = ResRankRanker(model=tiny, top_k=None, score_threshold=1e9, scale_score=False)
    assert strict.run(query=QUERY, documents=documents)["documents"] == []
    positive = strict.run(query=QUERY, documents=documents, score_threshold=0.0)["documents"]
    assert positive == [document for document in everything if document.score >= 0.0]


def test_threshold_of_zero_in_the_constructor_is_a_threshold(tiny: ResRankModel, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    ranked = ResRankRanker(model=tiny, top_k=None, score_threshold=0.0).run(query=QUERY, documents=documents)
    assert all(document.score >= 0.0 for document in ranked["documents"])
    assert len(ranked["documents"]) < len(documents)


def test_threshold_keeps_the_score_that_equals_it(ranker: ResRankRanker, embedded: list[Document]):
    everything = ranker.run(query=QUERY, documents=embedded)["documents"]
    kept = ranker.run(query=QUERY, documents=embedded, score_threshold=everything[4].score)["documents"]
    assert kept == everything[:5]


def test_threshold_counts_after_scaling(ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    everything = ranker.run(query=QUERY, documents=documents, scale_score=True)["documents"]
    kept = ranker.run(query=QUERY, documents=documents, scale_score=True, score_threshold=0.5)["documents"]
    assert kept == [document for document in everything if document.score >= 0.5]


def test_scale_score_false_at_run_time_wins(tiny: ResRankModel, ranker: ResRankRanker, embedded: list[Document]):
    scaling = ResRankRanker(model=tiny, top_k=None, scale_score=True)
    raw = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert scaling.run(query=QUERY, documents=embedded, scale_score=False)["documents"] == raw
    assert scores(scaling.run(query=QUERY, documents=embedded)["documents"]) != scores(raw)


@pytest.mark.parametrize("handle_name", ["tiny", "tiny_paper"])
def test_scaled_scores_keep_the_order_and_lie_between_0_and_1(
    handle_name: str, request: pytest.FixtureRequest, embedded: list[Document]
):
    ranker = ResRankRanker(model=request.getfixturevalue(handle_name), top_k=None)
    raw = ranker.run(query=QUERY, documents=embedded)["documents"]
    scaled = ranker.run(query=QUERY, documents=embedded, scale_score=True)["documents"]
    assert ids(scaled) == ids(raw)
    assert all(0.0 <= score <= 1.0 for score in scores(scaled))
    if handle_name == "tiny":
        assert scores(scaled) == pytest.approx([1 / (1 + math.exp(-score)) for score in scores(raw)])
    else:
        assert scores(scaled) == pytest.approx([(1 + score) / 2 for score in scores(raw)])


def test_extreme_scores_do_not_overflow_when_scaled():
    from haystack_integrations.components.rankers.resrank.ranker import scaled_score

    assert [scaled_score(score, "evidence") for score in (1e6, -1e6, 0.0)] == [1.0, 0.0, 0.5]


def test_scores_of_the_paper_mode_are_cosines(tiny_paper: ResRankModel, embedded: list[Document]):
    ranked = ResRankRanker(model=tiny_paper, top_k=None).run(query=QUERY, documents=embedded)["documents"]
    assert all(-1.0001 <= score <= 1.0001 for score in scores(ranked))


# --------------------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("return_embedding", [True, False])
def test_inputs_are_not_changed(
    tiny: ResRankModel, embedded: list[Document], unchanged: Callable[[Any], None], return_embedding: bool
):
    documents = with_evidence(QUERY, [replace(d, meta={**d.meta, "nested": {"a": [1]}}) for d in embedded])
    vector = tiny.load("encoder").encode_queries([QUERY])[0].tolist()
    unchanged(documents)
    unchanged(vector)
    ranker = ResRankRanker(model=tiny, return_embedding=return_embedding)
    ranker.run(query=QUERY, documents=documents, query_embedding=vector, scale_score=True)


def test_embeddings_are_dropped(ranker: ResRankRanker, embedded: list[Document]):
    ranked = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert all(document.embedding is None and document.sparse_embedding is None for document in ranked)


def test_embeddings_stay_when_asked(tiny: ResRankModel, embedded: list[Document]):
    ranked = ResRankRanker(model=tiny, return_embedding=True).run(query=QUERY, documents=embedded)["documents"]
    by_id = {document.id: document for document in embedded}
    assert [d.embedding for d in ranked] == [by_id[d.id].embedding for d in ranked]
    assert [d.sparse_embedding for d in ranked] == [by_id[d.id].sparse_embedding for d in ranked]


def test_content_and_other_meta_stay(ranker: ResRankRanker, embedded: list[Document]):
    documents = [replace(d, meta={**d.meta, "title": f"t{i}"}) for i, d in enumerate(embedded)]
    for document in ranker.run(query=QUERY, documents=documents)["documents"]:
        before = documents[int(document.id[4:])]
        assert document.content == before.content
        assert document.meta["title"] == before.meta["title"]
        assert document.meta["resrank"]["fingerprint"] == before.meta["resrank"]["fingerprint"]


def test_retrieval_score_and_rank_are_kept(ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    found = {d.id: (d.meta["resrank"]["retrieval_rank"], d.meta["resrank"]["retrieval_score"]) for d in ranked}
    assert found == {d.id: (i, d.score) for i, d in enumerate(documents, 1)}


def test_evidence_stays_in_the_meta(ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    by_id = {document.id: document for document in documents}
    for document in ranker.run(query=QUERY, documents=documents)["documents"]:
        assert entry(document).items() >= entry(by_id[document.id]).items()


def test_duplicates_are_ranked_once_and_the_higher_score_stays(ranker: ResRankRanker, embedded: list[Document]):
    first, second = replace(embedded[0], score=0.2, meta={"from": "a"}), replace(embedded[0], score=0.9)
    unscored = replace(embedded[0], score=None, meta={"from": "c"})
    ranked = ranker.run(query=QUERY, documents=[unscored, first, *embedded[1:], second])["documents"]
    assert sorted(ids(ranked)) == ids(embedded)
    winner = next(document for document in ranked if document.id == "doc-000")
    assert entry(winner)["retrieval_score"] == 0.9
    assert "from" not in winner.meta


def test_duplicates_do_not_change_the_scores(ranker: ResRankRanker, embedded: list[Document]):
    once = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert ranker.run(query=QUERY, documents=embedded * 3)["documents"] == once


def test_not_a_number_as_first_stage_score_counts_as_none(ranker: ResRankRanker, embedded: list[Document]):
    worse, better = replace(embedded[0], score=math.nan), replace(embedded[0], score=0.1)
    for documents in ([worse, better], [better, worse]):
        assert entry(ranker.run(query=QUERY, documents=documents)["documents"][0])["retrieval_score"] == 0.1


def test_ties_go_by_first_stage_score_then_id(safe: ResRankModel, embedded: list[Document]):
    vector = embedded[0].embedding
    tied = [Document(id=id_, embedding=vector, score=score) for id_, score in
            [("d", None), ("b", 0.5), ("c", 0.9), ("a", 0.5), ("e", None)]]  # fmt: skip
    ranked = ResRankRanker(model=safe).run(query=QUERY, documents=tied)["documents"]
    assert len(set(scores(ranked))) == 1
    assert ids(ranked) == ["c", "a", "b", "d", "e"]


# -------------------------------------------------------------------------------------------------------- safe start


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scored", [True, False], ids=["with-scores", "without-scores"])
def test_safe_start_keeps_the_order_of_fusion_exactly(
    safe: ResRankModel, unit_vectors: Callable[..., Any], seed: int, scored: bool
):
    vectors = {f"p{i:03}": vector for i, vector in enumerate(unit_vectors(150, seed=seed))}
    names = sorted(vectors)
    generator = random.Random(seed)
    bm25 = [(name, 30.0 - i / 4) for i, name in enumerate(generator.sample(names, 100))]
    dense = [(name, 0.9 - i / 200) for i, name in enumerate(generator.sample(names, 100))]
    fused = fuse(QUERY, bm25=bm25, dense=dense, top_k=100)
    assert any(not c.meta["bm25_rank"] for c in fused)
    assert any(not c.meta["dense_rank"] for c in fused)
    documents = [
        Document(id=c.id, embedding=vectors[c.id].tolist(), meta={"resrank": c.meta}, score=c.score if scored else None)
        for c in fused
    ]
    generator.shuffle(documents)
    ranked = ResRankRanker(model=safe, top_k=None).run(query=QUERY, documents=documents)["documents"]
    assert ids(ranked) == [candidate.id for candidate in fused]


def test_safe_start_keeps_the_dense_order_without_evidence(safe: ResRankModel, unit_vectors: Callable[..., Any]):
    query = safe.load("encoder").encode_queries([QUERY])[0]
    vectors = unit_vectors(100)
    documents = [
        Document(id=f"p{i:03}", embedding=v.tolist(), score=float(v.astype(np.float64) @ query))
        for i, v in enumerate(vectors)
    ]
    ranked = ResRankRanker(model=safe, top_k=None).run(query=QUERY, documents=documents)["documents"]
    assert ids(ranked) == ids(sorted(documents, key=lambda d: (-d.score, d.id)))


def test_trained_head_moves_the_order(ranker: ResRankRanker, safe: ResRankModel, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    before = ResRankRanker(model=safe, top_k=None).run(query=QUERY, documents=documents)["documents"]
    assert ids(before) == ids(documents)
    assert ids(ranker.run(query=QUERY, documents=documents)["documents"]) != ids(documents)


# ------------------------------------------------------------------------------------------------------------ evidence


def test_evidence_changes_the_scores(ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    pure = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert scores(ranker.run(query=QUERY, documents=documents)["documents"]) != scores(pure)


def test_use_evidence_false_is_the_pure_mode(tiny: ResRankModel, ranker: ResRankRanker, embedded: list[Document]):
    documents = with_evidence(QUERY, embedded)
    pure = ranker.run(query=QUERY, documents=[replace(d, meta={}, content=None) for d in documents])["documents"]
    ignoring = ResRankRanker(model=tiny, top_k=None, use_evidence=False)
    ranked = ignoring.run(query=QUERY, documents=documents)["documents"]
    assert [(d.id, d.score) for d in ranked] == [(d.id, d.score) for d in pure]


def test_another_querys_evidence_is_ignored_with_a_warning(
    ranker: ResRankRanker, embedded: list[Document], caplog: pytest.LogCaptureFixture
):
    documents = with_evidence("capital of France", embedded)
    with caplog.at_level(logging.WARNING):
        ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    assert "12 of 12 documents carry first-stage evidence of another query, which is ignored" in caplog.text
    pure = ranker.run(query=QUERY, documents=[replace(d, meta={}) for d in documents])["documents"]
    assert [(d.id, d.score) for d in ranked] == [(d.id, d.score) for d in pure]


def test_blanks_around_the_query_do_not_make_it_another(
    ranker: ResRankRanker, embedded: list[Document], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        ranker.run(query=f"  {QUERY}\n", documents=with_evidence(QUERY, embedded))
    assert "evidence of another query" not in caplog.text


def test_joined_lists_with_and_without_evidence_are_ranked(ranker: ResRankRanker, embedded: list[Document]):
    documents = [*with_evidence(QUERY, embedded[:6]), *embedded[6:]]
    ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    assert sorted(ids(ranked)) == ids(embedded)
    assert np.isfinite(scores(ranked)).all()


@pytest.mark.parametrize("value", ["high", True, [1.0], math.inf, -math.inf, 3e38, 1e300, 10**400, 2e4], ids=str)
def test_evidence_that_is_no_usable_number_is_refused(ranker: ResRankRanker, embedded: list[Document], value: Any):
    # 3e38 would turn the scores of the whole list into NaN.
    meta = {"resrank": {"query": query_hash(QUERY), "rrf_score": value}}
    with pytest.raises(ValueError, match="evidence 'rrf_score' must be a finite number, got"):
        ranker.run(query=QUERY, documents=[*embedded[1:], replace(embedded[0], meta=meta)])


@pytest.mark.parametrize("rank", [-1, 0, 10**6, 1e30], ids=str)
def test_any_rank_is_usable(ranker: ResRankRanker, embedded: list[Document], rank: Any):
    meta = {"resrank": {"query": query_hash(QUERY), "rrf_score": 0.5, "bm25_rank": rank}}
    ranked = ranker.run(query=QUERY, documents=[*embedded[1:], replace(embedded[0], meta=meta)])["documents"]
    assert np.isfinite(scores(ranked)).all()


@pytest.mark.parametrize("odd", [None, 5, "text", [1]])
def test_other_values_under_our_meta_key_are_no_evidence(ranker: ResRankRanker, embedded: list[Document], odd: Any):
    ranked = ranker.run(query=QUERY, documents=[replace(embedded[0], meta={"resrank": odd})])["documents"]
    assert entry(ranked[0]) == {"retrieval_score": None, "retrieval_rank": 1}


# --------------------------------------------------------------------------------------------------- words of the content

WEIGHTS = [1.0, 2.0, 0.5, 0.25, 4.0]


@pytest.fixture(scope="module")
def matching(
    tiny_mini: Callable[..., ResRank], handle: Callable[..., ResRankModel], tmp_path_factory: pytest.TempPathFactory
) -> ResRankModel:
    """A handle on a tiny model whose scores are the first stage's and `WEIGHTS` of the matches."""
    model = tiny_mini()
    with torch.no_grad():
        model.head.prior_weights[2:] = torch.tensor(WEIGHTS)
        model.head.text_weights[1:] = torch.tensor(WEIGHTS)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-matching"
    model.save_pretrained(folder)
    return handle(folder)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Evidence | None]:
    """The evidence that models were told of each list."""
    seen: list[Evidence | None] = []
    rerank = ResRank.rerank

    def remember(self: ResRank, query: str, passages: Any, evidence: Any = None, **options: Any) -> Any:
        seen.append(evidence)
        return rerank(self, query, passages, evidence, **options)

    monkeypatch.setattr(ResRank, "rerank", remember)
    return seen


@pytest.fixture(params=[True, False], ids=["first-stage", "words-alone"])
def alike(request: pytest.FixtureRequest, embedded: list[Document]) -> Callable[..., list[Document]]:
    """Return a function that makes documents of contents: alike in vector, first stage and score, in order of their ids."""
    found = {"bm25_score": 0.5, "bm25_rank": 2, "dense_score": 0.4, "dense_rank": 3, "rrf_score": 0.9}
    meta = {"resrank": {"query": query_hash(QUERY), **found}} if request.param else {}

    def make(*contents: str | None, **more: Any) -> list[Document]:
        return [
            Document(id=f"{i}", content=text, embedding=embedded[0].embedding, score=0.5, meta={**meta, **more})
            for i, text in enumerate(contents)
        ]

    return make


def test_of_two_alike_the_one_with_the_querys_phrase_is_first(
    matching: ResRankModel, safe: ResRankModel, alike: Callable[..., list[Document]]
):
    texts = ("I date the parser: 1970. How?", "Here is how I parse a date.")
    documents = alike(*texts)
    same = scores(ResRankRanker(model=safe).run(query=QUERY, documents=documents)["documents"])
    assert same[0] == pytest.approx(same[1], abs=1e-4)
    ranked = ResRankRanker(model=matching).run(query=QUERY, documents=documents)["documents"]
    assert ids(ranked) == ["1", "0"]
    matches = matching.load("encoder").matcher.matches(QUERY, texts)
    assert ranked[0].score - ranked[1].score == pytest.approx((matches[1] - matches[0]) @ np.float32(WEIGHTS), abs=1e-4)


def test_a_document_without_content_matches_nothing(
    matching: ResRankModel, alike: Callable[..., list[Document]], told: list[Evidence]
):
    ranked = ResRankRanker(model=matching).run(query=QUERY, documents=alike(None, "I parse a date."))["documents"]
    assert ids(ranked) == ["1", "0"]
    assert np.isnan(told[0].features[0, 5:]).all()
    np.testing.assert_array_equal(
        told[0].features[1, 5:], matching.load("encoder").matcher.matches(QUERY, ["I parse a date."])[0]
    )


def test_fields_that_are_embedded_have_words_too(
    matching: ResRankModel, alike: Callable[..., list[Document]], told: list[Evidence]
):
    other, titled = alike("It is long.", "It is long.")
    titled.meta["title"] = "How do I parse a date?"
    plain = ResRankRanker(model=matching).run(query=QUERY, documents=[other, titled])["documents"]
    assert plain[0].score == pytest.approx(plain[1].score, abs=1e-4)
    ranker = ResRankRanker(model=matching, meta_fields_to_embed=["title", "lost"])
    assert ids(ranker.run(query=QUERY, documents=[other, titled])["documents"]) == ["1", "0"]
    assert told[1].features[:, 5:].tolist() == [[0.0] * 5, [1.0] * 5]
    ranker.run(query=QUERY, documents=[other, replace(titled, content=None)])
    assert np.isnan(told[2].features[1, 5:]).all()  # its vector alone is read


def test_words_count_as_well_as_the_first_stage(
    ranker: ResRankRanker, tiny: ResRankModel, embedded: list[Document], told: list[Evidence]
):
    documents = with_evidence(QUERY, embedded)
    ranker.run(query=QUERY, documents=[*documents, documents[0]])  # one of them twice
    (evidence,) = told
    matches = tiny.load("encoder").matcher.matches(QUERY, [document.content for document in documents])
    np.testing.assert_array_equal(evidence.features[:, 5:], matches)
    assert matches.any()
    np.testing.assert_array_equal(
        evidence.features[:, 2], np.float32([entry(document)["rrf_score"] for document in documents])
    )


def test_pure_and_paper_mode_read_no_words(
    tiny: ResRankModel,
    tiny_paper: ResRankModel,
    embedded: list[Document],
    told: list[Evidence | None],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(WordMatcher, "matches", lambda *_: pytest.fail("words were compared"))
    documents = with_evidence(QUERY, embedded)
    ResRankRanker(model=tiny, use_evidence=False).run(query=QUERY, documents=documents)
    plain = [replace(document, meta={}) for document in documents]
    ranked = ResRankRanker(model=tiny_paper, top_k=None).run(query=QUERY, documents=plain)["documents"]
    assert told == [None, None]
    assert len(ranked) == len(documents)


def test_hostile_content_is_compared(ranker: ResRankRanker, embedded: list[Document], hostile_text: str):
    documents = [replace(embedded[0], content=hostile_text), *embedded[1:]]
    ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    assert np.isfinite(scores(ranked)).all()


# ------------------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize(
    "vector", [[math.nan] * 32, [0.0] * 32, [math.inf] * 32, [1.0] * 31 + [math.nan]], ids=["nan", "zero", "inf", "one"]
)
def test_vectors_that_cannot_be_scored_are_refused(ranker: ResRankRanker, embedded: list[Document], vector: Any):
    with pytest.raises(ValueError, match="1 of 12 documents have vectors that are zero or hold NaN or infinite values"):
        ranker.run(query=QUERY, documents=[replace(embedded[0], embedding=vector), *embedded[1:]])


@pytest.mark.parametrize(("vector", "size"), [([1.0] * 31, "31"), ([1.0] * 64, "64"), ([], "0"), (5.0, "float")])
def test_vectors_of_another_size_are_refused(ranker: ResRankRanker, embedded: list[Document], vector: Any, size: str):
    documents = [*embedded[:-1], replace(embedded[-1], embedding=vector)]
    with pytest.raises(ValueError, match=rf"1 of 12 .* another size \(document doc-011: expected 32, got {size}\)"):
        ranker.run(query=QUERY, documents=documents)


def test_vectors_of_another_model_are_refused(ranker: ResRankRanker, embedded: list[Document], tiny: ResRankModel):
    foreign = replace(embedded[0], meta={"resrank": {"fingerprint": "0123456789abcdef"}})
    expected = tiny.load("encoder").fingerprint
    message = (
        rf"1 of 12 documents carry vectors of another model \(document doc-000: expected fingerprint {expected}, "
        r"got 0123456789abcdef\): embed them again with this model \(`resrank index` does it\)"
    )
    with pytest.raises(ValueError, match=message):
        ranker.run(query=QUERY, documents=[foreign, *embedded[1:]])


def test_vectors_of_a_real_other_model_of_the_same_size_are_refused(
    tiny_qwen_checkpoint: Any, handle: Callable[..., ResRankModel], embedded: list[Document]
):
    with pytest.raises(ValueError, match="12 of 12 documents carry vectors of another model"):
        ResRankRanker(model=handle(tiny_qwen_checkpoint)).run(query=QUERY, documents=embedded)


def test_vectors_without_a_stamp_are_trusted(ranker: ResRankRanker, embedded: list[Document]):
    plain = [replace(document, meta={}) for document in embedded]
    assert ids(ranker.run(query=QUERY, documents=plain)["documents"]) == ids(
        ranker.run(query=QUERY, documents=embedded)["documents"]
    )


def test_length_of_the_vectors_does_not_matter(ranker: ResRankRanker, embedded: list[Document]):
    long = [replace(document, embedding=[8.0 * value for value in document.embedding]) for document in embedded]
    expected = ranker.run(query=QUERY, documents=embedded)["documents"]
    ranked = ranker.run(query=QUERY, documents=long)["documents"]
    assert ids(ranked) == ids(expected)
    np.testing.assert_allclose(scores(ranked), scores(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("missing", [1, 12], ids=["some", "all"])
def test_missing_vectors_are_encoded_with_one_warning(
    ranker: ResRankRanker, embedded: list[Document], missing: int, caplog: pytest.LogCaptureFixture
):
    documents = [replace(d, embedding=None) for d in embedded[:missing]] + embedded[missing:]
    with caplog.at_level(logging.WARNING):
        ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    warnings = [record.getMessage() for record in caplog.records if "no embedding" in record.getMessage()]
    assert len(warnings) == 1
    assert f"{missing} of 12 documents have no embedding and are encoded now, which is slow" in warnings[0]
    assert "return_embedding=True" in warnings[0]
    expected = ranker.run(query=QUERY, documents=embedded)["documents"]
    assert ids(ranked) == ids(expected)
    np.testing.assert_allclose(scores(ranked), scores(expected), rtol=0, atol=1e-4)


def test_missing_vectors_are_encoded_with_the_same_meta_fields(tiny: ResRankModel, mini: ResRankModel):
    document = Document(content="It is round.", meta={"title": "Bread"})
    plain = ResRankRanker(model=mini).run(query="bread", documents=[document])["documents"][0]
    titled = ResRankRanker(model=mini, meta_fields_to_embed=["title"]).run(query="bread", documents=[document])
    assert titled["documents"][0].score > plain.score


def test_missing_vectors_are_refused_when_asked(tiny: ResRankModel, embedded: list[Document]):
    strict = ResRankRanker(model=tiny, on_missing_embedding="raise")
    documents = [*embedded[:2], replace(embedded[2], embedding=None)]
    with pytest.raises(ValueError, match=r"1 of 3 documents have no embedding \(doc-002\): set return_embedding=True"):
        strict.run(query=QUERY, documents=documents)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (Document(id="odd", content=None), "no content"),
        (Document(id="odd", blob=ByteStream(b"x")), "no content"),
        (Document(id="odd", content=" "), "blank content"),
    ],
)
def test_document_with_neither_vector_nor_text_is_refused(
    ranker: ResRankRanker, embedded: list[Document], document: Document, kind: str
):
    with pytest.raises(ValueError, match=f"document odd has {kind}"):
        ranker.run(query=QUERY, documents=[*embedded, document])


def test_document_without_content_is_ranked_by_its_vector(
    ranker: ResRankRanker, tiny: ResRankModel, embedded: list[Document]
):
    documents = [replace(document, content=None) for document in embedded]
    ranked = ranker.run(query=QUERY, documents=documents)["documents"]
    expected = tiny.load("reranker").rerank(QUERY, [document.embedding for document in embedded])
    assert {d.id: d.score for d in ranked} == dict(zip(ids(embedded), expected.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------- query embedding


def test_given_query_embedding_saves_encoding(
    ranker: ResRankRanker, tiny: ResRankModel, embedded: list[Document], monkeypatch: pytest.MonkeyPatch
):
    vector = ResRankTextEmbedder(model=tiny).run(text=QUERY)["embedding"]
    expected = ranker.run(query=QUERY, documents=embedded)["documents"]
    calls: list[Any] = []
    encode = ResRank.encode_queries
    monkeypatch.setattr(ResRank, "encode_queries", lambda *a, **k: calls.append(a) or encode(*a, **k))
    assert ranker.run(query=QUERY, documents=embedded, query_embedding=vector)["documents"] == expected
    assert not calls


@pytest.mark.parametrize(("vector", "size"), [([0.1] * 64, "64"), ([], "0"), ([1.0], "1"), (3.0, "float")])
def test_query_embedding_of_another_size_is_refused(
    ranker: ResRankRanker, embedded: list[Document], vector: Any, size: str
):
    with pytest.raises(ValueError, match=f"query_embedding must hold 32 floats, got {size}: use the same model"):
        ranker.run(query=QUERY, documents=embedded, query_embedding=vector)


@pytest.mark.parametrize("value", [math.nan, 0.0, math.inf])
def test_query_embedding_that_cannot_be_scored_is_refused(
    ranker: ResRankRanker, embedded: list[Document], value: float
):
    with pytest.raises(ValueError, match="query_embedding: 1 of 1 vectors are zero or hold NaN or infinite values"):
        ranker.run(query=QUERY, documents=embedded, query_embedding=[value] * 32)


def test_query_embedding_joined_by_haystack_is_explained(tiny: ResRankModel, embedded: list[Document]):
    pipeline = Pipeline()
    pipeline.add_component("embedder", ResRankTextEmbedder(model=tiny))
    pipeline.add_component("ranker", ResRankRanker(model=tiny))
    pipeline.connect("embedder.embedding", "ranker.query_embedding")
    inputs = {"query": QUERY, "documents": embedded, "query_embedding": [0.5] * 32}
    with pytest.raises(Exception, match=r"got 64: .* not both \(Haystack joins the two lists\)"):
        pipeline.run({"embedder": {"text": QUERY}, "ranker": inputs})


# ---------------------------------------------------------------------------------------------------------- lifecycle


def test_run_warms_up_by_itself(
    loads: dict[str, int], fresh_checkpoint: Any, handle: Any, unit_vectors: Callable[..., Any]
):
    documents = [Document(content="a", embedding=unit_vectors(1)[0].tolist())]
    ResRankRanker(model=handle(fresh_checkpoint)).run(query=QUERY, documents=documents)
    assert loads == {"encoder": 1, "reranker": 1}


def test_warm_up_loads_once(loads: dict[str, int], fresh_checkpoint: Any, handle: Any):
    ranker = ResRankRanker(model=handle(fresh_checkpoint))
    ranker.warm_up()
    ranker.warm_up()
    assert loads == {"encoder": 1, "reranker": 1}


def test_usable_again_after_close(tiny: ResRankModel, embedded: list[Document]):
    ranker = ResRankRanker(model=tiny)
    before = ranker.run(query=QUERY, documents=embedded)
    ranker.close()
    ranker.close()
    assert ranker.run(query=QUERY, documents=embedded) == before


# ---------------------------------------------------------------------------------------------------------- any input

finite = st.floats(-1e6, 1e6, width=32)
vectors = st.one_of(
    st.none(),
    st.lists(finite, min_size=32, max_size=32),
    st.integers(0, 6).map(lambda i: [float(i == j) for j in range(32)]),
    st.lists(st.floats(), min_size=0, max_size=33),
)
numbers = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans())
evidence = st.dictionaries(
    st.sampled_from(["bm25_score", "bm25_rank", "dense_score", "dense_rank", "rrf_score", "fingerprint"]),
    numbers,
    max_size=4,
)
metas = st.one_of(
    st.just({}),
    st.builds(lambda values: {"resrank": {"query": query_hash("date"), **values}}, evidence),
    st.builds(lambda value: {"resrank": value}, numbers),
)
documents = st.builds(
    lambda id_, content, embedding, meta, score: Document(
        id=id_, content=content, embedding=embedding, meta=meta, score=score
    ),
    st.sampled_from([f"id{i}" for i in range(12)]),
    st.one_of(st.none(), st.text(max_size=40)),
    vectors,
    metas,
    st.one_of(st.none(), st.floats()),
)
lenient = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@lenient
@given(query=st.one_of(st.just("date"), st.text(max_size=30)), candidates=st.lists(documents, max_size=12))
def test_any_input_is_ranked_completely_or_refused_clearly(
    ranker: ResRankRanker, query: str, candidates: list[Document]
):
    try:
        ranked = ranker.run(query=query, documents=candidates)["documents"]
    except ValueError as error:
        assert any(
            reason in str(error) for reason in ("blank", "no content", "vectors", "evidence", "passage_embeddings")
        ), error
    else:
        _assert_complete(ranked, candidates)


good = st.builds(
    lambda id_, embedding, meta, score: Document(
        id=f"id{id_}", content="bread", embedding=embedding, meta=meta, score=score
    ),
    st.integers(0, 300),
    st.one_of(
        st.none(),
        st.integers(0, 6).map(lambda i: [float(i == j) for j in range(32)]),
        st.lists(st.floats(0.1, 10.0), min_size=32, max_size=32),
    ),
    st.one_of(
        st.just({}),
        st.builds(
            lambda bm25, dense, rrf, rank: {
                "resrank": {
                    "query": query_hash("date"), "bm25_score": bm25, "dense_score": dense, "rrf_score": rrf,
                    "bm25_rank": rank, "dense_rank": rank,
                }
            },
            *[st.floats(0.0, 1.0)] * 3,
            st.integers(0, 100),
        ),
    ),
    st.one_of(st.none(), st.floats(0.0, 1.0)),
)  # fmt: skip


@lenient
@given(candidates=st.lists(good, min_size=1, max_size=40), scale=st.booleans())
def test_nothing_good_is_ever_refused_or_lost(ranker: ResRankRanker, candidates: list[Document], scale: bool):
    ranked = ranker.run(query="date", documents=candidates, scale_score=scale)["documents"]
    _assert_complete(ranked, candidates)


def _assert_complete(ranked: list[Document], candidates: list[Document]) -> None:
    assert sorted(ids(ranked)) == sorted(set(ids(candidates)))
    assert np.isfinite(scores(ranked)).all()

    def first_stage(document: Document) -> float:
        score = entry(document)["retrieval_score"]
        return -math.inf if score is None or math.isnan(score) else score

    assert ranked == sorted(ranked, key=lambda d: (-d.score, -first_stage(d), d.id))
