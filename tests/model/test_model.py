# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""ResRank as callers meet it: what it checks, what it loads, threads, precision, and hostile input."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resrank import RerankerConfig, ResRank, ResRankConfig, TruncationReport
from resrank.candidates import as_vectors
from resrank.checkpoint import Checkpoint
from resrank.evidence import FEATURES, Evidence, evidence_from_meta, fuse, query_hash

Factory = Callable[..., ResRank]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def mini(tiny_mini: Factory, randomise_head: Factory) -> ResRank:
    return randomise_head(tiny_mini())


@pytest.fixture(scope="module")
def qwen(tiny_qwen: Factory, randomise_head: Factory) -> ResRank:
    return randomise_head(tiny_qwen())


@pytest.fixture(scope="module", params=["mini", "qwen"])
def model(request: pytest.FixtureRequest) -> ResRank:
    return request.getfixturevalue(request.param)


# ------------------------------------------------------------------------------------------------------------- results


def test_scores_are_float32_in_input_order(model: ResRank, unit_vectors) -> None:
    scores = model.rerank("bread", unit_vectors(6))
    assert (scores.shape, scores.dtype) == ((6,), np.float32)
    assert len(np.unique(scores)) == 6


@pytest.mark.parametrize("empty", [[], np.empty((0, 32)), np.empty((0, 32), dtype=np.float32), ()], ids=repr)
def test_no_candidates_give_no_scores(model: ResRank, empty: Any) -> None:
    scores = model.rerank("bread", empty)
    assert (scores.shape, scores.dtype) == ((0,), np.float32)


def test_one_candidate_has_one_finite_score(model: ResRank, unit_vectors) -> None:
    scores = model.rerank("bread", unit_vectors(1))
    assert scores.shape == (1,)
    assert np.isfinite(scores).all()


def test_duplicates_tie_when_order_does_not_matter(mini: ResRank, unit_vectors) -> None:
    passages = unit_vectors(5)[[0, 1, 0, 2, 1]]
    scores = mini.rerank("bread", passages)
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)
    assert scores[1] == pytest.approx(scores[4], abs=1e-5)
    assert abs(scores[0] - scores[1]) > 1e-3


def test_vectors_are_normalised(model: ResRank, unit_vectors) -> None:
    passages = unit_vectors(5)
    scaled = passages * np.array([[1e-6], [0.5], [1], [70], [1e6]])
    np.testing.assert_allclose(model.rerank("bread", scaled), model.rerank("bread", passages), atol=1e-4)


def test_bfloat16_tensors_will_do(model: ResRank, unit_vectors) -> None:
    passages = torch.from_numpy(unit_vectors(5)).bfloat16()
    expected = model.rerank("bread", passages.float().numpy())
    np.testing.assert_allclose(model.rerank("bread", passages), expected, atol=1e-6)


def test_the_callers_vectors_are_left_alone(model: ResRank, unit_vectors) -> None:
    passages = 3 * unit_vectors(5)
    before = passages.copy()
    model.rerank("bread", passages)
    np.testing.assert_array_equal(passages, before)


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        lambda v: v.astype(np.float64),
        torch.from_numpy,
        lambda v: torch.from_numpy(v).requires_grad_(),
        list,
        lambda v: tuple(v.tolist()),
    ],
    ids=["lists", "float64", "tensor", "tensor with gradient", "list of arrays", "tuple"],
)
def test_any_array_like_will_do(model: ResRank, unit_vectors, convert: Callable[[np.ndarray], Any]) -> None:
    passages = unit_vectors(5)
    np.testing.assert_allclose(model.rerank("bread", convert(passages)), model.rerank("bread", passages), atol=1e-6)


def test_a_given_query_embedding_equals_encoding(model: ResRank, unit_vectors) -> None:
    passages = unit_vectors(5)
    vector = model.encode_queries(["bread"])[0]
    expected = model.rerank("bread", passages)
    for given_vector in (vector, vector.tolist(), 5 * vector):
        np.testing.assert_allclose(model.rerank("bread", passages, query_embedding=given_vector), expected, atol=1e-5)


