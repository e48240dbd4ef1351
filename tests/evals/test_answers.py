# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Answer measures: values computed by hand, and what must hold for all texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resrank_evals.answers import answer_in_context, exact_match, normalize_answer, token_f1

# Few words, so that answers overlap; with what normalisation removes, and text of any script.
WORDS = st.sampled_from(
    ["Paris", "paris", "the", "A", "an", "river", "Seine", "of", "1928", "\u2013", "...", "巴黎", "Ära", "ß"]
)
ANSWERS = st.one_of(st.lists(WORDS, max_size=6).map(" ".join), st.text(max_size=12))
GOLDS = st.lists(ANSWERS, max_size=4)


# ------------------------------------------------------------------------------------------------------ normalisation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\n", ""),
        ("The", ""),
        ("a an the", ""),
        ("!?.,;:'\"()[]{}<>@#$%^&*-_=+\\|/`~", ""),
        ("The Cat's  hat.", "cats hat"),
        ("  Denver\tBroncos\n", "denver broncos"),
        ("a.n", ""),  # punctuation first: it has become the article
        ("theory of an ant", "theory of ant"),
        ("The_the", "thethe"),
        ("U.S.", "us"),
        ("well-known", "wellknown"),
        ("1,000", "1000"),
        ("3.5", "35"),
        ("$5", "5"),
        ("to the point", "to point"),
        ("Panthers 24\u201310", "panthers 24\u201310"),
        ("no\u00a0break", "no break"),
    ],
)
def test_normalisation(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # German: articles stay, the preposition "an" does not, quotation marks and ß stay.
        ("Die Stadt an der Spree", "die stadt der spree"),
        ("„Berlin“", "„berlin“"),
        ("Straße", "straße"),
        ("STRASSE", "strasse"),
        ("ÄRA", "ära"),
        ("Il a été", "il été"),
        ("à Paris", "à paris"),
        ("a\u0300 Paris", "\u0300 paris"),  # the same in two characters: the first one is an article
        # Chinese: one token, full-width punctuation and digits stay.
        ("法国的首都是巴黎。", "法国的首都是巴黎。"),
        ("１９２８年", "１９２８年"),
        ("《红楼梦》", "《红楼梦》"),
        # Arabic: no case; its comma and question mark stay, as its digits.
        ("ما هي عاصمة فرنسا؟", "ما هي عاصمة فرنسا؟"),
        ("باريس، فرنسا.", "باريس، فرنسا"),
        ("عام ١٩٢٨", "عام ١٩٢٨"),
    ],
)
def test_normalisation_of_other_languages(text, expected):
    assert normalize_answer(text) == expected


@settings(deadline=None)
@given(ANSWERS)
def test_normalising_twice_changes_nothing(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once
    assert once == " ".join(once.split())


# --------------------------------------------------------------------------------------------------- exact match and F1


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("Paris", ["Paris"], 1.0, 1.0),
        ("the PARIS!", ["Paris."], 1.0, 1.0),
        ("Paris", ["London"], 0.0, 0.0),
        # 1 of 2 tokens, all of 1: P 1/2, R 1.
        ("Paris France", ["Paris"], 0.0, 2 / 3),
        ("Paris", ["Paris France"], 0.0, 2 / 3),
        # 2 in common of 3 and 4.
        ("river Seine Paris", ["on the river Seine north"], 0.0, 4 / 7),
        # As often as in both: 1 of 3, and 2 of 3 and 2.
        ("no no no", ["no"], 0.0, 1 / 2),
        ("no no no", ["no no"], 0.0, 4 / 5),
        # The order does not matter to F1.
        ("Seine river", ["river Seine"], 0.0, 1.0),
        # The best gold, for each measure on its own.
        ("Denver Broncos", ["Broncos", "The Denver Broncos", "Denver Broncos of Colorado"], 1.0, 1.0),
        ("Broncos of Denver", ["Broncos", "Denver Broncos"], 0.0, 4 / 5),
        ("3.5", ["35"], 1.0, 1.0),
    ],
)
def test_values_by_hand(prediction, golds, exact, f1):
    assert exact_match(prediction, golds) == exact
    assert token_f1(prediction, golds) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "golds", "value"),
    [
        ("", [], 1.0),
        ("", [""], 1.0),
        ("the", [], 1.0),
        ("the", ["A!"], 1.0),
        ("Paris", [], 0.0),
        ("Paris", ["", "the"], 0.0),
        ("", ["Paris"], 0.0),
        ("...", ["Paris"], 0.0),
        # A gold that normalises to nothing does not make the question one without an answer.
        ("", ["", "Paris"], 0.0),
        ("Paris", ["", "Paris"], 1.0),
    ],
)
def test_questions_without_an_answer(prediction, golds, value):
    assert (exact_match(prediction, golds), token_f1(prediction, golds)) == (value, value)


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("an der Spree", ["der Spree"], 1.0, 1.0),
        ("die Spree", ["Spree"], 0.0, 2 / 3),
        ("„Berlin“", ["Berlin"], 0.0, 0.0),
        ("Ära", ["ära"], 1.0, 1.0),
        ("Ära", [unicodedata.normalize("NFD", "Ära")], 0.0, 0.0),
        ("巴黎", ["巴黎"], 1.0, 1.0),
        ("巴黎。", ["巴黎"], 0.0, 0.0),
        ("法国巴黎", ["巴黎"], 0.0, 0.0),
        ("باريس", ["باريس"], 1.0, 1.0),
        ("مدينة باريس", ["باريس"], 0.0, 2 / 3),
        ("١٩٢٨", ["1928"], 0.0, 0.0),
    ],
)
def test_other_languages(prediction, golds, exact, f1):
    assert exact_match(prediction, golds) == exact
    assert token_f1(prediction, golds) == pytest.approx(f1, abs=1e-12)


