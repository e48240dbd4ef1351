# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""TREC files: qrels, topics, passages in one file, and runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resrank_pipelines.lines import at, fault, json_rows, read_lines, shown, text_field

from .collection import Collection, Passage
from .lines import MissingPassages, check_missing_passages, check_query, duplicate, id_field, make_collection

Run = dict[str, list[tuple[str, float]]]

BEIR_HEADER = ("query-id", "corpus-id", "score")
RUN_HEADER = ("query", "document", "rank", "score")

_GRADE = re.compile(r"[+-]?[0-9]{1,9}")
_TAG = re.compile(r"<(/?)(top|head|num|dom|title|desc|smry|narr|con|fac|def|nat|time)\b[^>]*>", re.IGNORECASE)


class _Judgment(NamedTuple):
    line: int
    query: str
    passage: str
    grade: int


class _Result(NamedTuple):
    line: int
    query: str
    passage: str
    score: float


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """
    Read qrels: TREC's four columns `query 0 passage grade`, or BEIR's three with their header.

    :param path: the file, plain or gzip.
    :returns: grade by passage id, by query id, in the order of the file. A grade above 0 is relevant.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a damaged line, and for two lines with different grades; two equal lines count as one.
    """
    return _collect(path, _judgments(path))


def read_beir_qrels(path: Path) -> dict[str, dict[str, int]]:
    """
    Read qrels in BEIR's form alone: `query-id corpus-id score` with this header, tab separated.

    :param path: the file, plain or gzip.
    :returns: as `read_qrels`.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: as `read_qrels`, and when the header is missing.
    """
    number, first = next(read_lines(path))
    if _columns(first) != BEIR_HEADER:
        raise fault(
            at(path, number),
            expected=f"the header {shown(chr(9).join(BEIR_HEADER))}",
            got=shown(first),
            advice="add the header line",
        )
    return read_qrels(path)


def judgment_at(path: Path, query: str, passage: str | None = None) -> str:
    """
    Find a judgment again, for a message.

    :param path: qrels that `read_qrels` has read.
    :param query: id of the query.
    :param passage: id of the passage; `None` for any.
    :returns: `<file>:<line>` of the first such judgment.
    """
    found = (each for each in _judgments(path) if each.query == query and passage in (None, each.passage))
    return at(path, next(found).line)


def read_topics(path: Path) -> dict[str, str]:
    """
    Read queries: lines `id<tab>text`, or TREC topics (`<top> <num> Number: 301 <title> text`).

    Of a topic the title is the query.

    :param path: the file, plain or gzip.
    :returns: text by query id, in the order of the file.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a damaged line or topic, a blank text and a repeated id.
    """
    _, first = next(read_lines(path))
    topics: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, id_, text in _sgml_topics(path) if first.lstrip().startswith("<") else _two_columns(path):
        where = at(path, number)
        if id_ in topics:
            raise duplicate(where, at(path, lines[id_]), f"query id {shown(id_)}")
        check_query(where, id_, text)
        topics[id_] = text
        lines[id_] = number
    return topics


def read_trec_corpus(path: Path) -> dict[str, Passage]:
    """
    Read passages from one file: lines `id<tab>text`, or JSONL.

    A row of JSONL holds the id as `_id`, `id` or `docid`, the text as `text` or `contents`, and may hold a `title`.

    :param path: the file, plain or gzip.
    :returns: passages by id, in the order of the file.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a damaged line and a repeated id.
    """
    _, first = next(read_lines(path))
    rows = _json_passages if first.lstrip().startswith("{") else _tsv_passages
    passages: dict[str, Passage] = {}
    for number, id_, passage in rows(path):
        if id_ in passages:
            earlier = next(line for line, other, _ in rows(path) if other == id_)
            raise duplicate(at(path, number), at(path, earlier), f"passage id {shown(id_)}")
        passages[id_] = passage
    return passages


