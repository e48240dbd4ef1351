# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a step sees: which candidates, which evidence, in which order; the same after a resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resrank.evidence import evidence_from_meta, fuse
from resrank_evals.collection import Passage
from resrank_training.drawing import Schedule, draw, one_list_only
from resrank_training.lists import ListSet, TrainingList
from resrank_training.settings import EvidenceDropout, ListSource, Stage

NONE = EvidenceDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
MATCHES = slice(5, 10)


def _stage(**changes: Any) -> Stage:
    defaults: dict[str, Any] = {"name": "s", "lists": [ListSource("x")], "passes": 1.0, "list_length": 5}
    return Stage(**{**defaults, "evidence_dropout": NONE, **changes})


def _set(lists: list[TrainingList], passages: dict[str, Passage], name: str = "made") -> ListSet:
    return ListSet(name, tuple(lists), passages, {}, name)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_positive_is_always_there_and_the_top_of_the_pool(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1, candidates=20)
    (positive,) = of.positives
    top = [i for i in range(20) if i != positive][:2]
    seen: Counter[int] = Counter()
    for seed in range(200):
        drawn = draw(of, 0, _stage(hard_share=0.5), _rng(seed))
        assert len(set(drawn.rows.tolist())) == len(drawn.rows) == 5
        assert {positive, *top} <= set(drawn.rows.tolist())
        assert drawn.ranks[drawn.rows == positive] == 0
        assert set(drawn.ranks[drawn.rows != positive]) == {1}
        assert drawn.grades.sum() == 1
        seen.update(drawn.rows.tolist())
    assert len(seen) == 20  # the others come, too
    assert np.std([seen[i] for i in range(20) if i not in (positive, *top)]) < 12  # and evenly: 23.5 each


def test_candidates_are_shuffled(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1)
    places = Counter(int(np.flatnonzero(draw(of, 0, _stage(), _rng(seed)).grades)[0]) for seed in range(300))
    assert set(places) == {0, 1, 2, 3, 4}
    assert min(places.values()) > 30


def test_short_lists_are_taken_whole(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1, candidates=4)
    assert sorted(draw(of, 0, _stage(list_length=24), _rng()).rows.tolist()) == [0, 1, 2, 3]


def test_many_positives_are_drawn_and_the_others_are_no_negatives() -> None:
    of = TrainingList("q", "text", tuple("abcdefgh"), (1, 2, 1, 1, 0, None, None, None))
    for seed in range(50):
        drawn = draw(of, 0, _stage(positives=2), _rng(seed))
        assert sum(drawn.grades > 0) == 2
        assert len(drawn.rows) == 5
        best = drawn.grades.max()
        np.testing.assert_array_equal(drawn.ranks, best - drawn.grades)  # by grade; judged 0 and unjudged alike


def test_a_teachers_order_is_the_target() -> None:
    of = TrainingList("q", "text", tuple("abcd"), (None,) * 4, None, (2, 0))
    drawn = draw(of, 0, _stage(targets="ranking"), _rng())
    assert {int(row): int(rank) for row, rank in zip(drawn.rows, drawn.ranks, strict=True)} == {2: 0, 0: 1, 1: 2, 3: 2}
    assert dict(zip(drawn.rows.tolist(), drawn.grades.tolist(), strict=True)) == {2: 1.0, 0: 0.5, 1: 0.0, 3: 0.0}


def test_without_judgments_the_teachers_best_is_the_positive() -> None:
    of = TrainingList("q", "text", tuple("abcdefgh"), (None,) * 8, None, (5, 0, 1, 2, 3, 4, 6, 7))
    for seed in range(20):
        drawn = draw(of, 0, _stage(targets="ranking", list_length=3, positives=1), _rng(seed))
        assert drawn.positives == (5,)
        assert 5 in drawn.rows
    judged = TrainingList("q", "text", tuple("abcd"), (None, 1, None, None), None, (2, 0, 1, 3))
    assert draw(judged, 0, _stage(targets="ranking"), _rng()).positives == (1,)


def test_evidence_without_dropout_is_what_was_mined(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1, matches=True)
    drawn = draw(of, 0, _stage(), _rng())
    assert of.evidence is not None
    assert not np.isnan(of.evidence[:, MATCHES]).any()
    np.testing.assert_array_equal(drawn.features, of.evidence[drawn.rows])
    np.testing.assert_array_equal(drawn.shown, drawn.features)


def test_lists_without_evidence_are_unknown(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1, evidence=False)
    assert np.isnan(draw(of, 0, _stage(), _rng()).features).all()


