# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
`resrank-train convert`: training lists from files of other projects, and from users' own.

All formats are JSONL, plain or gzip: one query with its passages a line.

`jsonl`, for users:

```json
{"query": "who …", "passages": ["text", {"id": "p7", "title": "T", "text": "…"}], "query_id": "q1",
 "positives": [1], "ranking": [1, 0], "evidence": [[0.9, 0.4, 0.8, 1.0, 0.5], [1.0, null, 0.4, 0.5, 0.0]]}
```

`query` and `passages` must be there. `positives` are indices of relevant passages; `grades` in their place hold a
number or null a passage. `ranking`: indices, best first, as a teacher ordered them. `evidence`: as
`resrank_training.lists` describes. A key that is none of these is an error, so that a misspelt one is not lost.

`e2rank`: the training file of E2Rank (arXiv 2510.22733; Alibaba-NLP/E2Rank, `src/data.py`): `query`, `document` (list
of texts), `ranking` (positions from 1, best first, all of them). `source` and other keys are not read.

`pe-rank`: the second training file of PE-Rank (arXiv 2406.14848; liuqi6777/pe_rank, `src/data.py`): `extra_texts`
(passages), `ranking` (positions from 0 or from 1, best first, all of them), and a chat under `messages_wo_content`,
`messages_w_content` or `messages`. The query is only inside the chat's last user message, after `Search Query:` and
before the line that begins with `Rank the`, as that project's prompts (`src/ranker.py`) have it.

Neither project documents its file: these two layouts are what their training code reads.

A passage without an id is called by the hash of its title and text, so that equal ones are kept once in all lists. What
occurs twice in one list is merged: its best place, its highest grade and the evidence of the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from resrank.sources import sha256_of
from resrank_evals.collection import Passage
from resrank_evals.lines import check_query, id_field
from resrank_evals.results import folder_name
from resrank_pipelines.indexing import Progress
from resrank_pipelines.lines import at, fault, json_object, read_lines, shown, text_field

from .lists import ListWriter, TrainingList, finished, parse_list

Format = Literal["pe-rank", "e2rank", "jsonl"]
BadRows = Literal["error", "skip"]

_KEYS = ("query", "passages", "query_id", "grades", "positives", "ranking", "evidence")
_PASSAGE_KEYS = ("id", "title", "text")
_CHATS = ("messages_wo_content", "messages_w_content", "messages")
_QUERY = re.compile(r"\s*(?P<query>.*?)\.?\s*\n\s*Rank the \d+ ", re.DOTALL)
_BEFORE_QUERY = "Search Query:"
_MEND = "correct the line, or leave such lines out with --bad-rows skip"
_ROWS_PER_WRITE = 1_000