def load_trec(
    *,
    topics: Path,
    qrels: Path,
    corpus: Path | None = None,
    name: str | None = None,
    split: str = "test",
    missing_passages: MissingPassages = "error",
) -> Collection:
    """
    Put TREC files together to a collection.

    :param topics: for `read_topics`. Topics without judgments are left out.
    :param qrels: for `read_qrels`.
    :param corpus: for `read_trec_corpus`; `None` leaves the passages empty, which is enough to measure given runs.
    :param name: of the collection; `None` takes the name of the qrels file without its last suffix.
    :param split: what the qrels are called.
    :param missing_passages: what to do with judgments of passages that the corpus lacks: `"error"`, or `"keep"` them
        as passages that no system can find, with a warning.
    :returns: the collection.
    :raises OSError: when a file cannot be opened.
    :raises ValueError: for a damaged file, and when a judged query or passage is unknown, with file and line.
    """
    check_missing_passages(missing_passages)
    source = f"trec:topics={topics},qrels={qrels}" + (f",corpus={corpus}" if corpus is not None else "")
    return make_collection(
        name=default_name(qrels) if name is None else name,
        split=split,
        source=source if name is None else f"{source},name={name}",
        passages=read_trec_corpus(corpus) if corpus is not None else None,
        texts=read_topics(topics),
        qrels=read_qrels(qrels),
        judged_at=lambda query, passage: judgment_at(qrels, query, passage),
        texts_name=str(topics),
        passages_name=str(corpus),
        missing_passages=missing_passages,
    )


def default_name(qrels: Path) -> str:
    """
    Name a collection after its qrels.

    :param qrels: the file.
    :returns: its name without `.gz` and without the last suffix.
    """
    return Path(qrels.name.removesuffix(".gz")).stem


def read_run(path: Path) -> Run:
    """
    Read what a system found.

    Two forms: TREC's six columns `query Q0 passage rank score tag`, separated by blanks, and four columns `query
    passage rank score`, tab separated, with or without the header `query document rank score`.

    The scores decide the order, as in trec_eval: the rank column is not read. Equal scores are ordered by passage id,
    as everywhere in the project (trec_eval takes them in the reverse order of ids).

    :param path: the file, plain or gzip.
    :returns: (passage id, score) by query id, best first: by score, highest first, then by passage id.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a wrong number of columns, a score that is no finite number, and a passage that is there
        twice for a query, with file and line.
    """
    found: dict[str, dict[str, float]] = {}
    for each in _results(path):
        scores = found.setdefault(each.query, {})
        if each.passage in scores:
            earlier = next(e.line for e in _results(path) if (e.query, e.passage) == (each.query, each.passage))
            what = f"passage {shown(each.passage)} of query {shown(each.query)}"
            raise duplicate(at(path, each.line), at(path, earlier), what)
        scores[each.passage] = each.score
    if not found:
        raise fault(str(path), expected="results", got="a header alone", advice="make the run again")
    return {query: _ranked(list(scores.items())) for query, scores in found.items()}


def write_run(run: Mapping[str, Sequence[tuple[str, float]]], tag: str) -> str:
    """
    Write a run in TREC's six columns.

    The scores keep every bit: `read_run` gives back what went in, ordered as it orders. A query without results leaves
    no line.

    :param run: (passage id, score) by query id, in any order.
    :param tag: name of the system, without whitespace.
    :returns: the text of the file, ranks from 1.
    :raises ValueError: for an id or tag that is empty or holds whitespace, which separates the columns of this format;
        for a score that is no finite number; for a passage that is there twice for a query.
    """
    _check_word("tag", tag)
    lines: list[str] = []
    for query, results in run.items():
        _check_word("query id", query)
        seen: set[str] = set()
        for rank, (passage, score) in enumerate(_ranked(results), start=1):
            _check_word("passage id", passage)
            if not math.isfinite(score):
                msg = f"query {query!r}, passage {passage!r}: expected a finite score, got {score!r}; leave it out"
                raise ValueError(msg)
            if passage in seen:
                msg = f"query {query!r}: expected each passage once, got {passage!r} twice; keep one of the two"
                raise ValueError(msg)
            seen.add(passage)
            # float(): a NumPy number would write its type too.
            lines.append(f"{query} Q0 {passage} {rank} {float(score)!r} {tag}\n")
    return "".join(lines)


