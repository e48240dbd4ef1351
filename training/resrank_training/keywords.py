# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Questions as keyword queries: the words that carry the subject, as people type them into a search box."""

from __future__ import annotations

import unicodedata

# English function and question words. Negations stay: they turn the meaning around.
_STOP_WORDS = frozenset(
    """
    a an the this that these those some any each every such
    i me my you your yours he him his she her hers it its we us our ours they them their theirs
    itself himself herself themselves yourself myself ourselves
    what which who whom whose when where why how whether whatever whichever whoever whenever wherever
    am is are was were be been being do does did doing done has have had having
    can could must shall should will would ought
    can't couldn't don't doesn't didn't isn't aren't wasn't weren't won't wouldn't shouldn't hasn't haven't hadn't
    i'm you're we're they're i've you've we've they've i'd you'd he'd she'd we'd they'd i'll you'll he'll she'll we'll
    of in on at by for from to into onto with within about as than upon per via during among between
    and or but if then so because while though although nor
    there here also just very too only please tell give describe explain
    many much
    """.split()
)
_FEWEST_WORDS = 2


def keywords(query: str) -> str:
    """
    Reduce a query to its content words, in their order.

    Stop words, question words and punctuation around words go; the list is English. A stop word in capitals (`WHO`,
    `IT`) is a name, unless the whole query is in capitals. `C++`, `C#` and what has punctuation inside (`E-1234`,
    `3.5`) stay whole.

    :param query: its text.
    :returns: the words, separated by blanks; the query itself when fewer than 2 would remain.
    """
    words = (_bare(word) for word in query.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    shouted = query.isupper()
    kept = [word for word in words if word and (_is_name(word, shouted) or word.lower() not in _STOP_WORDS)]
    return " ".join(kept) if len(kept) >= _FEWEST_WORDS else query


def _bare(word: str) -> str:
    start, end = 0, len(word)
    while start < end and _is_punctuation(word[start]):
        start += 1
    while end > start and _is_punctuation(word[end - 1]) and word[end - 1] not in "+#":
        end -= 1
    return word[start:end].removesuffix("'s").removesuffix("'S")


def _is_punctuation(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind.startswith("P") or kind in ("Sk", "Sm")


def _is_name(word: str, shouted: bool) -> bool:
    return not shouted and len(word) > 1 and word.isupper()
