# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Training lists: what every step of training reads and writes.

A folder holds `lists.jsonl` (one query with its candidates a line), `passages.jsonl` (their texts, once each) and
`lists.json` (how it was made); `mine` leaves the passages' vectors with them. A folder with `lists.json` is complete;
without one, an interrupted writer goes on where it stopped.

A line of `lists.jsonl`:

```json
{"query_id": "q1", "query": "who …", "passages": ["p7", "p2"], "grades": [1, null],
 "evidence": [[0.9, 0.4, 0.8, 1.0, 0.5], [1.0, null, 0.4, 0.5, 0.0]], "ranking": [0, 1]}
```

`grades`: judged relevance (above 0 relevant, 0 judged and not relevant), `null` where nobody judged. `evidence`: a row
of `resrank.evidence.FEATURES` a candidate, `null` where unknown; the key is missing when no first stage ran. `ranking`:
indices into `passages`, best first, as a teacher ordered them; candidates that it left out rank below, tied. The key
is missing before labelling. `pool`: how many of the
candidates, the first ones, are what the first stage gave; the key is missing when nothing was added to them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from resrank.evidence import FEATURES, Float32Array
from resrank.sources import sha256_of
from resrank_evals.collection import Passage
from resrank_evals.lines import id_field
from resrank_evals.results import write_whole
from resrank_pipelines.lines import at, fault, json_rows, shown, text_field

LISTS = "lists.jsonl"
PASSAGES = "passages.jsonl"
INFO = "lists.json"
_SETTINGS = "settings.json.part"
_KEYS = frozenset({"query_id", "query", "passages", "grades", "evidence", "ranking", "pool"})
_NUMBERS = frozenset({float, int, type(None)})  # not bool
_MEND = "correct the line, or make the lists again"


@dataclass(frozen=True)
class TrainingList:
    """
    One query and its candidates.

    :param query_id: unique within its folder.
    :param query: its text.
    :param passages: ids of the candidates, each once, in the order of the pool.
    :param grades: judged relevance of each, `None` where unjudged.
    :param evidence: (candidates, 10) float32 evidence, NaN where unknown; `None` when there is none.
    :param ranking: a teacher's order: indices of candidates, best first; may be partial. `None` before labelling.
    :param pool: how many of the candidates, the first ones, are what the first stage gave; the others were added.
        `None` when nothing was added.
    """

    query_id: str
    query: str
    passages: tuple[str, ...]
    grades: tuple[int | None, ...]
    evidence: Float32Array | None = None
    ranking: tuple[int, ...] | None = None
    pool: int | None = None

    def first_stage(self, candidates: int) -> int:
        """
        The length of the pool.

        :param candidates: at most so many.
        :returns: how many of the candidates, the first ones, are of the first stage.
        """
        return min(candidates, len(self.passages) if self.pool is None else self.pool)

    @property
    def positives(self) -> tuple[int, ...]:
        """
        The relevant candidates.

        :returns: their indices.
        """
        return tuple(i for i, grade in enumerate(self.grades) if grade is not None and grade > 0)

    def served(self) -> TrainingList:
        """
        The list as the first stage gave it.

        :returns: a copy without what was added, or the list itself when nothing was.
        """
        if self.pool is None:
            return self
        ranking = None if self.ranking is None else tuple(i for i in self.ranking if i < self.pool)
        return replace(
            self,
            passages=self.passages[: self.pool],
            grades=self.grades[: self.pool],
            evidence=None if self.evidence is None else self.evidence[: self.pool],
            ranking=ranking,
            pool=None,
        )

    def ranked(self, ranking: Iterable[int]) -> TrainingList:
        """
        The same list with a teacher's order.

        :param ranking: indices of candidates, best first.
        :returns: a copy.
        """
        return replace(self, ranking=tuple(ranking))

    def to_json(self) -> dict[str, Any]:
        """
        A line of `lists.jsonl`.

        :returns: plain values.
        """
        row: dict[str, Any] = {
            "query_id": self.query_id,
            "query": self.query,
            "passages": list(self.passages),
            "grades": list(self.grades),
        }
        if self.evidence is not None:
            numbers = np.round(self.evidence.astype(np.float64), 6)
            values = numbers.astype(object)
            values[np.isnan(numbers)] = None
            row["evidence"] = values.tolist()
        if self.ranking is not None:
            row["ranking"] = list(self.ranking)
        if self.pool is not None:
            row["pool"] = self.pool
        return row


@dataclass(frozen=True)
class ListSet:
    """
    The content of a folder.

    :param name: of the folder.
    :param lists: in the order of the file.
    :param passages: by id.
    :param info: how it was made.
    :param digest: of both files: 16 hexadecimal digits.
    :param folder: it was read from; `None` for one that was made in memory.
    """

    name: str
    lists: tuple[TrainingList, ...]
    passages: Mapping[str, Passage]
    info: Mapping[str, Any]
    digest: str
    folder: Path | None = None

    @cached_property
    def has_rankings(self) -> bool:
        """
        Whether a teacher has ordered every list.

        :returns: true when all have a ranking.
        """
        return all(each.ranking is not None for each in self.lists)