def _ranked(results: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(results, key=lambda result: (-result[1], result[0]))


def _check_word(what: str, text: str) -> None:
    # A byte order mark at the start of a file is not read as text.
    if text.split() != [text] or text.startswith("\ufeff"):
        msg = (
            f"{what}: expected a word without whitespace, got {shown(text)}; "
            "whitespace separates the columns of a TREC run, rename it"
        )
        raise ValueError(msg)


def _collect(path: Path, judgments: Iterator[_Judgment]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, query, passage, grade in judgments:
        first = qrels.setdefault(query, {}).setdefault(passage, grade)
        if first != grade:
            raise fault(
                at(path, line),
                expected=f"the grade {first} of {judgment_at(path, query, passage)} again",
                got=f"{grade} for query {shown(query)} and passage {shown(passage)}",
                advice="keep one of the two",
            )
    if not qrels:
        raise fault(str(path), expected="judgments", got="a header alone", advice="fetch or make it again")
    return qrels


def _judgments(path: Path) -> Iterator[_Judgment]:
    lines = read_lines(path)
    number, line = next(lines)
    beir = _columns(line) == BEIR_HEADER
    if not beir:
        yield _judgment(path, number, line, beir=False)
    for number, line in lines:
        yield _judgment(path, number, line, beir=beir)


def _judgment(path: Path, number: int, line: str, *, beir: bool) -> _Judgment:
    where = at(path, number)
    columns = _columns(line) if beir else tuple(line.split())
    form = f"3 tab separated columns ({' '.join(BEIR_HEADER)})" if beir else "4 columns (query 0 passage grade)"
    if len(columns) != (3 if beir else 4) or not all(columns):
        advice = "write the line anew" if beir else "write the line anew, or add BEIR's header to BEIR's columns"
        raise fault(where, expected=form, got=f"{len(columns)}: {shown(line)}", advice=advice)
    if not _GRADE.fullmatch(columns[-1]):
        raise fault(where, expected="a whole number as grade", got=shown(columns[-1]), advice="write 0, 1, 2, ...")
    return _Judgment(number, columns[0], columns[-2], int(columns[-1]))


def _columns(line: str) -> tuple[str, ...]:
    return tuple(column.strip() for column in line.split("\t"))


def _two_columns(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in read_lines(path):
        columns = _columns(line)
        if len(columns) != 2 or not columns[0]:
            raise fault(
                at(path, number),
                expected="2 tab separated columns (id text)",
                got=f"{len(columns)}: {shown(line)}",
                advice="write the id, a tab, and the text without tabs",
            )
        yield number, columns[0], columns[1]


def _sgml_topics(path: Path) -> Iterator[tuple[int, str, str]]:
    topic: dict[str, str] | None = None
    reading: str | None = None
    start = 0
    for number, line in read_lines(path):
        position = 0
        for tag in [*_TAG.finditer(line), None]:
            if topic is not None and reading is not None:
                topic[reading] = f"{topic.get(reading, '')} {line[position : tag.start() if tag else None]}"
            if tag is None:
                continue
            position = tag.end()
            name = tag[2].lower()
            reading = None if tag[1] else name
            if name == "top":
                if topic is not None:
                    yield start, *_topic(at(path, start), topic)
                topic, reading = (None if tag[1] else {}), None
                start = number
    if topic is not None:
        yield start, *_topic(at(path, start), topic)
    if start == 0:
        raise fault(
            str(path),
            expected="topics as `<top> <num> Number: 1 <title> text </top>`",
            got="no `<top>`",
            advice="convert other markup to lines of id, tab and text",
        )


def _topic(where: str, topic: Mapping[str, str]) -> tuple[str, str]:
    id_ = re.sub(r"^\s*number\s*:", "", topic.get("num", ""), flags=re.IGNORECASE).strip()
    if not id_ or "title" not in topic:
        lacking = "`<title>`" if id_ else "`<num>`"
        raise fault(
            where, expected="a topic with `<num>` and `<title>`", got=f"one without {lacking}", advice="complete it"
        )
    title = re.sub(r"^\s*topic\s*:", "", topic["title"], flags=re.IGNORECASE)
    return id_, " ".join(title.split())


def _json_passages(path: Path) -> Iterator[tuple[int, str, Passage]]:
    for number, row in json_rows(path):
        where = at(path, number)
        id_ = id_field(where, row, ("_id", "id", "docid"))
        title = "" if row.get("title") is None else text_field(where, row, ("title",))
        yield number, id_, Passage(text=text_field(where, row, ("text", "contents")), title=title)


def _tsv_passages(path: Path) -> Iterator[tuple[int, str, Passage]]:
    for number, id_, text in _two_columns(path):
        yield number, id_, Passage(text=text)


def _results(path: Path) -> Iterator[_Result]:
    table: bool | None = None
    for number, line in read_lines(path):
        where = at(path, number)
        cells = _columns(line)
        if table is None:
            table = len(cells) == 4
            if cells == RUN_HEADER:
                continue
        columns = cells if table else tuple(line.split())
        if len(columns) != (4 if table else 6) or not all(columns):
            form = "4 tab separated columns (query document rank score)" if table else "6 columns"
            advice = "write a line as `query Q0 passage rank score tag`, or all lines in the four-column form"
            raise fault(where, expected=form, got=f"{len(columns)}: {shown(line)}", advice=advice)
        query, passage = columns[0], columns[1 if table else 2]
        yield _Result(number, query, passage, _score(where, columns[3 if table else 4]))


def _score(where: str, text: str) -> float:
    try:
        score = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise fault(where, expected="a finite number as score", got=shown(text), advice="make the run again")
    return score
