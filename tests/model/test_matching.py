# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""How words match: values by hand, and a naive reference that goes word by word."""

from __future__ import annotations

import math
import random
import re
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resrank import matching
from resrank.config import LexicalConfig
from resrank.lexical import LexicalEncoder
from resrank.matching import MATCHES, SPAN, WordMatcher

LEXICAL = LexicalEncoder()
WORDS = (
    *("bread", "Bread", "BREAD", "breads", "yeast", "baking", "bakes", "baked", "date", "dates", "parse", "E1234", "x"),
    *("the", "The", "of", "and", "is", "a", "not", "what", "Straße", "STRASSE", "naïve", "NAÏVE", "日本", "İstanbul"),
    *("json_loads", "JSON_dumps", "json", "loads", "_x", "the_of", "DİYARBAKIR"),
    *("ΟΔΟΣ", "οδος", "οδοσ", "don't", "3.5", "①", "e\u0301tude", "\U0001f600", "ﬁne", "Ⅷ"),
)
SEPARATORS = (" ", " ", " ", ", ", ".\n", "-", "_", "/", "\u3000", "… ", "\t")


def _of(name: str, query: str, texts: Sequence[str | None]) -> list[float]:
    """One of the numbers, of each text."""
    return WordMatcher(LEXICAL).matches(query, texts)[:, MATCHES.index(name)].tolist()


def _weight(texts: int, holders: int) -> float:
    return math.log(1 + (texts - holders + 0.5) / (holders + 0.5))


# ---------------------------------------------------------------------------------------------------------- reference


def _naive(query: str, texts: Sequence[str | None], lexical: LexicalEncoder = LEXICAL) -> list[list[float]]:
    known = [text for text in texts if text is not None]

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.replace("_", " "))

    def term(word: str) -> int | str | None:
        found, _ = lexical.encode_query(word.lower())
        if len(found) > 1:
            return word.lower()
        return found[0] if found else None

    def content(text: str) -> list[str]:
        return [word for word in words(text) if term(word) is not None]

    def terms(text: str) -> list[int | str | None]:
        return [term(word) for word in content(text)]

    def phrases(text: str) -> list[tuple[str, str]]:
        return list(pairwise([word.lower() for word in words(text)]))

    def pairs(text: str) -> list[tuple[int | str | None, int | str | None]]:
        return list(pairwise(terms(text)))

    def weights(asked: Callable[[str], Sequence[Hashable]], of_text: Callable[[str], Sequence[Hashable]]) -> dict:
        return {item: _weight(len(known), sum(item in of_text(text) for text in known)) for item in asked(query)}

    def share(weighted: dict, held: Sequence[Hashable]) -> float:
        total = sum(weighted.values())
        return sum(weight for item, weight in weighted.items() if item in held) / total if total else 0.0

    of_terms, of_pairs, of_phrases = weights(terms, terms), weights(pairs, pairs), weights(phrases, phrases)
    of_words = weights(content, words)

    def span(text: str) -> float:
        every = terms(text)
        return max((share(of_terms, every[start : start + SPAN]) for start in range(len(every))), default=0.0)

    return [
        [math.nan] * 5
        if text is None
        else [
            share(of_terms, terms(text)),
            share(of_pairs, pairs(text)),
            span(text),
            share(of_words, words(text)),
            share(of_phrases, phrases(text)),
        ]
        for text in texts
    ]


def _random_text(rng: random.Random, longest: int) -> str:
    # Of few words, so that some of the query's are often among them.
    words = rng.sample(WORDS, rng.randint(1, len(WORDS)))
    return "".join(rng.choice(words) + rng.choice(SEPARATORS) for _ in range(rng.randint(0, longest)))


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_reference_on_random_texts(seed: int) -> None:
    rng, matcher = random.Random(seed), WordMatcher(LEXICAL)
    for _ in range(50):
        query = _random_text(rng, rng.choice([1, 3, 8]))
        texts: list[str | None] = [_random_text(rng, rng.choice([0, 4, 15, 50])) for _ in range(rng.randint(1, 8))]
        texts += rng.choices([None, "", " \n"], k=rng.randint(0, 2))
        rng.shuffle(texts)
        np.testing.assert_allclose(matcher.matches(query, texts), _naive(query, texts), rtol=0, atol=1e-6)


