# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the loaders share: text files read line by line, faults that name file and line, and the final checks."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

from .collection import Collection, Passage

logger = logging.getLogger(__name__)

MissingPassages = Literal["error", "keep"]
DuplicateIds = Literal["error", "first"]

_GZIP_MAGIC = b"\x1f\x8b"


def at(path: Path, line: int) -> str:
    """
    Name a line of a file.

    :param path: the file.
    :param line: its number, from 1.
    :returns: `<file>:<line>`.
    """
    return f"{path}:{line}"


def fault(where: str, *, expected: str, got: str, advice: str) -> ValueError:
    """
    Word an error of a file in the one way that all loaders use.

    :param where: the file, or `<file>:<line>`.
    :param expected: what should be there.
    :param got: what is there.
    :param advice: what to do.
    :returns: the error, to be raised.
    """
    return ValueError(f"{where}: expected {expected}, got {got}; {advice}")


def shown(value: Any) -> str:
    """
    Quote a value in a message.

    :param value: any value.
    :returns: its `repr`, at most 80 characters of it.
    """
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    Read a text file, plain or gzip (told by its first bytes, whatever its name), in UTF-8.

    :param path: the file.
    :returns: an iterator over (line number from 1, line without its end); blank lines are left out.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a line that is not UTF-8, a damaged gzip file, and a file without any line.
    """
    number = 0
    found = False
    with _open(path) as file:
        lines = iter(file)
        while True:
            try:
                raw = next(lines, None)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise fault(
                    at(path, number + 1),
                    expected="a whole gzip file",
                    got=f"a damaged one ({error})",
                    advice="fetch or make it again",
                ) from error
            if raw is None:
                break
            number += 1
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise fault(
                    at(path, number),
                    expected="UTF-8",
                    got=f"the byte 0x{raw[error.start]:02x} at position {error.start} of the line",
                    advice="convert the file to UTF-8",
                ) from error
            if number == 1:
                line = line.removeprefix("\ufeff")
            line = line.rstrip("\r\n")
            if line.strip(" "):
                found = True
                yield number, line
    if not found:
        raise fault(str(path), expected="at least one line", got="an empty file", advice="fetch or make it again")


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Read a JSONL file.

    :param path: the file.
    :returns: an iterator over (line number, object).
    :raises OSError: when the file cannot be opened.
    :raises ValueError: as `read_lines`, and for a line that holds no JSON object.
    """
    for number, line in read_lines(path):
        yield number, json_object(at(path, number), line)


def json_object(where: str, line: str) -> dict[str, Any]:
    """
    Parse a line of a JSONL file.

    :param where: `<file>:<line>`.
    :param line: its text.
    :returns: the object.
    :raises ValueError: when it holds none.
    """
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise fault(
            where, expected="a JSON object", got=f"{shown(line)} ({error})", advice="write one object a line"
        ) from error
    if not isinstance(row, dict):
        raise fault(where, expected="a JSON object", got=shown(row), advice="write one object a line")
    return row