def test_number_dropout_hides_numbers_from_the_slots_only(make_lists: Callable[..., list[TrainingList]]) -> None:
    (of,) = make_lists(1, matches=True)
    hidden = total = 0
    for seed in range(200):
        drawn = draw(of, 0, _stage(evidence_dropout=replace(NONE, number=0.3)), _rng(seed))
        known = ~np.isnan(drawn.features)
        hidden += int(np.isnan(drawn.shown[known]).sum())
        total += int(known.sum())
        assert of.evidence is not None
        np.testing.assert_array_equal(drawn.features, of.evidence[drawn.rows])
    assert hidden / total == pytest.approx(0.3, abs=0.03)


def test_a_pool_of_one_list_has_the_evidence_that_fusing_one_list_leaves() -> None:
    bm25, dense = [("a", 8.0), ("b", 4.0), ("c", 2.0)], [("c", 0.9), ("d", 0.5)]
    both = fuse("q", bm25=bm25, dense=dense)
    matches = np.float32([[i / 20 + j / 10 for j in range(5)] for i in range(len(both))])
    features = evidence_from_meta("q", [c.meta for c in both], matches)[0].features
    for column, score, lists in ((3, 0, {"bm25": bm25, "dense": None}), (4, 1, {"bm25": None, "dense": dense})):
        alone = {c.id: c.meta for c in fuse("q", **lists)}  # type: ignore[arg-type]
        expected = evidence_from_meta("q", [alone.get(c.id) for c in both], matches)[0].features
        found = one_list_only(features, column, score)
        # The dense score is the only number that a list may know of the other: the vector is at hand.
        compared = [i for i in range(10) if i != 1 or score == 1]
        np.testing.assert_allclose(found[:, compared], expected[:, compared], rtol=1e-5)


@pytest.mark.parametrize(("chance", "column"), [("lexical_only", 3), ("dense_only", 4)])
def test_pools_of_one_list_hold_what_it_returned(
    make_lists: Callable[..., list[TrainingList]], chance: str, column: int
) -> None:
    (of,) = make_lists(1, candidates=6, seed=3, matches=True)
    stage = _stage(list_length=6, evidence_dropout=replace(NONE, **{chance: 1.0}))
    drawn = draw(of, 0, stage, _rng())
    assert of.evidence is not None
    returned = [i for i in range(6) if of.evidence[i, column] > 0]
    if of.positives[0] in returned:
        assert sorted(drawn.rows.tolist()) == returned
        assert np.isnan(drawn.features[:, 7 - column]).all()  # the other list's rank
    np.testing.assert_array_equal(drawn.features[:, MATCHES], of.evidence[drawn.rows, MATCHES])


def test_a_whole_list_without_evidence(make_lists: Callable[..., list[TrainingList]]) -> None:
    """Its candidates are the dense list's, which misses the first; unless that is the relevant one."""
    lists = make_lists(20, candidates=5, matches=True)
    for of in lists:
        drawn = draw(of, 0, _stage(evidence_dropout=replace(NONE, whole_list=1.0)), _rng())
        assert np.isnan(drawn.features).all()
        assert np.isnan(drawn.shown).all()
        assert sorted(drawn.rows.tolist()) == ([0, 1, 2, 3, 4] if of.positives == (0,) else [1, 2, 3, 4])
    assert (0,) in [of.positives for of in lists]


@pytest.mark.parametrize(
    ("chance", "dropped", "left"), [("first_stage", slice(5), MATCHES), ("matches", MATCHES, slice(5))]
)
def test_what_was_not_known_of_a_list_is_dropped_for_all_its_candidates(
    make_lists: Callable[..., list[TrainingList]], chance: str, dropped: slice, left: slice
) -> None:
    """Its candidates stay, and what else is known of them."""
    for of in make_lists(5, candidates=6, matches=True):
        before = of.evidence.copy()  # type: ignore[union-attr]
        drawn = draw(of, 0, _stage(list_length=6, evidence_dropout=replace(NONE, **{chance: 1.0})), _rng())
        assert sorted(drawn.rows.tolist()) == list(range(6))
        assert np.isnan(drawn.features[:, dropped]).all()
        np.testing.assert_array_equal(drawn.features[:, left], before[drawn.rows, left])
        np.testing.assert_array_equal(drawn.shown, drawn.features)
        np.testing.assert_array_equal(of.evidence, before)  # of the next step