_free = st.text(max_size=30)


@settings(max_examples=200, deadline=None)
@given(query=_free, texts=st.lists(st.one_of(_free, st.none()), max_size=5), quoted=st.booleans())
def test_equals_the_reference_on_any_texts(query: str, texts: list[str | None], quoted: bool) -> None:
    texts = [f"{text} {query.swapcase()} {text}" if quoted and text else text for text in texts]
    found = WordMatcher(LEXICAL).matches(query, texts)
    np.testing.assert_allclose(found, np.reshape(_naive(query, texts), (-1, 5)), rtol=0, atol=1e-6)
    assert (np.isnan(found) | ((found >= 0) & (found <= 1 + 1e-6))).all()


@pytest.mark.parametrize("query", ["the of and", "what is the", "bread", "Bread bread", "?!", "", " \n", "\ud800"])
def test_equals_the_reference_on_short_queries(query: str) -> None:
    texts = ["What is the bread of the day?", "", "  ", "bread", "Bread BREAD", None, "\ud800", "the of", "of and the"]
    np.testing.assert_allclose(WordMatcher(LEXICAL).matches(query, texts), _naive(query, texts), rtol=0, atol=1e-6)


def test_equals_the_reference_on_more_words_than_there_is_room_for_at_first() -> None:
    rng = random.Random(0)
    words = [f"w{number}" for number in range(5_000)]
    texts = [" ".join(rng.sample(words, 1_500)) for _ in range(4)]
    query = " ".join([*rng.sample(words, 5), *texts[2].split()[700:704]])
    np.testing.assert_allclose(WordMatcher(LEXICAL).matches(query, texts), _naive(query, texts), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- by hand

QUERY = "baking fresh bread"
TEXTS = ("Fresh bread is baked daily.", "The bread was not fresh.", "Nothing of that.")


def test_the_numbers_and_their_type() -> None:
    assert MATCHES == ("term_match", "pair_match", "span_match", "word_match", "phrase_match")
    found = WordMatcher(LEXICAL).matches(QUERY, TEXTS)
    assert (found.shape, found.dtype) == ((3, 5), np.float32)


def test_terms_by_hand() -> None:
    bake, fresh, bread = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5), math.log(1 + 1.5 / 2.5)
    assert _of("term_match", QUERY, TEXTS) == pytest.approx([1, (fresh + bread) / (bake + fresh + bread), 0])


def test_pairs_by_hand() -> None:
    """No text has `baking fresh`; the second has `bread fresh`, which is another order."""
    neither, first = math.log(1 + 3.5 / 0.5), math.log(1 + 2.5 / 1.5)
    assert _of("pair_match", QUERY, TEXTS) == pytest.approx([first / (neither + first), 0, 0])


def test_words_by_hand() -> None:
    """`Fresh` is not `fresh`, nor is `baked` `baking`."""
    baking, fresh, bread = math.log(1 + 3.5 / 0.5), math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    total = baking + fresh + bread
    assert _of("word_match", QUERY, TEXTS) == pytest.approx([bread / total, (fresh + bread) / total, 0])


def test_phrases_by_hand() -> None:
    """In any case, but with these endings, and stop words between words count."""
    texts = ("THE STATE OF affairs", "the states of the art", "state the art")
    pairs = {"state of": 1, "of the": 1, "the art": 2}
    weights = {pair: _weight(3, holders) for pair, holders in pairs.items()}
    total = sum(weights.values())
    expected = [weights["state of"], weights["of the"] + weights["the art"], weights["the art"]]
    assert _of("phrase_match", "state of the art", texts) == pytest.approx([each / total for each in expected])


def test_pairs_pass_over_stop_words() -> None:
    texts = ("state of the art", "The states' art!", "art of the state", "state art")
    assert _of("pair_match", "state of the art", texts) == pytest.approx([1, 1, 0, 1])


def test_spans_by_hand() -> None:
    """The best place of the first text has two of three terms, though it has all; the second has them at once."""
    far = " ".join(f"filler{number}" for number in range(40))
    texts = (f"alpha {far} beta and gamma", "gamma, alpha. Beta", f"gamma {far} alpha", "beta")
    alpha, beta, gamma = _weight(4, 3), _weight(4, 3), _weight(4, 3)
    total = alpha + beta + gamma
    found = _of("span_match", "alpha beta gamma", texts)
    assert found == pytest.approx([(beta + gamma) / total, 1, max(alpha, gamma) / total, beta / total])
    assert _of("term_match", "alpha beta gamma", texts)[0] == pytest.approx(1)


