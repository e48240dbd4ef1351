# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A corpus as numbered batches of documents, each with what was found on the way to it."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field, fields
from pathlib import Path

from haystack import Document

from resrank_pipelines.lines import at

from .fields import Fields
from .rows import Position, rows
from .seen import Place, SeenIds
from .sources import CorpusFile

# Of each kind, in a report; counts say how many there are.
SHOWN_PROBLEMS = 20


@dataclass
class Tally:
    """
    Counts of rows and passages.

    :param rows: that were read, blank lines aside.
    :param passages: rows with a text and an id that no earlier row had: `written` and `unchanged` together.
    :param written: passages embedded and written.
    :param replaced: of these, passages that were stored with another text or meta, or embedded otherwise.
    :param unchanged: passages that were stored already.
    :param truncated: written passages that were longer than the encoder reads.
    :param blank: rows without text, left out.
    :param duplicates: rows with the id, text and meta of an earlier one, left out.
    :param conflicts: rows with the id of an earlier one and another text or meta, left out: the first counts.
    :param damaged: rows that could not be read, left out.
    """

    rows: int = 0
    passages: int = 0
    written: int = 0
    replaced: int = 0
    unchanged: int = 0
    truncated: int = 0
    blank: int = 0
    duplicates: int = 0
    conflicts: int = 0
    damaged: int = 0

    def add(self, other: Tally) -> None:
        """
        Add counts.

        :param other: to add.
        """
        for each in fields(Tally):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True)
class Problem:
    """
    Something about a row that its owner may want to know.

    :param kind: name of a count of `Tally`.
    :param where: `<file>:<line>`; of a Parquet file the number of the row.
    :param what: in words.
    """

    kind: str
    where: str
    what: str


@dataclass
class Batch:
    """
    Documents on their way from a corpus to a store; each step takes it from the last.

    :param number: from 0.
    :param documents: what the next step has to do with; none after the last one.
    :param places: `<file>:<line>` by document id.
    :param end: the position after its last row.
    :param tally: of its rows.
    :param problems: at most `SHOWN_PROBLEMS` of each kind.
    """

    number: int
    documents: list[Document] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    end: Position = field(default_factory=Position)
    tally: Tally = field(default_factory=Tally)
    problems: list[Problem] = field(default_factory=list)

    def note(self, kind: str, where: str, what: str) -> None:
        """
        Count a problem and remember the first ones.

        :param kind: name of a count of `Tally`.
        :param where: `<file>:<line>`.
        :param what: in words.
        """
        setattr(self.tally, kind, getattr(self.tally, kind) + 1)
        if sum(problem.kind == kind for problem in self.problems) < SHOWN_PROBLEMS:
            self.problems.append(Problem(kind, where, what))

    @property
    def span(self) -> str:
        """
        Where its documents come from.

        :returns: the places of the first and the last one.
        """
        places = [*self.places.values()]
        return f"{places[0]} to {places[-1]}" if places else "no rows"


@dataclass(frozen=True)
class BatchReader:
    """
    Reads batches; iterating again reads the same ones.

    :param files: of the corpus.
    :param fields: of its rows.
    :param size: documents in a batch; the last one may have fewer.
    :param seen: file of the ids that were read.
    :param start: where to begin.
    :param skip_damaged: leave damaged rows out and count them, rather than stop.
    """

    files: list[CorpusFile]
    fields: Fields
    size: int
    seen: Path
    start: Position = field(default_factory=Position)
    skip_damaged: bool = False

    def __iter__(self) -> Generator[Batch, None, None]:
        """
        Read.

        :returns: an iterator over batches; the ids of one are on disk before it is handed out.
        :raises OSError: when a file cannot be read.
        :raises ValueError: for a damaged row, and a file that is damaged as a whole.
        """
        seen = SeenIds(self.seen)
        try:
            batch = Batch(0)
            for row in rows(self.files, self.fields.names, self.start):
                batch.end = row.end
                batch.tally.rows += 1
                self._take(row.fields, row.damage, seen, batch)
                if len(batch.documents) == self.size:
                    seen.commit()
                    yield batch
                    batch = Batch(batch.number + 1, end=row.end)
            if batch.tally.rows:
                seen.commit()
                yield batch
        finally:
            seen.close()

    def _take(self, row: dict[str, object] | None, damage: ValueError | None, seen: SeenIds, batch: Batch) -> None:
        place = Place(batch.end.file, batch.end.row)
        where = self._at(place)
        document = None
        if row is not None:
            try:
                document = self.fields.document(where, row)
            except ValueError as error:
                damage = error
        if document is None:
            if not self.skip_damaged:
                msg = f"{damage}, or leave such rows out with --skip-damaged"
                raise ValueError(msg) from damage
            batch.note("damaged", where, str(damage).removeprefix(f"{where}: "))
            return
        content = document.content or ""
        if not content.strip():
            batch.note("blank", where, f"{document.id!r} has no text")
            return
        described = json.dumps([content, document.meta], sort_keys=True)
        earlier = seen.add(document.id, described, place)
        if earlier is not None:
            first = self._at(earlier.place)
            what = "with the same text" if earlier.is_same else "with another text or meta; the first counts"
            batch.note(
                "duplicates" if earlier.is_same else "conflicts", where, f"{document.id!r} after {first}, {what}"
            )
            return
        batch.tally.passages += 1
        batch.documents.append(document)
        batch.places[document.id] = where

    def _at(self, place: Place) -> str:
        return at(self.files[place.file].path, place.row)
