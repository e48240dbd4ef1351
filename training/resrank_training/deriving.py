# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Other kinds of queries from a collection's own passages, so that a model does not only learn to rank questions.

`sentences`: a statement looks for the passage that it was taken out of (the inverse cloze task, Lee et al. 2019,
arXiv 1906.00300). `titles`: a title looks for all the passages that stood under it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from resrank_evals.collection import Collection, Passage

Derived = Literal["sentences", "titles"]

_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]\N{RIGHT DOUBLE QUOTATION MARK}]))\s+")
_FEWEST_SENTENCES = 3  # a passage that loses one of two is another passage
_FEWEST_WORDS, _MOST_WORDS = 6, 60  # shorter ones say nothing by themselves, longer ones are badly split


def derive(collection: Collection, kind: Derived, seed: int = 0) -> Collection:
    """
    Make a collection of other queries from the passages that are relevant in its split.

    Passages that no query of this split finds relevant stay as they are and never become relevant.

    :param collection: with the judgments of its training split.
    :param kind: `sentences`: one sentence of each relevant passage of at least 3 becomes a query (6 to 60 words) and is
        taken out of the passage. `titles`: each title of a relevant passage becomes a query for the relevant passages
        that bear it; titles are taken off all passages, and passages that bear the title of a query without being
        relevant in this split are left out: they would answer it too.
    :param seed: which sentences are drawn.
    :returns: the collection, named `<name>-<kind>`.
    :raises ValueError: when no passage gives a query, or for an unknown kind.
    """
    if kind not in get_args(Derived):
        msg = f"expected one of {', '.join(get_args(Derived))}, got {kind!r}"
        raise ValueError(msg)
    relevant = {id_ for grades in collection.qrels.values() for id_, grade in grades.items() if grade > 0}
    relevant &= collection.passages.keys()
    make = _sentences if kind == "sentences" else _titles
    passages, queries, qrels = make(collection, relevant, seed)
    if not queries:
        wants = "of 3 sentences or more" if kind == "sentences" else "with a title"
        msg = f"{collection.name}: none of {len(relevant):,} relevant passages is one {wants}: no {kind} to derive"
        raise ValueError(msg)
    return replace(collection, name=f"{collection.name}-{kind}", passages=passages, queries=queries, qrels=qrels)


_Parts = tuple[Mapping[str, Passage], dict[str, str], dict[str, dict[str, int]]]


def _sentences(collection: Collection, relevant: set[str], seed: int) -> _Parts:
    rng = random.Random(seed)  # noqa: S311
    passages, queries = dict(collection.passages), {}
    for id_ in sorted(relevant):
        sentences = _SENTENCE_END.split(passages[id_].text.strip())
        fit = [i for i, each in enumerate(sentences) if _FEWEST_WORDS <= len(each.split()) <= _MOST_WORDS]
        if len(sentences) < _FEWEST_SENTENCES or not fit:
            continue
        taken = rng.choice(fit)
        queries[f"{id_}#sentence"] = sentences[taken]
        rest = " ".join(each for i, each in enumerate(sentences) if i != taken)
        passages[id_] = replace(passages[id_], text=rest)
    return passages, queries, {query: {query.removesuffix("#sentence"): 1} for query in queries}


def _titles(collection: Collection, relevant: set[str], seed: int) -> _Parts:  # noqa: ARG001
    bearing: defaultdict[str, list[str]] = defaultdict(list)
    for id_, passage in collection.passages.items():
        if id_ in relevant and passage.title.strip() and passage.text.strip():
            bearing[passage.title.strip()].append(id_)
    passages = {
        id_: replace(passage, title="")
        for id_, passage in collection.passages.items()
        if id_ in relevant or passage.title.strip() not in bearing
    }
    queries = {f"{ids[0]}#title": title for title, ids in bearing.items()}
    return passages, queries, {f"{ids[0]}#title": dict.fromkeys(ids, 1) for ids in bearing.values()}
