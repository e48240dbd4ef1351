# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Every measure against an independent computation with numpy, and the rules for ties and what is missing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resrank_evals.measures import DEFAULT_MEASURES, ceiling, evaluate, mean, parse_measures

PASSAGES = [f"d{n}" for n in range(30)]
GRADES = st.dictionaries(st.sampled_from(PASSAGES), st.integers(-1, 3), min_size=1, max_size=20)
# Few different scores, so that there are ties.
HITS = st.dictionaries(st.sampled_from(PASSAGES), st.integers(0, 6).map(float), max_size=25)


def independent(hits: dict[str, float], grades: dict[str, int]) -> dict[str, float]:
    """trec_eval's definitions: ties by id, descending; linear gain; log2 discount."""
    ranking = sorted(sorted(hits, reverse=True), key=lambda id_: -hits[id_])
    gains = np.array([max(0, grades.get(id_, 0)) for id_ in ranking], dtype=np.float64)
    positive = np.array(sorted((grade for grade in grades.values() if grade > 0), reverse=True), dtype=np.float64)
    discounts = 1 / np.log2(np.arange(2, 102))
    if not len(positive):
        return dict.fromkeys(DEFAULT_MEASURES, 0.0)
    relevant = gains > 0
    ranks = np.flatnonzero(relevant) + 1
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    return {
        "nDCG@10": float(
            (gains[:10] @ discounts[: len(gains[:10])]) / (positive[:10] @ discounts[: len(positive[:10])])
        ),
        "RR@10": float(1 / ranks[0]) if len(ranks) and ranks[0] <= 10 else 0.0,
        "R@100": float(relevant[:100].sum() / len(positive)),
        "AP": float(precision[relevant].sum() / len(positive)),
        "P@1": float(relevant[:1].sum()),
    }


@settings(max_examples=300, deadline=None)
@given(HITS, GRADES)
def test_every_measure_agrees_with_numpy(hits, grades):
    found = evaluate({"q": list(hits.items())}, {"q": grades})["q"]
    assert found == pytest.approx(independent(hits, grades), abs=1e-4)


def test_by_hand():
    run = {"q": [("a", 3.0), ("b", 2.0), ("c", 1.0)]}
    values = evaluate(run, {"q": {"b": 1, "x": 1}})["q"]
    ideal = 1 + 1 / np.log2(3)
    assert values == pytest.approx(
        {"nDCG@10": (1 / np.log2(3)) / ideal, "RR@10": 0.5, "R@100": 0.5, "AP": 0.25, "P@1": 0}
    )


def test_a_first_hit_beyond_the_cutoff_does_not_count():
    hits = [(f"d{n:02}", float(-n)) for n in range(12)]
    for rank, expected in [(10, 0.1), (11, 0.0)]:
        assert evaluate({"q": hits}, {"q": {f"d{rank - 1:02}": 1}})["q"]["RR@10"] == pytest.approx(expected)
    names = ("RR@5", "RR", "RR(rel=2)@5")
    values = evaluate({"q": hits}, {"q": {"d03": 1, "d07": 2}}, names)["q"]
    assert values == pytest.approx({"RR@5": 0.25, "RR": 0.25, "RR(rel=2)@5": 0.0})


def test_queries_missing_from_the_run_count_as_zero_and_others_do_not_count():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "q4": {"a": 0}}
    values = evaluate({"q1": [("a", 1.0)], "q2": [], "unknown": [("a", 1.0)]}, qrels)
    assert set(values) == set(qrels)
    assert mean(values)["nDCG@10"] == 0.25


def test_unjudged_passages_are_not_relevant():
    assert evaluate({"q": [("unjudged", 2.0), ("a", 1.0)]}, {"q": {"a": 1}})["q"]["RR@10"] == 0.5


def test_ties_go_by_id_descending_whatever_the_order_of_lines():
    for hits in ([("a", 1.0), ("b", 1.0)], [("b", 1.0), ("a", 1.0)]):
        assert evaluate({"q": hits}, {"q": {"b": 1}})["q"]["P@1"] == 1.0
        assert evaluate({"q": hits}, {"q": {"a": 1}})["q"]["P@1"] == 0.0


def test_a_constant_scorer_gets_what_chance_gets():
    random_ids = random.Random(1)
    ids = [f"{random_ids.getrandbits(64):016x}" for _ in range(100)]
    qrels, run = {}, {}
    for query in range(2_000):
        # The first stage had put the relevant passage first: a constant scorer must not profit from it.
        relevant = random_ids.choice(ids)
        qrels[f"q{query}"] = {relevant: 1}
        run[f"q{query}"] = [(relevant, 0.0), *((id_, 0.0) for id_ in ids if id_ != relevant)]
    found = mean(evaluate(run, qrels))
    assert found["P@1"] == pytest.approx(0.01, abs=0.01)
    assert found["nDCG@10"] == pytest.approx(np.mean(1 / np.log2(np.arange(2, 12))) / 10, abs=0.015)


def test_the_ceiling_is_what_a_perfect_order_reaches():
    run = {"q1": [("a", 3.0), ("b", 2.0), ("c", 1.0)], "q2": [("x", 1.0)]}
    qrels = {"q1": {"c": 2, "b": 1}, "q2": {"y": 1}}
    found = ceiling(run, qrels)
    assert found["nDCG@10"] == pytest.approx(0.5)
    assert found["R@100"] == pytest.approx(0.5)
    for measure, value in mean(evaluate(run, qrels)).items():
        assert value <= found[measure] + 1e-12


@pytest.mark.parametrize("name", ["nDGC@10", "", "nDCG@ten", "ERR@10", "os"])
def test_unknown_measures_are_refused(name):
    with pytest.raises(ValueError, match=r"expected (names|measures) like nDCG@10, RR@10, R@100, AP, P@1"):
        parse_measures([name])


def test_damaged_runs_and_empty_qrels_are_refused():
    with pytest.raises(ValueError, match="query 'q' has a passage more than once"):
        evaluate({"q": [("a", 1.0), ("a", 2.0)]}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="query 'q' has a score that is not finite"):
        evaluate({"q": [("a", float("nan"))]}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="the qrels are empty"):
        mean(evaluate({}, {}))
