# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What a reader is given: passages in rank order, up to a fixed number of tokens.

A budget of tokens, not of passages, makes collections of short and long passages, and systems that prefer the one or
the other, cost the reader the same. The passage that does not fit whole is cut to what is left: left out, it would
leave most of a small budget empty, and replaced by a shorter one further down, the ranking would not be what is
measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """
    What a reader is given.

    :param ids: of the passages, best first.
    :param texts: of the passages; the last one may be cut.
    :param tokens: of all texts, without special tokens.
    :param cut_tokens: of the last passage that did not fit; 0 when it is whole.
    """

    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    tokens: int = 0
    cut_tokens: int = 0


def pack(passages: Iterable[tuple[str, str]], budget: int, tokenizer: Any) -> Context:
    """
    Fill a context.

    :param passages: (id, text), best first; read as far as they are needed. Blank ones are passed over.
    :param budget: tokens, at least 1.
    :param tokenizer: a fast tokenizer, the reader's.
    :returns: the context. A character of several tokens is never cut in two, so it may hold a token or two less.
    """
    ids: list[str] = []
    texts: list[str] = []
    used = cut = 0
    for id_, text in passages:
        if not text.strip():
            continue
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        left, fitting, end = budget - used, len(spans), len(text)
        if fitting > left:
            end = spans[left][0]  # of what comes before the first token that does not fit
            fitting = sum(1 for _, stop in spans[:left] if stop <= end)
            cut = len(spans) - fitting
        if kept := text[:end].rstrip():
            ids.append(id_)
            texts.append(kept)
            used += fitting
        if cut or used == budget:
            break
    return Context(tuple(ids), tuple(texts), used, cut)