def text_field(where: str, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """
    Get a text from a row.

    :param where: `<file>:<line>` of the row.
    :param row: the row.
    :param names: what the field may be called; the first that is there counts.
    :returns: the text.
    :raises ValueError: when none of the names is there, or the value is no text.
    """
    wanted = " or ".join(f"`{name}`" for name in names)
    for name in names:
        if name in row:
            if isinstance(row[name], str):
                return _unicode(where, cast(str, row[name]))
            raise fault(
                where,
                expected=f"a text as `{name}`",
                got=f"{shown(row[name])} ({type(row[name]).__name__})",
                advice="write it as a JSON string",
            )
    fields = ", ".join(f"`{name}`" for name in row) or "none"
    raise fault(where, expected=f"the field {wanted}", got=f"the fields {fields}", advice="add the field")


def id_field(where: str, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """
    Get the id of a row.

    :param where: `<file>:<line>` of the row.
    :param row: the row.
    :param names: what the field may be called; the first that is there counts.
    :returns: the id.
    :raises ValueError: as `text_field`, and for an empty id.
    """
    id_ = text_field(where, row, names)
    if not id_.strip():
        raise fault(where, expected="an id", got=shown(id_), advice="give each row an id of its own")
    if id_.split() != [id_]:
        raise fault(
            where,
            expected="an id without whitespace, which separates the columns of runs and qrels",
            got=shown(id_),
            advice="rename it, in the qrels too",
        )
    return id_


def _unicode(where: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise fault(
            where,
            expected="valid Unicode",
            got=f"half of a surrogate pair at character {error.start}",
            advice="repair the text",
        ) from error
    return text


def check_query(where: str, id_: str, text: str) -> None:
    """
    Refuse a query without text.

    :param where: `<file>:<line>` of the query.
    :param id_: of the query.
    :param text: of the query.
    :raises ValueError: when the text is blank.
    """
    if not text.strip():
        raise fault(
            where,
            expected=f"the text of query {shown(id_)}",
            got=f"the blank text {shown(text)}",
            advice="write the query, or take it out of queries and qrels",
        )


def duplicate(where: str, first: str, what: str) -> ValueError:
    """
    Word the error of two rows that claim the same.

    :param where: `<file>:<line>` of the second row.
    :param first: `<file>:<line>` of the first row.
    :param what: what both claim, e.g. `passage id 'x'`.
    :returns: the error, to be raised.
    """
    return fault(where, expected=f"each {what} once", got=f"it again after {first}", advice="keep one of the two")


def check_duplicate_ids(value: str) -> None:
    """
    Check an option.

    :param value: should be one of `DuplicateIds`.
    :raises ValueError: for another value.
    """
    if value not in get_args(DuplicateIds):
        msg = f"duplicate_ids must be 'error' or 'first', got {value!r}"
        raise ValueError(msg)


def make_collection(
    *,
    name: str,
    split: str,
    source: str,
    passages: Mapping[str, Passage] | None,
    texts: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    judged_at: Callable[[str, str | None], str],
    texts_name: str,
    passages_name: str,
    missing_passages: MissingPassages,
) -> Collection:
    """
    Put the parts together, once it is sure that they belong together.

    :param name: of the collection.
    :param split: of the qrels.
    :param source: where the collection came from, as the user named it.
    :param passages: by id; `None` when there are no texts, which skips their check.
    :param texts: of all queries by id; those without qrels are left out.
    :param qrels: grade by passage id, by query id.
    :param judged_at: where the first judgment of a query, or of a query and a passage, is written.
    :param texts_name: where the queries come from, for messages.
    :param passages_name: where the passages come from, for messages.
    :param missing_passages: `"error"` refuses judgments of unknown passages; `"keep"` keeps them with a warning, as
        passages that no system can find.
    :returns: the collection.
    :raises ValueError: when a judged query or passage is unknown, or `missing_passages` is something else.
    """
    check_missing_passages(missing_passages)
    unknown = [query for query in qrels if query not in texts]
    if unknown:
        more = f" and {len(unknown) - 1} more ({_listed(unknown[1:])})" if len(unknown) > 1 else ""
        raise fault(
            judged_at(unknown[0], None),
            expected=f"the id of a query of {texts_name}",
            got=f"{shown(unknown[0])}{more}",
            advice="add the query, or take its judgments out",
        )
    if passages is not None:
        _check_passages(
            qrels=qrels,
            passages=passages,
            judged_at=judged_at,
            passages_name=passages_name,
            missing_passages=missing_passages,
            source=source,
        )
    return Collection(
        name=name,
        split=split,
        passages=passages if passages is not None else {},
        queries={id_: text for id_, text in texts.items() if id_ in qrels},
        qrels=qrels,
        source=source,
    )


def check_missing_passages(value: str) -> None:
    """
    Refuse an unknown choice.

    :param value: what the user gave as `missing_passages`.
    :raises ValueError: when it is neither `"error"` nor `"keep"`.
    """
    if value not in get_args(MissingPassages):
        msg = f"missing_passages: expected 'error' or 'keep', got {value!r}; choose one of the two"
        raise ValueError(msg)


def _check_passages(
    *,
    qrels: Mapping[str, Mapping[str, int]],
    passages: Mapping[str, Passage],
    judged_at: Callable[[str, str | None], str],
    passages_name: str,
    missing_passages: MissingPassages,
    source: str,
) -> None:
    missing = [(query, passage) for query, grades in qrels.items() for passage in grades if passage not in passages]
    if not missing:
        return
    if missing_passages == "error":
        query, passage = missing[0]
        more = f" and {len(missing) - 1} more such judgments" if len(missing) > 1 else ""
        raise fault(
            judged_at(query, passage),
            expected=f"the id of a passage of {passages_name}",
            got=f"{shown(passage)}{more}",
            advice="fetch the passages again, or, when the source is known to lack them, pass --missing-passages keep",
        )
    relevant = sum(qrels[query][passage] > 0 for query, passage in missing)
    logger.warning(
        "%s: %d judgments, %d of them relevant, name passages that %s lacks; they count as never found",
        source,
        len(missing),
        relevant,
        passages_name,
    )


def _listed(ids: list[str]) -> str:
    return ", ".join(shown(id_) for id_ in ids[:5]) + (", ..." if len(ids) > 5 else "")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    # GzipFile hands out lines several times slower than the buffer over it does.
    return cast(BinaryIO, io.BufferedReader(gzip.open(path))) if zipped else path.open("rb")