class ListWriter:
    """
    Writes a folder; a context manager that completes it when it ends without an error.

    :param folder: made if missing.
    :param settings: what decides the content; a folder that was begun with others is refused.
    :raises FileExistsError: when the folder is complete already.
    :raises ValueError: when it was begun with other settings, or holds lists of unknown origin.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        if (folder / INFO).is_file():
            msg = f"{folder} holds complete training lists: name another folder, or remove it to make them again"
            raise FileExistsError(msg)
        folder.mkdir(parents=True, exist_ok=True)
        begun = folder / _SETTINGS
        described = json.dumps(self.settings, sort_keys=True, indent=2) + "\n"
        if begun.is_file() and begun.read_text(encoding="utf-8") != described:
            msg = f"{folder} was begun with other settings ({begun}): name another folder, or remove it"
            raise ValueError(msg)
        if not begun.is_file() and (folder / LISTS).is_file():
            msg = f"{folder} holds {LISTS} without {INFO}: what made it is not known; name another folder, or remove it"
            raise ValueError(msg)
        write_whole(begun, described)
        self.done = _whole_lines(folder / LISTS)
        self._file = (folder / LISTS).open("a", encoding="utf-8")

    def __enter__(self) -> ListWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, lists: Iterable[TrainingList]) -> None:
        """
        Append lists; they are on disk when this returns.

        :param lists: whose query ids are not in `done`.
        """
        for each in lists:
            self._file.write(json.dumps(each.to_json(), ensure_ascii=False) + "\n")
            self.done.add(each.query_id)
        self._file.flush()

    def discard(self) -> None:
        """
        Take back what was written: the source is at fault, and nothing can go on from here.
        """
        self._file.close()
        (self.folder / LISTS).unlink()
        (self.folder / _SETTINGS).unlink()

    def finish(self, passages: Mapping[str, Passage], counts: Mapping[str, Any]) -> None:
        """
        Write the passages, and mark the folder as complete.

        :param passages: by id; all that the lists name.
        :param counts: what happened, for `lists.json`.
        :raises ValueError: when a count has the name of a setting.
        """
        twice = sorted(set(self.settings) & set(counts))
        if twice:
            msg = f"counts must not have the names of settings, got {', '.join(twice)}: rename them"
            raise ValueError(msg)
        os.fsync(self._file.fileno())
        self._file.close()
        with (self.folder / PASSAGES).open("w", encoding="utf-8") as file:  # whole only once lists.json is there
            for id_, passage in passages.items():
                row = {"_id": id_, "title": passage.title, "text": passage.text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        info = {**self.settings, **counts, "lists": len(self.done), "passages": len(passages)}
        write_whole(self.folder / INFO, json.dumps(info, indent=2, sort_keys=True) + "\n")
        (self.folder / _SETTINGS).unlink()


def finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Look up whether a folder was made already.

    :param folder: that a `ListWriter` is to write.
    :param settings: what decides its content.
    :returns: its `lists.json`, or `None` when it is not complete.
    :raises ValueError: when it is complete and was made with other settings, naming them.
    """
    if not (folder / INFO).is_file():
        return None
    info = _info(folder)
    wanted = json.loads(json.dumps(dict(settings)))
    different = sorted(key for key, value in wanted.items() if key not in info or info[key] != value)
    if different:
        changes = ", ".join(f"{key} {shown(info.get(key))}, not {shown(wanted[key])}" for key in different)
        msg = f"{folder} holds training lists made with {changes}: name another folder, or remove it"
        raise ValueError(msg)
    return info


def read_lists(folder: Path) -> ListSet:
    """
    Read a folder of training lists.

    :param folder: that a `ListWriter` completed.
    :returns: its content.
    :raises FileNotFoundError: when it is no such folder, or not complete.
    :raises ValueError: for a damaged line, with file and line, and when lines are missing.
    """
    if not (folder / INFO).is_file():
        begun = (folder / _SETTINGS).is_file()
        msg = (
            f"{folder} holds unfinished training lists: run the command that makes them again"
            if begun
            else f"expected a folder of training lists with {INFO}, got {folder}: make one with resrank-train mine"
        )
        raise FileNotFoundError(msg)
    passages: dict[str, Passage] = {}
    for number, row in json_rows(folder / PASSAGES):
        where = at(folder / PASSAGES, number)
        id_ = id_field(where, row, ("_id",))
        title = text_field(where, row, ("title",)) if "title" in row else ""
        if id_ in passages:
            raise fault(where, expected="each passage once", got=f"{id_!r} again", advice=_MEND)
        passages[id_] = Passage(text_field(where, row, ("text",)), title)
    lists = tuple(iterate_lists(folder / LISTS, passages))
    info = _info(folder)
    for name, found in ((LISTS, lists), (PASSAGES, passages)):
        expected = info.get(name.partition(".")[0], len(found))
        if expected != len(found):
            raise fault(
                str(folder / name), expected=f"{expected} lines, as {INFO} says", got=str(len(found)), advice=_MEND
            )
    digest = hashlib.sha256(f"{sha256_of(folder / LISTS)} {sha256_of(folder / PASSAGES)}".encode()).hexdigest()[:16]
    return ListSet(folder.name, lists, passages, info, digest, folder)


