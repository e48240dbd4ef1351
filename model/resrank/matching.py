# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
How the words of a query stand in the text of each candidate.

One vector a passage loses exact matches, and BM25 sees single terms alone. Five numbers a candidate say how much of the
query its text holds, each a share from 0 (nothing) to 1 (all of it):

=============== ====================================================================================================
`term_match`    terms: words but for stop words, stemmed as for BM25
`pair_match`    neighbouring terms that are neighbours in the text, too, in this order
`span_match`    terms that stand together within `SPAN` terms of the text, at its best place
`word_match`    words as they are written, with case and ending, stop words left out
`phrase_match`  neighbouring words, stop words included, in any case
=============== ====================================================================================================

What many candidates hold tells them apart least: an item that d of n candidates hold weighs ln(1 + (n - d + 1/2) / (d +
1/2)), BM25's inverse document frequency within the list. So no statistics of a collection are needed, and candidates
may come from anywhere. No model reads these texts: it takes a few milliseconds for 100 passages.

Sources: ordered pairs and windows of terms as in the sequential dependence model (Metzler and Croft 2005); the best
window as a measure of proximity (Tao and Zhai 2007).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from .lexical import LexicalEncoder

_Float32Array = np.ndarray[Any, np.dtype[np.float32]]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]

MATCHES = ("term_match", "pair_match", "span_match", "word_match", "phrase_match")
SPAN = 20

_WORD = re.compile(r"[^\W_]+")  # as BM25 splits identifiers
_STOP_WORD = -1
_ELSEWHERE = 0  # not in the query; what is in it counts from 1
_MOST_WORDS = 1 << 18  # that a process remembers: about 40 MB


class WordMatcher:
    """
    Compares queries with texts. Safe for threads.

    :param lexical: decides what a term is: language, stop words and stems are those of BM25.
    """

    def __init__(self, lexical: LexicalEncoder) -> None:
        self._lexical = lexical
        self._vocabulary = _Vocabulary(lexical)

    def matches(self, query: str, texts: Sequence[str | None]) -> _Float32Array:
        """
        Compare a query with the texts of its candidates.

        :param query: the query.
        :param texts: of all candidates of the list, since weights depend on it; `None` where there is no text.
        :returns: (texts, 5) float32 in the order of `MATCHES`, NaN where there is no text. 0 for what the query has
            nothing of: a single word has no pairs.
        """
        known = [row for row, text in enumerate(texts) if text is not None]
        found = np.full((len(texts), len(MATCHES)), np.nan, dtype=np.float32)
        if known:
            if len(self._vocabulary) > _MOST_WORDS:
                self._vocabulary = _Vocabulary(self._lexical)
            found[known] = _matches(self._vocabulary, query, [texts[row] or "" for row in known])
        return found


class _Vocabulary(dict[str, int]):
    """
    Numbers words, which are added when they are first looked up.

    :param lexical: gives terms.
    """

    def __init__(self, lexical: LexicalEncoder) -> None:
        super().__init__()
        self._lexical = lexical
        self._lock = threading.RLock()
        self._of_term: dict[int, int] = {}
        self.lowered: _Ints = np.zeros(1_024, dtype=np.int64)  # by the number of a word: that of its lower case
        self.term: _Ints = np.zeros(1_024, dtype=np.int64)  # that of the first word with its term, or _STOP_WORD

    def __missing__(self, word: str) -> int:
        lower = word.lower()
        with self._lock:
            known = self.get(word)
            if known is not None:  # another thread was faster
                return known
            lowered = None if lower == word else self[lower]
            number = len(self)
            if number >= len(self.lowered):
                self.lowered, self.term = (np.concatenate([each, each]) for each in (self.lowered, self.term))
            self.lowered[number] = number if lowered is None else lowered
            self.term[number] = self._term(lower, number) if lowered is None else self.term[lowered]
            self[word] = number  # last: others read without the lock
            return number

    def numbers(self, text: str) -> list[int]:
        """
        Number the words of a text.

        :param text: any.
        :returns: the number of each word, in order.
        """
        return list(map(self.__getitem__, _WORD.findall(text)))

    def _term(self, lower: str, number: int) -> int:
        indices, _ = self._lexical.encode_query(lower)
        if len(indices) != 1:  # a word that BM25 splits further is a term of its own
            return number if indices else _STOP_WORD
        return self._of_term.setdefault(indices[0], number)


