# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""BM25 vectors by Qdrant's tokeniser."""

from __future__ import annotations

import math

import pytest

from resrank import LexicalConfig
from resrank.lexical import LexicalEncoder


@pytest.fixture(scope="module")
def lexical() -> LexicalEncoder:
    return LexicalEncoder()


def test_a_query_weighs_a_term_by_its_frequency(lexical: LexicalEncoder) -> None:
    ids, weights = lexical.encode_query("yeast flour yeast, the yeasts")
    ((yeast,), _), ((flour,), _) = lexical.encode_query("yeast"), lexical.encode_query("flour")
    assert dict(zip(ids, weights, strict=True)) == {yeast: 3.0, flour: 1.0}


def test_query_terms_are_those_of_qdrants_own_query_encoding(lexical: LexicalEncoder, queries: tuple[str, ...]) -> None:
    for query in (*queries, "word " * 5_000, "the of and"):
        assert lexical.encode_query(query)[0] == sorted(lexical._bm25.embed_query(query).indices)
    assert lexical.encode_query("word " * 5_000)[1] == [5_000.0]


def test_ids_ascend_and_are_unsigned_32_bit(lexical: LexicalEncoder) -> None:
    ((ids, _),) = lexical.encode_passages(["zebra apple mango kiwi banana"])
    assert ids == sorted(set(ids))
    assert all(0 <= i < 2**32 for i in ids)


@pytest.mark.parametrize(("a", "b"), [("parsing", "parsed"), ("BREAD", "bread"), ("dates", "date")])
def test_words_are_stemmed_and_lower_cased(lexical: LexicalEncoder, a: str, b: str) -> None:
    assert lexical.encode_query(a) == lexical.encode_query(b)


def test_queries_and_passages_share_term_ids(lexical: LexicalEncoder) -> None:
    ((ids, _),) = lexical.encode_passages(["bread needs yeast"])
    assert set(lexical.encode_query("yeast bread")[0]) < set(ids)


def test_passage_weights_follow_bm25() -> None:
    """tf (k + 1) / (tf + k (1 - b + b length / avg_len)), with length in terms."""
    k, b, avg_len = 1.5, 0.5, 10.0
    lexical = LexicalEncoder(LexicalConfig(k=k, b=b, avg_len=avg_len))
    ((ids, weights),) = lexical.encode_passages(["yeast yeast flour salt"])
    found = dict(zip(ids, weights, strict=True))

    def expected(frequency: int) -> float:
        return frequency * (k + 1) / (frequency + k * (1 - b + b * 4 / avg_len))

    for word, frequency in {"yeast": 2, "flour": 1, "salt": 1}.items():
        ((term,), _) = lexical.encode_query(word)
        assert math.isclose(found[term], expected(frequency), rel_tol=1e-5)


@pytest.mark.parametrize("text", ["", "   ", "the of and", "?!"])
def test_texts_without_terms_are_empty(lexical: LexicalEncoder, text: str) -> None:
    assert lexical.encode_query(text) == ([], [])
    assert lexical.encode_passages([text]) == [([], [])]


def test_no_texts_give_no_vectors(lexical: LexicalEncoder) -> None:
    assert lexical.encode_passages([]) == []


def test_the_language_chooses_the_stemmer_and_stop_words() -> None:
    german = LexicalEncoder(LexicalConfig(language="german"))
    assert german.encode_query("der die das") == ([], [])
    assert german.encode_query("Häuser") == german.encode_query("Häusern")


def test_hostile_texts_are_encoded(lexical: LexicalEncoder, hostile_text: str) -> None:
    ids, weights = lexical.encode_query(hostile_text)
    assert len(ids) == len(weights)
    assert all(weight >= 1.0 and weight == int(weight) for weight in weights)
    ((_, passage_weights),) = lexical.encode_passages([hostile_text])
    assert all(math.isfinite(weight) and weight > 0 for weight in passage_weights)