def test_one_thing_at_most_happens_to_a_list_and_as_often_as_asked(
    make_lists: Callable[..., list[TrainingList]],
) -> None:
    (of,) = make_lists(1, candidates=6, seed=3, matches=True)
    shares = {"whole_list": 0.1, "lexical_only": 0.15, "dense_only": 0.2, "first_stage": 0.25, "matches": 0.1}
    dropout = replace(NONE, **shares)
    assert dropout.of_lists == shares
    seen: Counter[tuple[bool, ...]] = Counter()
    for seed in range(2000):
        features = draw(of, 0, _stage(list_length=6, evidence_dropout=dropout), _rng(seed)).features
        # BM25 rank, dense rank, matches
        seen[tuple(bool(known) for known in (~np.isnan(features[:, [3, 4, 5]])).any(axis=0))] += 1
    expected = {
        (False, False, False): 0.1,
        (True, False, True): 0.15,
        (False, True, True): 0.2,
        (False, False, True): 0.25,
        (True, True, False): 0.1,
        (True, True, True): 0.2,
    }
    assert {known: count / 2000 for known, count in seen.items()} == pytest.approx(expected, abs=0.03)


def test_the_schedule_is_the_same_each_time_and_another_with_another_seed(
    make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> None:
    of = _set(make_lists(10), passages)
    dropout = EvidenceDropout(0.3, 0.2, 0.2, 0.2)
    one, two, three = (Schedule([of], _stage(evidence_dropout=dropout), 25, seed) for seed in (5, 5, 6))
    again = [two[i] for i in reversed(range(25))][::-1]  # whatever was asked for before
    for position in range(25):
        np.testing.assert_array_equal(one[position].rows, again[position].rows)
        np.testing.assert_array_equal(one[position].shown, again[position].shown)
    assert [one[i].of.query_id for i in range(25)] != [three[i].of.query_id for i in range(25)]


def test_each_list_comes_equally_often(
    make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> None:
    schedule = Schedule([_set(make_lists(10), passages)], _stage(), 25, 0)
    assert sorted(Counter(schedule[i].of.query_id for i in range(25)).values()) == [2] * 5 + [3] * 5


def test_shares_decide_how_many_come_from_each_set(
    make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> None:
    sets = [_set(make_lists(20), passages, "large"), _set(make_lists(4), passages, "small")]
    sources = [ListSource("x", 1.0), ListSource("y", 3.0)]
    schedule = Schedule(sets, _stage(lists=sources), 16, 0)
    assert Counter(schedule[i].source for i in range(16)) == {0: 4, 1: 12}
    unweighted = Schedule(sets, _stage(lists=[ListSource("x"), ListSource("y")]), 24, 0)
    assert Counter(unweighted[i].source for i in range(24)) == {0: 20, 1: 4}


def test_whole_lists_are_of_the_sources_that_calibrate(
    make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> None:
    sets = [_set(make_lists(6, seed=seed), passages, name) for seed, name in enumerate(("one", "two", "three"))]
    sources = [ListSource("x"), ListSource("y", calibrate=False), ListSource("z")]
    schedule = Schedule(sets, _stage(lists=sources), 36, 0)
    found = schedule.whole_lists(100)
    drawn = [schedule[i] for i in range(36)]
    assert {each.source for each in drawn} == {0, 1, 2}  # all are trained on
    come_first = list(dict.fromkeys(id(each.of) for each in drawn if each.source != 1))
    assert [id(each) for each in found] == come_first
    assert {id(each) for each in found} == {id(each) for of in (sets[0], sets[2]) for each in of.lists}
    assert [id(each) for each in schedule.whole_lists(5)] == come_first[:5]
    nothing = [replace(source, calibrate=False) for source in sources]
    assert Schedule(sets, _stage(lists=nothing), 36, 0).whole_lists(100) == []


def test_lists_that_teach_nothing_are_left_out_and_a_set_of_them_is_an_error(
    make_lists: Callable[..., list[TrainingList]], passages: dict[str, Passage]
) -> None:
    useless = TrainingList("u", "text", ("cats-0", "cats-1"), (0, None))
    schedule = Schedule([_set([*make_lists(3), useless], passages)], _stage(), 9, 0)
    assert schedule.usable == [[0, 1, 2]]
    with pytest.raises(ValueError, match="the lists of made have no positive"):
        Schedule([_set([useless], passages)], _stage(), 9, 0)
    with pytest.raises(ValueError, match="no teacher's ranking: run resrank-train label"):
        Schedule([_set([useless], passages)], _stage(targets="ranking"), 9, 0)