def test_a_whole_passage_as_answer():
    long = "Paris " + "word " * 20_000
    assert exact_match(long, ["Paris"]) == 0.0
    assert token_f1(long, ["Paris"]) == pytest.approx(2 / 20_002, abs=1e-12)


@settings(deadline=None)
@given(ANSWERS, GOLDS)
def test_bounds_and_types(prediction, golds):
    exact, f1 = exact_match(prediction, golds), token_f1(prediction, golds)
    assert type(exact) is type(f1) is float
    assert exact in (0.0, 1.0)
    assert 0.0 <= f1 <= 1.0


@settings(deadline=None)
@given(ANSWERS, GOLDS)
def test_exact_match_is_the_most_that_f1_can_be(prediction, golds):
    assert token_f1(prediction, golds) >= exact_match(prediction, golds)


@settings(deadline=None)
@given(ANSWERS, ANSWERS)
def test_both_sides_are_alike(one, other):
    assert token_f1(one, [other]) == token_f1(other, [one])
    assert exact_match(one, [other]) == exact_match(other, [one])


@settings(deadline=None)
@given(ANSWERS)
def test_every_text_answers_itself(text):
    assert exact_match(text, [text]) == token_f1(text, [text]) == 1.0


@settings(deadline=None)
@given(ANSWERS, GOLDS)
def test_the_best_gold_counts(prediction, golds):
    counted = [gold for gold in golds if normalize_answer(gold)] or [""]
    assert token_f1(prediction, golds) == max(token_f1(prediction, [gold]) for gold in counted)
    assert exact_match(prediction, golds) == max(exact_match(prediction, [gold]) for gold in counted)
    assert token_f1(prediction, golds) == token_f1(prediction, golds[::-1])


@settings(deadline=None)
@given(ANSWERS, ANSWERS)
def test_f1_agrees_with_taking_tokens_away_one_by_one(one, other):
    predicted, gold = normalize_answer(one).split(), normalize_answer(other).split()
    left, same = list(gold), 0
    for token in predicted:
        if token in left:
            left.remove(token)
            same += 1
    # 2PR / (P + R) is twice the overlap over both lengths.
    expected = 2 * same / (len(predicted) + len(gold)) if predicted or gold else 1.0
    assert token_f1(one, [other]) == pytest.approx(expected, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------ contexts


@pytest.mark.parametrize(
    ("context", "golds", "found"),
    [
        ("The capital of France is Paris.", ["paris"], True),
        ("The capital of France is Paris.", ["the Paris!"], True),
        ("The capital of France is Paris.", ["capital of the France"], True),
        ("The capital of France is Paris.", ["London", "France"], True),
        ("The capital of France is Paris.", ["France Paris"], False),
        ("Parisians live there; Paris-based firms too.", ["Paris"], False),
        ("Parisians live in Paris", ["Paris"], True),
        ("Paris", ["Paris"], True),
        ("Room 1928b", ["1928"], False),
        ("from 1914\u20131918", ["1914"], True),
        ("It costs €5 today", ["5"], True),
        # Without anything to find nothing is found.
        ("The capital of France", [], False),
        ("The capital of France", ["", "the"], False),
        ("", ["Paris"], False),
        ("", [""], False),
        # German: whole words, not parts of compounds; quotation marks end words.
        ("Er wohnt in „Berlin“ an der Spree.", ["Berlin"], True),
        ("Die Berliner Mauer", ["Berlin"], False),
        ("Die Hauptstraße", ["Straße"], False),
        # Chinese and Japanese: anywhere; Latin words among them stay whole.
        ("法国的首都是巴黎。", ["巴黎"], True),
        ("法国的首都是巴黎。", ["柏林"], False),
        ("他在NBA打球", ["NBA"], True),
        ("他在WNBA打球", ["NBA"], False),
        ("首都は東京です", ["東京"], True),
        # Arabic: whole words; what is written together with them, and vowel marks, make other words.
        ("عاصمة فرنسا هي باريس، على نهر السين", ["باريس"], True),
        ("لندن وباريس", ["باريس"], False),
        ("كتابٌ جديد", ["كتاب"], False),
    ],
)
def test_answers_in_contexts(context, golds, found):
    assert answer_in_context(context, golds) is found


@settings(deadline=None)
@given(ANSWERS, ANSWERS, ANSWERS)
def test_an_answer_put_into_a_text_is_there(before, gold, after):
    assert answer_in_context(f"{before} {gold} {after}", [gold]) is bool(normalize_answer(gold))


@settings(deadline=None)
@given(ANSWERS, GOLDS)
def test_an_exact_match_is_in_itself(prediction, golds):
    if normalize_answer(prediction) and exact_match(prediction, golds):
        assert answer_in_context(prediction, golds)


@settings(deadline=None)
@given(ANSWERS, GOLDS)
def test_more_golds_find_more(context, golds):
    assert answer_in_context(context, golds) == any(answer_in_context(context, [gold]) for gold in golds)


@pytest.mark.parametrize("measure", [exact_match, token_f1, answer_in_context])
def test_one_string_is_not_a_list_of_answers(measure):
    with pytest.raises(TypeError, match=r"golds must be a sequence of answers, got one string: use \['Paris'\]"):
        measure("Paris", "Paris")