@pytest.mark.parametrize(("between", "together"), [(0, True), (17, True), (18, True), (19, False), (40, False)])
def test_a_span_holds_so_many_terms(between: int, together: bool) -> None:
    """With 18 between them two terms are 19 apart: the first and the last of a span."""
    fillers = [f"filler{number}" for number in range(between)]
    texts = [" ".join(["alpha", *fillers, "beta"]), "something else"]
    assert _of("span_match", "alpha beta", texts) == pytest.approx([1 if together else 0.5, 0])
    assert SPAN == 20


def test_stop_words_take_no_room_in_a_span() -> None:
    assert _of("span_match", "alpha beta", [f"alpha {'of the ' * 50} beta"]) == pytest.approx([1])


def test_a_term_that_is_often_in_a_span_counts_once() -> None:
    texts = ["alpha alpha alpha", "alpha beta"]
    alpha, beta = _weight(2, 2), _weight(2, 1)
    assert _of("span_match", "alpha beta alpha", texts) == pytest.approx([alpha / (alpha + beta), 1])


@pytest.mark.parametrize("name", ["pair_match", "span_match", "phrase_match"])
def test_what_is_beside_the_end_of_a_text_is_not_the_next_one(name: str) -> None:
    apart, together = _of(name, "alpha beta", ["see alpha", "beta sees"]), _of(name, "alpha beta", ["see alpha beta"])
    assert together == pytest.approx([1])
    assert max(apart) <= 0.5


def test_what_is_rare_in_the_list_weighs_more() -> None:
    rare, common, _ = _of("term_match", "alpha beta", ["alpha", "beta", "beta"])
    assert rare == pytest.approx(_weight(3, 1) / (_weight(3, 1) + _weight(3, 2)))
    assert common == pytest.approx(1 - rare)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("bread", [1, 0, 1, 1, 0]),  # one word has no pairs
        ("Breads", [1, 0, 1, 0, 0]),
        ("the bread", [1, 0, 1, 1, 1]),
        ("of the", [0, 0, 0, 0, 1]),  # stop words have no terms
        ("the", [0, 0, 0, 0, 0]),
        ("?!", [0, 0, 0, 0, 0]),
        ("", [0, 0, 0, 0, 0]),
    ],
)
def test_what_a_query_has_nothing_of_is_zero(query: str, expected: list[float]) -> None:
    (found,) = WordMatcher(LEXICAL).matches(query, ["the history of the bread"])
    assert found.tolist() == pytest.approx(expected)


def test_terms_are_those_of_the_language() -> None:
    german = WordMatcher(LexicalEncoder(LexicalConfig(language="german")))
    texts = ["Die Katze und ihre Brote.", "Nichts."]
    assert german.matches("der Katzen", texts)[0, :4].tolist() == pytest.approx([1, 0, 1, 0])
    assert WordMatcher(LEXICAL).matches("der Katzen", texts)[0, 0] == 0


def test_identifiers_are_split_as_bm25_does() -> None:
    assert LEXICAL.encode_query("json_loads") == LEXICAL.encode_query("json loads")
    query, texts = "call json_loads", ["json_loads is called", "something else"]
    neither, second = _weight(2, 0), _weight(2, 1)  # `call json` and `json loads`
    assert _of("term_match", query, texts) == pytest.approx([1, 0])
    assert _of("pair_match", query, texts) == pytest.approx([second / (neither + second), 0])
    assert _of("span_match", query, texts) == pytest.approx([1, 0])
    assert _of("word_match", query, texts) == pytest.approx([2 * second / (neither + 2 * second), 0])
    assert _of("phrase_match", query, texts) == pytest.approx([second / (neither + second), 0])
    matcher = WordMatcher(LEXICAL)
    apart = matcher.matches("call json loads", ["json loads is called", "something else"])
    np.testing.assert_array_equal(matcher.matches(query, texts), apart)
    np.testing.assert_array_equal(matcher.matches("__call_json_loads__", texts), apart)


