# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""First-stage evidence: fusion, what is unknown and what is absent, and the round trip through metadata."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resrank.evidence import FEATURES, FIRST_STAGE, Evidence, evidence_from_meta, fuse, query_hash
from resrank.matching import MATCHES

BM25 = [("b", 8.0), ("a", 4.0), ("d", 2.0)]
DENSE = [("a", 0.9), ("c", 0.5)]

IDS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)


def _by_id(query: str = "q", **lists: object) -> dict:
    return {c.id: c for c in fuse(query, **lists)}  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- fusion


def test_scores_by_hand() -> None:
    found = fuse("q", bm25=BM25, dense=DENSE, rrf_k=60)
    assert [c.id for c in found] == ["a", "b", "c", "d"]
    assert [c.score for c in found] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])


def test_meta_by_hand() -> None:
    meta = _by_id(bm25=BM25, dense=DENSE)["a"].meta
    assert meta == {
        "query": query_hash("q"),
        "bm25_score": 0.5,
        "bm25_rank": 2,
        "dense_score": 0.9,
        "dense_rank": 1,
        "rrf_score": pytest.approx((1 / 62 + 1 / 61) * 61 / 2),
    }


def test_first_in_both_lists_has_an_rrf_of_one() -> None:
    assert _by_id(bm25=[("a", 3.0)], dense=[("a", 0.1)])["a"].meta["rrf_score"] == pytest.approx(1.0)


@given(IDS, IDS, st.integers(1, 100))
def test_equals_brute_force(lexical: list[str], semantic: list[str], k: int) -> None:
    expected = {}
    for id_ in set(lexical) | set(semantic):
        expected[id_] = sum(1 / (k + ids.index(id_) + 1) for ids in (lexical, semantic) if id_ in ids)
    found = fuse(
        "q",
        bm25=[(id_, 10.0 - i) for i, id_ in enumerate(lexical)],
        dense=[(id_, 1.0 - i / 10) for i, id_ in enumerate(semantic)],
        rrf_k=k,
    )
    assert {c.id: c.score for c in found} == pytest.approx(expected)
    assert [c.id for c in found] == [c.id for c in sorted(found, key=lambda c: (-c.score, c.id))]
    assert all(0 < c.meta["rrf_score"] <= 1 + 1e-12 for c in found)


def test_ties_go_by_id() -> None:
    assert [c.id for c in fuse("q", bm25=[("z", 1.0)], dense=[("m", 1.0)])] == ["m", "z"]


@pytest.mark.parametrize(("bm25", "dense"), [([], DENSE), (BM25, []), ([], [])])
def test_one_list_alone_keeps_its_order(bm25: list, dense: list) -> None:
    assert [c.id for c in fuse("q", bm25=bm25, dense=dense)] == [id_ for id_, _ in bm25 + dense]


def test_of_a_list_that_did_not_run_nothing_is_known() -> None:
    lexical = _by_id(bm25=BM25, dense=None)
    assert list(lexical) == ["b", "a", "d"]
    assert lexical["a"].meta == {
        "query": query_hash("q"),
        "bm25_score": 0.5,
        "bm25_rank": 2,
        "dense_score": None,
        "dense_rank": None,
        "rrf_score": pytest.approx(61 / 62),
    }
    semantic = _by_id(bm25=None, dense=DENSE)
    assert list(semantic) == ["a", "c"]
    assert semantic["a"].meta["rrf_score"] == pytest.approx(1.0)
    features = evidence_from_meta("q", [semantic["c"].meta])[0].features[0]
    known = dict(zip(FEATURES, np.isfinite(features), strict=True))
    assert known == {
        "bm25_score": False,
        "dense_score": True,
        "rrf_score": True,
        "bm25_reciprocal_rank": False,
        "dense_reciprocal_rank": True,
        **dict.fromkeys(MATCHES, False),  # nobody gave the texts
    }


@pytest.mark.parametrize(("top_k", "count"), [(None, 4), (2, 2), (99, 4)])
def test_top_k(top_k: int | None, count: int) -> None:
    assert [c.id for c in fuse("q", bm25=BM25, dense=DENSE, top_k=top_k)] == ["a", "b", "c", "d"][:count]


def test_top_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="top_k must be positive or None, got 0"):
        fuse("q", bm25=BM25, dense=DENSE, top_k=0)


def test_a_passage_that_a_list_holds_twice_counts_at_its_best_rank() -> None:
    found = _by_id(bm25=[("a", 4.0), ("b", 3.0), ("a", 1.0)], dense=[])
    assert found["a"].score == pytest.approx(1 / 61)
    assert (found["a"].meta["bm25_rank"], found["a"].meta["bm25_score"]) == (1, 1.0)


def test_bm25_scores_of_zero_do_not_divide_by_zero() -> None:
    assert _by_id(bm25=[("a", 0.0)], dense=[])["a"].meta["bm25_score"] == 0.0


# ------------------------------------------------------------------------------------------- unknown and known to be absent


def test_absent_from_a_list_is_rank_zero() -> None:
    found = _by_id(bm25=BM25, dense=DENSE)
    assert (found["c"].meta["bm25_rank"], found["c"].meta["bm25_score"]) == (0, 0.0)
    assert found["d"].meta["dense_rank"] == 0


def test_the_cosine_of_a_candidate_that_dense_did_not_return_is_unknown() -> None:
    assert _by_id(bm25=BM25, dense=DENSE)["d"].meta["dense_score"] is None