def test_the_query_embedding_is_used(model: ResRank, unit_vectors) -> None:
    passages = unit_vectors(5)
    other = model.rerank("bread", passages, query_embedding=unit_vectors(1, seed=8)[0])
    assert np.abs(other - model.rerank("bread", passages)).max() > 0.01


def test_a_given_query_embedding_spares_encoding(mini: ResRank, unit_vectors, monkeypatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(mini.encoder.backbone, "forward", fail)
    assert mini.rerank("bread", unit_vectors(3), query_embedding=unit_vectors(1)[0]).shape == (3,)


def test_the_same_call_gives_the_same_scores(model: ResRank, unit_vectors) -> None:
    first, second = (model.rerank("bread", unit_vectors(9)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


# ----------------------------------------------------------------------------------------------------------- safe start


def test_safe_start_without_evidence_ranks_by_cosine(tiny_model: Factory, corpus, queries) -> None:
    model = tiny_model()
    passages, vectors = model.encode_passages(corpus), model.encode_queries(queries)
    for query, vector in zip(queries, vectors, strict=True):
        np.testing.assert_allclose(model.rerank(query, passages), 20.0 * passages @ vector, atol=1e-4)


def test_safe_start_with_evidence_ranks_as_the_fused_list(tiny_model: Factory, unit_vectors) -> None:
    bm25 = [(f"p{i}", 9.0 - i) for i in range(8)]
    dense = [(f"p{i}", 0.9 - i / 20) for i in (4, 9, 1, 7, 8)]
    fused = fuse("bread", bm25=bm25, dense=dense)
    evidence, _ = evidence_from_meta("bread", [c.meta for c in fused])
    scores = tiny_model().rerank("bread", unit_vectors(len(fused)), evidence)
    order = sorted(range(len(fused)), key=lambda i: (-scores[i], fused[i].id))
    assert [fused[i].id for i in order] == [c.id for c in fused]


def test_paper_mode_scores_are_cosines(tiny_model: Factory, unit_vectors) -> None:
    scores = tiny_model(mode="paper").rerank("bread", unit_vectors(30))
    assert (np.abs(scores) <= 1 + 1e-6).all()
    assert len(np.unique(scores)) == 30


def test_evidence_moves_scores(model: ResRank, unit_vectors) -> None:
    passages, features = unit_vectors(4), np.full((4, len(FEATURES)), 0.5, dtype=np.float32)
    changed = features.copy()
    changed[0, 0] = 1.0  # not the prior's column: only the slot sees it
    first, second = (model.rerank("bread", passages, Evidence("", values)) for values in (features, changed))
    assert abs(first[0] - second[0]) > 1e-4


def test_text_evidence_is_how_words_match(model: ResRank, unit_vectors) -> None:
    texts = ["Bread needs yeast.", None, "a date", ""]
    evidence = model.text_evidence("bread needs", texts)
    assert evidence.query_hash == query_hash("bread needs")
    assert np.isnan(evidence.features[:, :5]).all()
    np.testing.assert_array_equal(evidence.features[:, 5:], model.matcher.matches("bread needs", texts))
    assert evidence.features[0, [5, 6, 7, 9]].tolist() == [1, 1, 1, 1]
    assert np.isnan(evidence.features[1]).all()
    assert np.isfinite(model.rerank("bread needs", unit_vectors(4), evidence)).all()
    assert model.text_evidence("bread", []).features.shape == (0, len(FEATURES))


def test_text_evidence_moves_scores(model: ResRank, unit_vectors) -> None:
    texts = ["Bread needs yeast.", "bread", "a date"]
    pure = model.rerank("bread", unit_vectors(3))
    assert np.abs(model.rerank("bread", unit_vectors(3), model.text_evidence("bread", texts)) - pure).max() > 1e-4


def test_safe_start_with_text_evidence_ranks_by_cosine(tiny_model: Factory, corpus, queries) -> None:
    model = tiny_model()
    passages, vectors = model.encode_passages(corpus), model.encode_queries(queries)
    for query, vector in zip(queries, vectors, strict=True):
        scores = model.rerank(query, passages, model.text_evidence(query, corpus))
        np.testing.assert_allclose(scores, 20.0 * (passages @ vector - 1), atol=1e-4)


def test_words_are_compared_without_loading_anything(tiny_mini_checkpoint) -> None:
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32")
    assert model.matcher is model.matcher
    assert np.isfinite(model.text_evidence("bread", ["bread"]).features[0, 5:]).all()
    assert model.loaded_parts == ()


# ------------------------------------------------------------------------------------------------------ evidence share


def _sharing(share: float) -> ResRankConfig:
    return ResRankConfig(reranker=RerankerConfig(max_query_length=40), evidence_share=share)


def _with_and_without_evidence() -> list[Evidence | None]:
    """Of lists of 12, 5, 3, 9 and 1 candidates; the third knows one number."""
    first = np.random.default_rng(0).uniform(0.05, 1, (12, len(FEATURES))).astype(np.float32)
    one = Evidence.unknown(3).features.copy()
    one[1, -1] = 0.5
    fifth = np.full((1, len(FEATURES)), 0.5, dtype=np.float32)
    return [Evidence("", first), None, Evidence("", one), Evidence.unknown(9), Evidence("", fifth)]


def test_a_share_of_what_the_reranker_adds_counts_where_there_is_evidence(
    tiny_model: Factory, randomise_head: Factory, unit_vectors
) -> None:
    safe, whole, part = tiny_model(), *(randomise_head(tiny_model(config=_sharing(share))) for share in (1.0, 0.3))
    for evidence, share in zip(_with_and_without_evidence(), [0.3, 1.0, 0.3, 1.0, 0.3], strict=True):
        passages = unit_vectors(9 if evidence is None else len(evidence.features), seed=4)
        prior, all_of_it, found = (model.rerank("bread", passages, evidence) for model in (safe, whole, part))
        assert np.abs(all_of_it - prior).max() > 0.01
        np.testing.assert_allclose(found, prior + share * (all_of_it - prior), atol=1e-4)


def test_lists_with_and_without_evidence_share_a_pass(
    tiny_model: Factory, randomise_head: Factory, unit_vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = randomise_head(tiny_model(config=_sharing(0.3)))
    evidence, lists = _with_and_without_evidence(), [unit_vectors(n, seed=n) for n in (12, 5, 3, 9, 1)]
    alone = [model.rerank("bread", *each) for each in zip(lists, evidence, strict=True)]
    seen: list[list[float]] = []
    share = model.head.share

    def watched(has_evidence: torch.Tensor) -> torch.Tensor:
        seen.append(sorted(share(has_evidence).flatten().tolist()))
        return share(has_evidence)

    monkeypatch.setattr(model.head, "share", watched)
    batch = model.rerank_batch(["bread"] * 5, lists, evidence, tokens_per_batch=10_000)
    assert seen == [pytest.approx([0.3, 0.3, 0.3, 1.0, 1.0])]
    for found, expected in zip(batch, alone, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_windows_without_evidence_belong_to_a_list_with_evidence(
    tiny_model: Factory, randomise_head: Factory, unit_vectors
) -> None:
    """With a share of 0 nothing that the reranker adds counts, in no window of the list."""
    config = _sharing(0.0).with_reranker(max_candidates=8, window_anchors=3)
    model, safe = randomise_head(tiny_model(config=config)), tiny_model(config=config.with_reranker(max_candidates=100))
    features = np.full((20, len(FEATURES)), NAN, dtype=np.float32)
    passages = unit_vectors(20, seed=4)
    worst = int(np.argmin(passages @ model.encode_queries(["bread"])[0]))
    features[worst, -1] = 0.5
    evidence = Evidence("", features)
    np.testing.assert_allclose(
        model.rerank("bread", passages, evidence), safe.rerank("bread", passages, evidence), atol=1e-4
    )


def test_the_evidence_share_can_be_changed(
    tiny_model: Factory, randomise_head: Factory, unit_vectors, tmp_path
) -> None:
    whole, part = randomise_head(tiny_model(config=_sharing(1.0))), randomise_head(tiny_model(config=_sharing(0.3)))
    evidence = _with_and_without_evidence()[0]
    whole.set_evidence_share(0.3)
    of = "bread", unit_vectors(12), evidence
    np.testing.assert_array_equal(whole.rerank(*of), part.rerank(*of))
    whole.save_pretrained(tmp_path)
    assert ResRank.from_pretrained(tmp_path, device="cpu").config.evidence_share == 0.3
    with pytest.raises(ValueError, match="evidence_share must be a number from 0 to 1, got 2"):
        whole.set_evidence_share(2)


def test_the_evidence_share_is_saved(tiny_mini: Factory, randomise_head: Factory, unit_vectors, tmp_path: Path) -> None:
    model = randomise_head(tiny_mini(config=_sharing(0.3)))
    model.save_pretrained(tmp_path)
    again = ResRank.from_pretrained(tmp_path, device="cpu", dtype="float32")
    assert (again.config.evidence_share, again.head.evidence_share) == (0.3, 0.3)
    for evidence in _with_and_without_evidence()[:2]:
        of = "bread", unit_vectors(12), evidence
        np.testing.assert_allclose(again.rerank(*of), model.rerank(*of), atol=1e-6)


# --------------------------------------------------------------------------------------------------------- what is refused


def _broken(value: float) -> list[list[float]]:
    vectors = np.eye(4, 32)
    vectors[2] = value
    return vectors.tolist()


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        (np.ones((3, 31)), "must have the shape (n, 32), got (3, 31): these vectors are not from this model"),
        (np.ones(32), "must have the shape (n, 32), got (32,)"),
        (np.ones((2, 3, 32)), "must have the shape (n, 32), got (2, 3, 32)"),
        (_broken(NAN), "1 of 4 vectors are zero or hold NaN or infinite values (rows 2): encode these texts again"),
        (_broken(INF), "1 of 4 vectors are zero or hold NaN or infinite values (rows 2)"),
        (_broken(0.0), "1 of 4 vectors are zero or hold NaN or infinite values (rows 2)"),
        (_broken(1e300), "1 of 4 vectors are zero or hold NaN or infinite values (rows 2)"),
        (np.zeros((9, 32)), "9 of 9 vectors are zero or hold NaN or infinite values (rows 0, 1, 2, 3, 4, …)"),
        ([[1.0] * 32, [1.0] * 31], "must be numbers of the shape (n, 32): "),
        ([["a"] * 32], "must be numbers of the shape (n, 32): "),
        ([None], "must have the shape (n, 32), got (1,)"),
        ([[1.0] * 32, None], "must be numbers of the shape (n, 32): "),
        (5, "must be numbers of the shape (n, 32): "),
        (None, "must be numbers of the shape (n, 32): "),
        ("vectors", "must be numbers of the shape (n, 32): "),
    ],
)
def test_vectors_that_cannot_be_scored_are_refused(mini: ResRank, passages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape("passage_embeddings") + ":? " + re.escape(message)):
        mini.rerank("bread", passages)


@pytest.mark.parametrize("vector", [np.ones(31), np.ones((1, 32)), np.zeros(32), np.full(32, NAN), "q", 3])
def test_query_embeddings_that_cannot_be_used_are_refused(mini: ResRank, unit_vectors, vector: Any) -> None:
    with pytest.raises(ValueError, match=r"^query_embedding"):
        mini.rerank("bread", unit_vectors(2), query_embedding=vector)


@pytest.mark.parametrize("query", ["", " ", "\n\t", "\u00a0\u3000"])
def test_a_blank_query_is_refused(mini: ResRank, unit_vectors, query: str) -> None:
    with pytest.raises(ValueError, match="the query is blank: reranking needs a query text"):
        mini.rerank(query, unit_vectors(2))


@pytest.mark.parametrize("query", [None, 3, b"bread", ["bread"]])
def test_a_query_that_is_no_text_is_refused(mini: ResRank, unit_vectors, query: Any) -> None:
    message = f"queries must be a list of strings, got {type(query).__name__} at position 0"
    with pytest.raises(TypeError, match=message):
        mini.rerank(query, unit_vectors(2))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_evidence_of_another_length_is_refused(mini: ResRank, unit_vectors, count: int) -> None:
    with pytest.raises(ValueError, match=f"evidence must have one row a candidate: expected 2, got {count}"):
        mini.rerank("bread", unit_vectors(2), Evidence.unknown(count))


@pytest.mark.parametrize("evidence", [{}, [[0.5] * 10] * 2, np.zeros((2, 10))])
def test_evidence_of_another_type_is_refused(mini: ResRank, unit_vectors, evidence: Any) -> None:
    with pytest.raises(TypeError, match=f"evidence must be an Evidence or None, got {type(evidence).__name__}"):
        mini.rerank("bread", unit_vectors(2), evidence)


@pytest.mark.parametrize("name", ["passage_embeddings", "evidence", "query_embeddings"])
def test_a_batch_needs_one_entry_a_query(mini: ResRank, unit_vectors, name: str) -> None:
    arguments = {"passage_embeddings": [unit_vectors(2)] * 2, name: [None]}
    with pytest.raises(ValueError, match=f"{name} must have one entry a query: expected 2, got 1"):
        mini.rerank_batch(["bread", "a date"], **arguments)


def test_a_batch_of_one_string_is_refused(mini: ResRank, unit_vectors) -> None:
    with pytest.raises(TypeError, match="queries must be a list of strings, got str"):
        mini.rerank_batch("bread", [unit_vectors(2)] * 5)


def test_as_vectors_by_hand() -> None:
    found = as_vectors([[3.0, 4.0], [0.0, -2.0]], 2, "x")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- loading of parts


def test_nothing_is_loaded_on_opening(tiny_mini_checkpoint: Path) -> None:
    assert ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu").loaded_parts == ()


def test_encoding_never_loads_the_reranker(tiny_mini_checkpoint: Path) -> None:
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu")
    model.encode_passages(["bread"])
    model.encode_queries(["bread"])
    assert (model.dimension, len(model.fingerprint)) == (32, 16)
    assert model.lexical.encode_query("bread")[1] == [1.0]
    assert model.loaded_parts == ("encoder",)


def test_lexical_loads_nothing(tiny_mini_checkpoint: Path) -> None:
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu")
    assert model.lexical is model.lexical
    assert model.loaded_parts == ()


@pytest.mark.parametrize(
    ("parts", "loaded"), [(("encoder",), ("encoder",)), (("reranker",), ("encoder", "reranker")), ((), None)]
)
def test_load(tiny_mini_checkpoint: Path, parts: tuple[str, ...], loaded: tuple[str, ...] | None) -> None:
    model = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu")
    assert model.load(*parts) is model
    assert model.loaded_parts == (loaded if loaded is not None else ("encoder", "reranker"))


def test_an_unknown_part_is_refused(mini: ResRank) -> None:
    with pytest.raises(ValueError, match="parts are 'encoder' and 'reranker', got head, tail"):
        mini.load("tail", "encoder", "head")


def test_the_config_is_complete_once_the_encoder_is_loaded(tiny_qwen_checkpoint: Path) -> None:
    model = ResRank.from_pretrained(tiny_qwen_checkpoint, device="cpu").load("encoder")
    assert model.config.encoder.pooling == "last"
    assert model.config.encoder.query_prompt.startswith("Instruct: ")
    assert None not in (model.config.encoder.max_length, model.config.encoder.max_query_length)


def test_models_are_in_eval_mode_and_the_head_is_float32(model: ResRank) -> None:
    assert not any(part.training for part in (model.encoder, model.reranker, model.head))
    assert {weight.dtype for weight in model.head.parameters()} == {torch.float32}


# -------------------------------------------------------------------------------------------------------------- threads


def test_threads_give_the_results_of_one(model: ResRank, unit_vectors, corpus) -> None:
    words = ["bread", "a date " * 6, "Paris", "error E1234"]

    def work(i: int) -> tuple[np.ndarray, np.ndarray]:
        query = words[i % 4]
        return model.encode_passages(list(corpus)[i % 5 :]), model.rerank(query, unit_vectors(3 + i % 7, seed=i))

    expected = [work(i) for i in range(32)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(work, range(32)))
    for (vectors, scores), (expected_vectors, expected_scores) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(vectors, expected_vectors)
        np.testing.assert_array_equal(scores, expected_scores)


def test_passes_of_threads_run_in_turn_unless_allowed(tiny_mini: Factory, unit_vectors) -> None:
    model = tiny_mini().load()
    running, most, patience_s, guard, three = 0, 0, 0.02, threading.Lock(), threading.Event()

    def enter(*_: Any) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
            if running == 3:
                three.set()
        three.wait(patience_s)

    def leave(*_: Any) -> None:
        nonlocal running
        with guard:
            running -= 1

    for part in (model.encoder.backbone, model.reranker.backbone):
        part.register_forward_pre_hook(enter)
        part.register_forward_hook(leave)

    def work(i: int) -> np.ndarray:
        return model.rerank(f"bread {i}", unit_vectors(3 + i % 7, seed=i))

    with ThreadPoolExecutor(6) as pool:
        expected = list(pool.map(work, range(6)))
        assert most == 1
        model.allow_passes(3)
        patience_s = 30.0  # for a busy machine: nobody waits once three have met
        model.forget_queries()
        found = list(pool.map(work, range(6)))
    assert most == 3
    for scores, expected_scores in zip(found, expected, strict=True):
        np.testing.assert_array_equal(scores, expected_scores)
    with pytest.raises(ValueError, match="at least one pass"):
        model.allow_passes(0)


def test_threads_that_load_at_once_load_once(tiny_mini_checkpoint: Path, unit_vectors, monkeypatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> Any:
        original = getattr(Checkpoint, name)

        def load(self: Checkpoint, *args: Any) -> Any:
            calls.append(name)
            return original(self, *args)

        return load

    for name in ("load_encoder", "load_reranker", "load_head"):
        monkeypatch.setattr(Checkpoint, name, counted(name))
    model, start = ResRank.from_pretrained(tiny_mini_checkpoint, device="cpu", dtype="float32"), threading.Barrier(8)

    def work(i: int) -> np.ndarray:
        start.wait()
        model.encode_passages(["bread"])
        return model.rerank("bread", unit_vectors(3))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert calls == ["load_encoder", "load_reranker", "load_head"]
    for result in results:
        np.testing.assert_array_equal(result, results[0])


# ------------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("attention", ["order_free", "causal"])
def test_half_precision_scores_are_float32_and_near(
    tiny_model: Factory, randomise_head: Factory, unit_vectors, dtype: str, attention: str
) -> None:
    half, full = (randomise_head(tiny_model(dtype=name, attention=attention)) for name in (dtype, "float32"))
    assert half.reranker.backbone.dtype is getattr(torch, dtype)
    assert next(half.head.parameters()).dtype is torch.float32
    passages, vector = unit_vectors(20), unit_vectors(1, seed=4)[0]
    scores, expected = (model.rerank("bread", passages, query_embedding=vector) for model in (half, full))
    assert scores.dtype == np.float32
    assert np.abs(scores - expected).max() < 0.1 * expected.std() + 0.3
    assert np.corrcoef(scores, expected)[0, 1] > 0.98


def test_half_precision_at_safe_start_is_exactly_the_prior(tiny_model: Factory, unit_vectors) -> None:
    passages, vector = unit_vectors(20), unit_vectors(1, seed=4)[0]
    half, full = (
        tiny_model(dtype=name).rerank("bread", passages, query_embedding=vector) for name in ("bfloat16", "float32")
    )
    np.testing.assert_array_equal(half, full)


# ----------------------------------------------------------------------------------------------------- hostile, at random

_TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(codec=None), max_size=20),  # lone surrogates too
    st.sampled_from(["[CLS]", "[SEP]", "<|endoftext|>", "<|im_end|>", "{query}"]).map(lambda t: f"a {t} b"),
)
_NUMBERS = st.one_of(st.floats(-2, 2, width=32), st.floats(width=32), st.sampled_from([0.0, NAN, INF, 1e38, 1e-38]))


@st.composite
def _candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:
    count = draw(st.integers(0, 7))
    dimension = draw(st.sampled_from([32, 32, 32, 31, 1]))
    good = st.floats(0.125, 1, width=32)
    elements = draw(st.sampled_from([good, good, _NUMBERS]))
    vectors = draw(hnp.arrays(np.float32, (count, dimension), elements=elements))
    rows = draw(st.sampled_from([count, count, None, count + 1]))
    known = st.one_of(st.floats(-1, 1, width=32), st.just(NAN))
    evidence = None if rows is None else draw(hnp.arrays(np.float32, (rows, len(FEATURES)), elements=known))
    return vectors, evidence


@pytest.mark.parametrize("family", ["mini", "qwen"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(query=_TEXTS, candidates=_candidates())
def test_finite_scores_or_a_clear_refusal(
    family: str, request: pytest.FixtureRequest, query: str, candidates: tuple[np.ndarray, np.ndarray | None]
) -> None:
    vectors, features = candidates
    model = request.getfixturevalue(family)
    try:
        scores = model.rerank(query, vectors, None if features is None else Evidence("", features))
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 10
        return
    assert (scores.dtype, scores.shape) == (np.float32, (len(vectors),))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("family", ["mini", "qwen"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(_TEXTS, max_size=4))
def test_unit_vectors_or_a_clear_refusal(family: str, request: pytest.FixtureRequest, texts: list[str]) -> None:
    model = request.getfixturevalue(family)
    try:
        vectors = model.encode_passages(texts)
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 10
        return
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(texts), 32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


def test_a_lone_surrogate_is_refused(model: ResRank, unit_vectors) -> None:
    with pytest.raises(ValueError, match="queries: the text at position 0 is not valid Unicode"):
        model.rerank("bread \ud800", unit_vectors(2))
    with pytest.raises(ValueError, match="passages: the text at position 1 is not valid Unicode"):
        model.encode_passages(["bread", "\udfff"])


def test_passages_are_cut_after_as_many_tokens_as_asked(tiny_model: Callable[..., ResRank], corpus) -> None:
    model = tiny_model()
    tokenizer = model.encoder.tokenizer
    report = TruncationReport()
    vectors = model.encode_passages(corpus, max_tokens=4, report=report)
    assert report.truncated == len(corpus)
    special = tokenizer.num_special_tokens_to_add(pair=False)
    assert set(report.tokens_per_text) == {4 + special}
    prefixes = []
    for text in corpus:
        end = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"][3][1]
        prefixes.append(text[:end])
    np.testing.assert_allclose(vectors, model.encode_passages(prefixes), atol=1e-5)
    np.testing.assert_array_equal(model.encode_passages(corpus, max_tokens=10_000), model.encode_passages(corpus))
    with pytest.raises(ValueError, match="max_tokens must be positive, got 0"):
        model.encode_passages(corpus, max_tokens=0)