def _matches(vocabulary: _Vocabulary, query: str, texts: list[str]) -> Any:
    asked = np.array(vocabulary.numbers(query), dtype=np.int64)
    numbered = [vocabulary.numbers(text) for text in texts]
    words = np.fromiter(chain.from_iterable(numbered), np.int64)
    rows = np.repeat(np.arange(len(texts)), [len(each) for each in numbered])
    lowered, term = vocabulary.lowered, vocabulary.term  # now: they have all of these words

    def places(of_query: _Ints, of_texts: _Ints) -> tuple[_Ints, _Ints]:
        """Both renumbered: 1, 2, … for what the query has."""
        table = np.zeros(len(term), dtype=np.int64)
        distinct = np.array(list(dict.fromkeys(of_query.tolist())), dtype=np.int64)
        table[distinct] = np.arange(1, len(distinct) + 1)
        return table[of_query], table[of_texts]

    content, asked_content = term[words] != _STOP_WORD, term[asked] != _STOP_WORD
    asked_terms, terms = places(term[asked[asked_content]], term[words[content]])
    term_rows = rows[content]
    held = _held(len(texts), asked_terms, term_rows, terms)
    weights = _weights(held)
    asked_words, written = places(asked[asked_content], words)
    asked_lowered, lower = places(lowered[asked], lowered[words])
    return np.stack(
        [
            _share(held, weights),
            _weighted(_pairs(len(texts), asked_terms, term_rows, terms)),
            _best_span(len(texts), term_rows, terms, weights),
            _weighted(_held(len(texts), asked_words, rows, written)),
            _weighted(_pairs(len(texts), asked_lowered, rows, lower)),
        ],
        axis=1,
    )


def _held(texts: int, asked: _Ints, rows: _Ints, numbers: _Ints) -> _Bools:
    """(texts, items of the query): which texts hold which."""
    held = np.zeros((texts, int(asked.max(initial=0)) + 1), dtype=np.bool_)
    held[rows, numbers] = True
    return held[:, 1:]


def _pairs(texts: int, asked: _Ints, rows: _Ints, numbers: _Ints) -> _Bools:
    """(texts, pairs of the query): which texts hold which."""
    size = int(asked.max(initial=0)) + 1
    table = np.zeros((size, size), dtype=np.int64)
    pairs = dict.fromkeys(pairwise(asked.tolist()))
    for number, pair in enumerate(pairs, 1):
        table[pair] = number
    beside = rows[:-1] == rows[1:]
    found = table[numbers[:-1], numbers[1:]]
    return _held(texts, np.arange(len(pairs) + 1), rows[:-1][beside], found[beside])


def _weights(held: _Bools) -> Any:
    holders = held.sum(axis=0)
    return np.log1p((len(held) - holders + 0.5) / (holders + 0.5))


def _share(held: _Bools, weights: Any) -> Any:
    total = weights.sum()
    return held @ weights / total if total else np.zeros(len(held))


def _weighted(held: _Bools) -> Any:
    return _share(held, _weights(held))


def _best_span(texts: int, rows: _Ints, numbers: _Ints, weights: Any) -> Any:
    """The largest weight of distinct terms within `SPAN` terms of each text, as a share of all weights."""
    best = np.zeros(texts)
    total = weights.sum()
    places = np.flatnonzero(numbers != _ELSEWHERE)
    if not len(places) or not total:
        return best
    rows, terms = rows[places], numbers[places] - 1
    within = np.zeros((len(places), len(weights)), dtype=np.bool_)  # of the span that starts at each place
    within[np.arange(len(places)), terms] = True
    for ahead in range(1, min(SPAN, len(places))):
        starts = np.flatnonzero((rows[ahead:] == rows[:-ahead]) & (places[ahead:] - places[:-ahead] < SPAN))
        if not len(starts):
            break
        within[starts, terms[starts + ahead]] = True
    np.maximum.at(best, rows, within @ weights / total)
    return best