def test_features_by_hand() -> None:
    found = _by_id(bm25=BM25, dense=DENSE)
    evidence, foreign = evidence_from_meta("q", [found["a"].meta, found["d"].meta, None, {}])
    nan = math.nan
    expected = [
        [0.5, 0.9, (1 / 62 + 1 / 61) * 61 / 2, 1 / 2, 1.0, *[nan] * 5],
        [0.25, nan, (1 / 63) * 61 / 2, 1 / 3, 0.0, *[nan] * 5],  # known to be absent from the dense list
        [nan] * 10,
        [nan] * 10,
    ]
    np.testing.assert_allclose(evidence.features, expected, rtol=1e-6)
    assert foreign == 0
    assert evidence.query_hash == query_hash("q")


def test_rrf_is_the_rrf_column() -> None:
    features = np.arange(20, dtype=np.float32).reshape(2, 10)
    assert Evidence("", features).rrf.tolist() == [2.0, 12.0]
    assert FEATURES[2] == "rrf_score"


def test_unknown_evidence_is_all_nan() -> None:
    unknown = Evidence.unknown(3)
    assert unknown.features.shape == (3, 10)
    assert np.isnan(unknown.features).all()


# ------------------------------------------------------------------------------------------------- matches of the words


def test_matches_follow_the_numbers_of_the_first_stage() -> None:
    assert FEATURES == (*FIRST_STAGE, *MATCHES)
    found = _by_id(bm25=BM25, dense=DENSE)
    metas = [found["a"].meta, None, found["d"].meta]
    matches = np.float32([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0], [math.nan] * 5])
    evidence, foreign = evidence_from_meta("q", metas, matches)
    without, _ = evidence_from_meta("q", metas)
    assert evidence.features.dtype == np.float32
    np.testing.assert_array_equal(evidence.features[:, 5:], matches)
    np.testing.assert_array_equal(evidence.features[:, :5], without.features[:, :5])
    assert np.isnan(without.features[:, 5:]).all()
    assert np.isnan(evidence.features[1, :5]).all()
    assert foreign == 0


def test_matches_count_where_the_first_stage_answered_another_query() -> None:
    other = fuse("other", bm25=BM25, dense=[])[0].meta
    evidence, foreign = evidence_from_meta("mine", [other], np.full((1, 5), 0.5, dtype=np.float32))
    assert foreign == 1
    np.testing.assert_array_equal(evidence.features, np.float32([[math.nan] * 5 + [0.5] * 5]))


def test_matches_of_no_candidates() -> None:
    evidence, _ = evidence_from_meta("q", [], np.empty((0, 5), dtype=np.float32))
    assert evidence.features.shape == (0, 10)


# ----------------------------------------------------------------------------------------------------------- round trip


def test_meta_survives_json() -> None:
    metas = [c.meta for c in fuse("q", bm25=BM25, dense=DENSE)]
    straight, _ = evidence_from_meta("q", metas)
    stored, _ = evidence_from_meta("q", json.loads(json.dumps(metas)))
    np.testing.assert_array_equal(straight.features, stored.features)
    assert not np.isnan(straight.features).all(axis=1).any()


def test_evidence_of_another_query_is_ignored_and_counted() -> None:
    mine = fuse("mine", bm25=BM25, dense=[])[0].meta
    other = fuse("other", bm25=BM25, dense=[])[0].meta
    evidence, foreign = evidence_from_meta("mine", [other, mine, other, None])
    assert foreign == 2
    assert np.isnan(evidence.features).all(axis=1).tolist() == [True, False, True, True]


def test_meta_without_a_query_is_unknown() -> None:
    evidence, foreign = evidence_from_meta("q", [{"bm25_score": 1.0}])
    assert np.isnan(evidence.features).all()
    assert foreign == 0


@pytest.mark.parametrize("value", ["0.5", True, np.True_, math.inf, -math.inf, 1e39, 10**400, [1.0]])
def test_values_that_are_no_numbers_are_refused(value: object) -> None:
    meta = {"query": query_hash("q"), "bm25_score": value}
    message = f"evidence 'bm25_score' must be a finite number, got {value!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        evidence_from_meta("q", [meta])


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), 0.5])
def test_numpy_numbers_are_numbers(value: object) -> None:
    evidence, _ = evidence_from_meta("q", [{"query": query_hash("q"), "bm25_score": value}])
    assert evidence.features[0, 0] == np.float32(0.5)


def test_missing_keys_are_unknown() -> None:
    evidence, _ = evidence_from_meta("q", [{"query": query_hash("q"), "bm25_rank": 4}])
    nan = math.nan
    np.testing.assert_array_equal(evidence.features[0], np.float32([nan, nan, nan, 0.25, nan, *[nan] * 5]))


def test_query_hash_ignores_surrounding_blanks_only() -> None:
    assert query_hash(" q\n") == query_hash("q")
    assert query_hash("q q") != query_hash("qq")
    assert re.fullmatch("[0-9a-f]{16}", query_hash("\ud800"))  # a lone surrogate, as broken clients send


# ----------------------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize("shape", [(10,), (3, 5), (3, 9), (3, 11), (1, 3, 10)])
def test_features_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"must have the shape (candidates, 10), got {shape}")):
        Evidence("", np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_infinite_features_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite, or NaN where unknown; got an infinite value"):
        Evidence("", np.full((1, 10), value))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float16])
def test_features_become_float32(dtype: type) -> None:
    assert Evidence("", np.ones((2, 10), dtype=dtype)).features.dtype == np.float32