def test_a_word_that_bm25_splits_is_a_term_of_its_own() -> None:
    """In lower case the `İ` within it ends in a dot of its own, which is no part of a word."""
    assert len(LEXICAL.encode_query("DİYARBAKIR".lower())[0]) == 2
    texts = ["the DİYARBAKIR of bread", "yarbakir", "bread"]
    assert _of("term_match", "DİYARBAKIR", texts) == pytest.approx([1, 0, 0])
    assert _of("pair_match", "DİYARBAKIR bread", texts) == pytest.approx([1, 0, 0])
    assert _of("word_match", "the DİYARBAKIR", texts) == pytest.approx([1, 0, 0])


# -------------------------------------------------------------------------------------------------------- lists of texts


def test_what_has_no_text_is_unknown_and_has_no_part_in_the_weights() -> None:
    matcher = WordMatcher(LEXICAL)
    found = matcher.matches(QUERY, [TEXTS[0], None, *TEXTS[1:], None])
    assert np.isnan(found[[1, 4]]).all()
    np.testing.assert_array_equal(found[[0, 2, 3]], matcher.matches(QUERY, TEXTS))


def test_an_empty_text_is_known_to_have_nothing_and_counts() -> None:
    matcher = WordMatcher(LEXICAL)
    found = matcher.matches(QUERY, [*TEXTS, "", " \n"])
    np.testing.assert_array_equal(found[3:], np.zeros((2, 5)))
    assert not np.array_equal(found[:3], matcher.matches(QUERY, TEXTS))


@pytest.mark.parametrize("texts", [[], [None], [None, None]])
def test_no_texts_at_all(texts: list[None]) -> None:
    found = WordMatcher(LEXICAL).matches(QUERY, texts)
    assert (found.shape, found.dtype) == ((len(texts), 5), np.float32)
    assert np.isnan(found).all()


def test_the_order_of_the_texts_does_not_matter() -> None:
    rng, matcher = random.Random(1), WordMatcher(LEXICAL)
    for _ in range(20):
        query, texts = _random_text(rng, 6), [_random_text(rng, 30) for _ in range(12)]
        order = rng.sample(range(12), 12)
        shuffled = WordMatcher(LEXICAL).matches(query, [texts[i] for i in order])
        np.testing.assert_allclose(shuffled, matcher.matches(query, texts)[order], rtol=0, atol=1e-6)


# --------------------------------------------------------------------------------------------------- threads and memory


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _many_words(seed: int) -> tuple[str, list[str]]:
    rng = random.Random(seed)
    words = [rng.choice([f"word{n}", f"Word{n}", f"WORD{n}", "the"]) for n in rng.choices(range(2_000), k=1_200)]
    texts = [" ".join(words[start : start + 100]) for start in range(0, 1_200, 100)]
    return " ".join([*words[:6], *words[610:616]]), texts


def test_many_threads_at_once_give_what_one_gives(impatient: None) -> None:
    asked = [_many_words(seed) for seed in range(8)]
    alone = WordMatcher(LEXICAL)
    expected = [alone.matches(*each) for each in asked]
    for _ in range(5):
        fresh, start = WordMatcher(LEXICAL), threading.Barrier(len(asked), timeout=20)
        found: dict[int, np.ndarray] = {}

        def work(number: int, matcher: WordMatcher = fresh, start: threading.Barrier = start, into=found) -> None:
            start.wait()  # all learn the same words at the same time
            into[number] = matcher.matches(*asked[number])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(found) == len(asked)
        for number, each in enumerate(expected):
            np.testing.assert_array_equal(found[number], each)


@pytest.mark.parametrize("most", [0, 10, 1_000])
def test_words_that_are_forgotten_change_nothing(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    asked = [_many_words(seed) for seed in range(6)]
    unlimited = WordMatcher(LEXICAL)
    expected = [unlimited.matches(*each) for each in asked]
    monkeypatch.setattr(matching, "_MOST_WORDS", most)
    limited = WordMatcher(LEXICAL)
    for each, wanted in zip([*asked, *asked], [*expected, *expected], strict=True):
        np.testing.assert_array_equal(limited.matches(*each), wanted)
    assert len(limited._vocabulary) < 3_000 < len(unlimited._vocabulary)