@dataclass(frozen=True)
class Converted:
    """
    What came of a file.

    :param folder: with the lists, for `read_lists`.
    :param lists: how many.
    :param passages: how many different ones.
    :param merged: passages that occurred twice in one list.
    :param bad_rows: lines that were left out, each with file, line and reason; none when the lists were there already.
    :param bad: how many lines were left out.
    :param kept: whether the lists were there already.
    """

    folder: Path
    lists: int
    passages: int
    merged: int
    bad: int
    kept: bool
    bad_rows: tuple[str, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """
        For programs.

        :returns: plain values, without the reasons.
        """
        return {
            "folder": str(self.folder),
            "kept": self.kept,
            "lists": self.lists,
            "passages": self.passages,
            "merged_passages": self.merged,
            "bad_rows": self.bad,
        }


def convert(
    path: Path,
    form: Format,
    *,
    out: Path,
    name: str | None = None,
    bad_rows: BadRows = "error",
    progress: Progress,
) -> Converted:
    """
    Make training lists of a file. Killed and called again, it goes on where it stopped.

    :param path: the file.
    :param form: its format.
    :param out: the lists go to a folder in it. One that was made of the same file is kept.
    :param name: of that folder; `None` takes the file's, without its endings.
    :param bad_rows: lines that are not in the format: `error` stops at the first, `skip` leaves them out.
    :param progress: told (what, done, total).
    :returns: what was made.
    :raises OSError: when the file cannot be read.
    :raises ValueError: for a bad line, with file and line; when no line is left; when the folder holds other lists.
    """
    for option, value, known in (("form", form, get_args(Format)), ("bad_rows", bad_rows, get_args(BadRows))):
        if value not in known:
            msg = f"{option} must be one of {', '.join(known)}, got {value!r}"
            raise ValueError(msg)
    called = path.name.removesuffix(".gz").removesuffix(".jsonl") if name is None else name
    folder = out / folder_name(called)
    settings = {"step": "convert", "format": form, "source_sha256": sha256_of(path), "on_bad_rows": bad_rows}
    info = finished(folder, settings)
    if info is not None:
        return Converted(folder, info["lists"], info["passages"], info["merged_passages"], info["bad_rows"], kept=True)
    rows = _Rows(path, form, skip=bad_rows == "skip")
    with ListWriter(folder, settings) as writer:
        try:
            _write(rows, writer, lambda: progress(f"Converting {called}", rows.count, 0))
        except ValueError:
            writer.discard()  # a corrected file is another one
            raise
        writer.finish(rows.passages, {"merged_passages": rows.merged, "bad_rows": len(rows.bad)})
    return Converted(
        folder, len(writer.done), len(rows.passages), rows.merged, len(rows.bad), kept=False, bad_rows=tuple(rows.bad)
    )


def _write(rows: _Rows, writer: ListWriter, written: Callable[[], None]) -> None:
    fresh: list[TrainingList] = []
    for each in rows:
        if each.query_id not in writer.done:
            fresh.append(each)
        if len(fresh) >= _ROWS_PER_WRITE:
            writer.add(fresh)
            fresh = []
            written()
    writer.add(fresh)
    written()
    if not writer.done:
        msg = f"no line is in the format that was asked for; the first fault: {rows.bad[0]}"
        raise ValueError(msg)


class _Rows:
    """The lists of a file, one after the other, and what they name."""

    def __init__(self, path: Path, form: Format, *, skip: bool) -> None:
        self.passages: dict[str, Passage] = {}
        self.merged = 0
        self.bad: list[str] = []
        self.count = 0
        self._path = path
        self._parse = _PARSERS[form]
        self._skip = skip

    def __iter__(self) -> Iterator[TrainingList]:
        ids: set[str] = set()
        for number, line in read_lines(self._path):
            where = at(self._path, number)
            try:
                row = self._parse(where, json_object(where, line))
                found, passages, merged = _finished_row(where, f"line-{number}", row)
                if found.query_id in ids:
                    raise fault(where, expected="each query id once", got=f"{found.query_id!r} again", advice=_MEND)
                for id_, passage in passages.items():
                    known = self.passages.get(id_, passage)
                    if known != passage:
                        raise fault(
                            where,
                            expected=f"the text that {id_!r} had in an earlier line",
                            got=shown(passage.content),
                            advice=_MEND,
                        )
            except ValueError as error:
                if not self._skip:
                    raise
                self.bad.append(str(error))
                continue
            ids.add(found.query_id)
            self.passages.update(passages)
            self.merged += merged
            self.count += 1
            yield found


@dataclass
class _Row:
    """What all formats have; `grades`, `ranking` and `evidence` are not checked yet."""

    query: str
    passages: list[tuple[str, Passage]]
    query_id: str | None = None
    grades: Any = None
    ranking: Any = None
    evidence: Any = None


def _jsonl(where: str, row: Mapping[str, Any]) -> _Row:
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise fault(where, expected=f"the keys {', '.join(_KEYS)}", got=", ".join(unknown), advice=_MEND)
    passages = [
        _passage(where, f"passages[{position}]", value) for position, value in enumerate(_list(where, row, "passages"))
    ]
    grades = row.get("grades")
    if row.get("positives") is not None:
        if grades is not None:
            raise fault(where, expected="`grades` or `positives`", got="both", advice=_MEND)
        positives = _positions(where, "positives", row["positives"], len(passages))
        grades = [1 if position in positives else None for position in range(len(passages))]
    return _Row(
        text_field(where, row, ("query",)),
        passages,
        None if row.get("query_id") is None else id_field(where, row, ("query_id",)),
        grades,
        row.get("ranking"),
        row.get("evidence"),
    )


def _e2rank(where: str, row: Mapping[str, Any]) -> _Row:
    texts = _list(where, row, "document")
    passages = [_passage(where, f"document[{position}]", text, plain=True) for position, text in enumerate(texts)]
    ranking = _permutation(where, row, len(passages), first=(1,))
    return _Row(text_field(where, row, ("query",)), passages, ranking=ranking)


def _pe_rank(where: str, row: Mapping[str, Any]) -> _Row:
    texts = _list(where, row, "extra_texts")
    passages = [_passage(where, f"extra_texts[{position}]", text, plain=True) for position, text in enumerate(texts)]
    ranking = _permutation(where, row, len(passages), first=(0, 1))
    return _Row(_chat_query(where, row), passages, ranking=ranking)


_PARSERS: dict[Format, Callable[[str, Mapping[str, Any]], _Row]] = {
    "pe-rank": _pe_rank,
    "e2rank": _e2rank,
    "jsonl": _jsonl,
}


def _list(where: str, row: Mapping[str, Any], key: str) -> list[Any]:
    values = row.get(key)
    if not isinstance(values, list) or not values:
        raise fault(where, expected=f"a list of passages as `{key}`", got=shown(values), advice=_MEND)
    return values


def _passage(where: str, name: str, value: Any, *, plain: bool = False) -> tuple[str, Passage]:
    """Id and content of a passage."""
    own = None
    if isinstance(value, dict) and not plain:
        unknown = [key for key in value if key not in _PASSAGE_KEYS]
        if unknown:
            expected = f"the keys {', '.join(_PASSAGE_KEYS)} in `{name}`"
            raise fault(where, expected=expected, got=", ".join(unknown), advice=_MEND)
        title = "" if value.get("title") is None else text_field(where, value, ("title",))
        passage = Passage(text_field(where, value, ("text",)), title)
        own = None if value.get("id") is None else id_field(where, value, ("id",))
    else:
        passage = Passage(text_field(where, {name: value}, (name,)))
    if not passage.content.strip():
        raise fault(where, expected=f"a text as `{name}`", got="a blank one", advice=_MEND)
    if own is None:
        own = hashlib.sha256(f"{passage.title}\0{passage.text}".encode()).hexdigest()[:16]
    return own, passage


def _positions(where: str, key: str, values: Any, count: int) -> list[int]:
    whole = isinstance(values, list) and all(isinstance(x, int) and not isinstance(x, bool) for x in values)
    if not whole or len(set(values)) < len(values) or not all(0 <= x < count for x in values):
        expected = f"`{key}` as different indices from 0 to {count - 1}"
        raise fault(where, expected=expected, got=shown(values), advice=_MEND)
    return list(values)


def _permutation(where: str, row: Mapping[str, Any], count: int, *, first: tuple[int, ...]) -> list[int]:
    """A ranking of all passages as indices from 0; its smallest number tells where it counts from."""
    values = row.get("ranking")
    if isinstance(values, list) and values and all(type(x) is int for x in values) and min(values) in first:
        shifted = [x - min(values) for x in values]
        if sorted(shifted) == list(range(count)):
            return shifted
    starts = " or ".join(f"{start} to {count - 1 + start}" for start in first)
    raise fault(where, expected=f"`ranking` with each position from {starts} once", got=shown(values), advice=_MEND)


def _chat_query(where: str, row: Mapping[str, Any]) -> str:
    for key in _CHATS:
        messages = row.get(key)
        if not isinstance(messages, list):
            continue
        asked = [each for each in messages if isinstance(each, dict) and each.get("role") == "user"]
        if asked:
            # The last mention: passages that stand in the prompt may hold the same words.
            _, mark, rest = text_field(where, asked[-1], ("content",)).rpartition(_BEFORE_QUERY)
            found = _QUERY.match(rest) if mark else None
            if found:
                return found["query"]
    raise fault(
        where,
        expected=f"a user message with {_BEFORE_QUERY!r} and 'Rank the N' after it in {' or '.join(_CHATS)}",
        got=f"the fields {', '.join(row) or 'none'}",
        advice=_MEND,
    )


def _finished_row(where: str, default_id: str, row: _Row) -> tuple[TrainingList, dict[str, Passage], int]:
    """Check a row as a line of training lists, and merge what it holds twice."""
    check_query(where, default_id if row.query_id is None else row.query_id, row.query)
    count = len(row.passages)
    values: dict[str, Any] = {
        "query_id": default_id if row.query_id is None else row.query_id,
        "query": row.query,
        "passages": [str(position) for position in range(count)],
        "grades": [None] * count if row.grades is None else row.grades,
    }
    for key in ("evidence", "ranking"):
        if getattr(row, key) is not None:
            values[key] = getattr(row, key)
    whole = parse_list(where, values)
    places: dict[str, int] = {}
    passages: dict[str, Passage] = {}
    for id_, passage in row.passages:
        places.setdefault(id_, len(places))
        if passages.setdefault(id_, passage) != passage:
            raise fault(where, expected=f"one text for {id_!r}", got="two", advice=_MEND)
    target = [places[id_] for id_, _ in row.passages]
    grades: list[int | None] = [None] * len(places)
    for place, grade in zip(target, whole.grades, strict=True):
        known = grades[place]
        grades[place] = grade if known is None else known if grade is None else max(known, grade)
    evidence = None if whole.evidence is None else whole.evidence[[target.index(place) for place in places.values()]]
    ranking = None if whole.ranking is None else tuple(dict.fromkeys(target[i] for i in whole.ranking))
    merged = TrainingList(whole.query_id, whole.query, tuple(places), tuple(grades), evidence, ranking)
    return merged, passages, count - len(places)
