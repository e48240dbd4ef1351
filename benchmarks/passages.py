# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Real texts that every machine has: the passages of the Python standard library."""

from __future__ import annotations

from functools import cache

from haystack import Document

from resrank_pipelines.standard_library import harvest, standard_library

# What a user might ask; the same questions as in `resrank demo`.
QUERIES = (
    "how do I parse a date from a string",
    "run a command and capture its output",
    "copy a whole directory tree",
    "count how often each item occurs in a list",
    "make an HTTP request with a timeout",
    "cache the results of an expensive function",
)
QUERY = QUERIES[0]

_SMALL = "email"  # one package of the standard library: enough for the smoke test, read in an instant


@cache
def _harvested(small: bool) -> tuple[Document, ...]:
    return tuple(harvest(standard_library() / _SMALL if small else None))


def documents(count: int | None, *, small: bool) -> list[Document]:
    """
    Passages as they come, short and long.

    :param count: how many, spread over the whole harvest; `None` takes all.
    :param small: from one package only.
    :returns: documents with content; fewer than `count` when there are no more.
    """
    found = _harvested(small)
    if count is None or count >= len(found):
        return list(found)
    return [found[i * len(found) // count] for i in range(count)]


def texts_of_words(count: int, words: int, *, small: bool) -> list[str]:
    """
    Passages of equal length: the docstrings of the harvest in one stream of words, cut into pieces.

    Signatures are left out: they have several times as many tokens a word as prose, at a cross-encoder's expense.

    :param count: how many.
    :param words: in each.
    :param small: from one package only.
    :returns: texts.
    :raises ValueError: when the harvest is too short.
    """
    stream: list[str] = []
    for document in _harvested(small):
        _, _, docstring = (document.content or "").partition("\n")
        stream.extend(docstring.split())
        if len(stream) >= count * words:
            return [" ".join(stream[i * words : (i + 1) * words]) for i in range(count)]
    msg = f"the standard library has {len(stream)} words of documentation, {count} texts of {words} need more"
    raise ValueError(msg)