def iterate_lists(path: Path, passages: Mapping[str, Any] | None = None) -> Iterator[TrainingList]:
    """
    Read a `lists.jsonl`.

    :param path: the file.
    :param passages: what candidates must be among; `None` checks nothing.
    :returns: an iterator over its lists.
    :raises ValueError: for a damaged line, with file and line.
    """
    seen: set[str] = set()
    for number, row in json_rows(path):
        found = parse_list(at(path, number), row, passages)
        if found.query_id in seen:
            raise fault(at(path, number), expected="each query once", got=f"{found.query_id!r} again", advice=_MEND)
        seen.add(found.query_id)
        yield found


def parse_list(where: str, row: Mapping[str, Any], passages: Mapping[str, Any] | None = None) -> TrainingList:
    """
    Check a line of `lists.jsonl`.

    :param where: `<file>:<line>` of the line.
    :param row: its content.
    :param passages: what candidates must be among; `None` checks nothing.
    :returns: the list.
    :raises ValueError: for anything that the format does not allow.
    """
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise fault(where, expected=f"the keys {', '.join(sorted(_KEYS))}", got=", ".join(unknown), advice=_MEND)
    ids, grades, ranking, pool = (row.get(key) for key in ("passages", "grades", "ranking", "pool"))
    different = isinstance(ids, list) and all(isinstance(id_, str) for id_ in ids) and len(set(ids)) == len(ids)
    if not isinstance(ids, list) or not different or not ids:
        raise fault(where, expected="`passages` as a list of different ids", got=shown(ids), advice=_MEND)
    lost = [id_ for id_ in ids if passages is not None and id_ not in passages]
    if lost:
        raise fault(where, expected=f"passages that {PASSAGES} holds", got=shown(lost[0]), advice=_MEND)
    if not isinstance(grades, list) or len(grades) != len(ids) or not all(g is None or _whole(g) for g in grades):
        raise fault(where, expected=f"`grades` with {len(ids)} integers or null", got=shown(grades), advice=_MEND)
    if ranking is not None and not (
        isinstance(ranking, list)
        and all(_whole(i) and 0 <= i < len(ids) for i in ranking)
        and len(set(ranking)) == len(ranking)
    ):
        raise fault(
            where,
            expected=f"`ranking` as different indices from 0 to {len(ids) - 1}",
            got=shown(ranking),
            advice=_MEND,
        )
    if pool is not None and not (_whole(pool) and 0 <= pool <= len(ids)):
        expected = f"`pool` as a number of candidates, at most {len(ids)}"
        raise fault(where, expected=expected, got=shown(pool), advice=_MEND)
    return TrainingList(
        id_field(where, row, ("query_id",)),
        text_field(where, row, ("query",)),
        tuple(ids),
        tuple(grades),
        _evidence(where, row.get("evidence"), len(ids)),
        None if ranking is None else tuple(ranking),
        pool,
    )


def _evidence(where: str, rows: Any, candidates: int) -> Float32Array | None:
    if rows is None:
        return None
    evidence = None
    shaped = isinstance(rows, list) and len(rows) == candidates
    if shaped and all(isinstance(row, list) and len(row) == len(FEATURES) for row in rows):
        values = [x for row in rows for x in row]
        if _NUMBERS.issuperset(map(type, values)):
            with suppress(OverflowError), np.errstate(over="ignore"):  # an integer beyond any float
                evidence = np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, len(FEATURES))
            if evidence is not None and np.isnan(evidence).sum() != values.count(None):
                evidence = None
    if evidence is None or np.isinf(evidence).any():
        raise fault(
            where,
            expected=f"`evidence` with {candidates} rows of {len(FEATURES)} finite numbers or null",
            got=shown(rows),
            advice=_MEND,
        )
    return evidence


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _info(folder: Path) -> dict[str, Any]:
    path = folder / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise fault(str(path), expected="a JSON object", got=str(error), advice="make the lists again") from error
    if not isinstance(info, dict):
        raise fault(str(path), expected="a JSON object", got=shown(info), advice="make the lists again")
    return info


def _whole_lines(path: Path) -> set[str]:
    """Query ids of what an interrupted writer left; half a line at the end goes."""
    if not path.is_file():
        return set()
    done: set[str] = set()
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                done.add(str(json.loads(line)["query_id"]))
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
    with path.open("r+b") as file:
        file.truncate(end)
    return done
