# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A test collection: passages, queries and what is relevant to them. Loaders make it; everything else reads it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Passage:
    """
    One passage.

    :param text: its text; may be empty.
    :param title: its title; empty when it has none.
    """

    text: str
    title: str = ""

    @property
    def content(self) -> str:
        """
        What is indexed.

        :returns: title and text, a line each; the text alone when there is no title.
        """
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Collection:
    """
    Passages, queries and qrels.

    :param name: short, for tables and folder names, e.g. `scifact`.
    :param split: of the qrels, e.g. `test`.
    :param passages: by id, in the order of the source. Empty for TREC qrels without texts, on which only `run:` systems
        work.
    :param queries: text by id; exactly those that have qrels.
    :param qrels: grade by passage id, by query id. A grade above 0 is relevant, 0 judged and not relevant; a passage
        that is missing is unjudged.
    :param source: where it came from, as the user named it.
    """

    name: str
    split: str
    passages: Mapping[str, Passage]
    queries: Mapping[str, str]
    qrels: Qrels
    source: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """
        Identify the content, whatever file it came from.

        :returns: 16 hexadecimal digits over passages, queries and qrels.
        """
        digest = hashlib.sha256(self.passages_fingerprint.encode())
        for id_, query in sorted(self.queries.items()):
            digest.update(f"q\0{id_}\0{query}\0".encode("utf-8", "surrogatepass"))
            for passage_id, grade in sorted(self.qrels[id_].items()):
                digest.update(f"{passage_id}\0{grade}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    @cached_property
    def passages_fingerprint(self) -> str:
        """
        Identify the passages alone.

        :returns: 16 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for id_, passage in self.passages.items():
            digest.update(f"p\0{id_}\0{passage.content}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def sample(self, queries: int | None, seed: int = 0) -> Collection:
        """
        The same passages with fewer queries: the same ones for every system and on every machine.

        :param queries: how many; `None`, or more than there are, keeps all.
        :param seed: of the choice.
        :returns: the collection with its queries in the order of their ids.
        """
        ids = sorted(self.queries)
        if queries is not None and queries < len(ids):
            ids = sorted(random.Random(seed).sample(ids, queries))  # noqa: S311
        return replace(
            self,
            queries={id_: self.queries[id_] for id_ in ids},
            qrels={id_: self.qrels[id_] for id_ in ids},
        )
