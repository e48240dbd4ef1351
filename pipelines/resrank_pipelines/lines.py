# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Text files read line by line, plain or gzip, and faults that name file and line."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

# Far above any passage: a file without line ends must not be read into memory whole.
MAX_LINE_BYTES = 64 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class RawLine:
    """
    A line before anything is known of it.

    :param number: from 1.
    :param raw: its bytes, with its end; only the first `MAX_LINE_BYTES` of a longer one.
    :param end: where the next line begins: bytes from the start of the text, which is unpacked where the file is gzip.
    :param consumed: bytes of the file read so far, packed where the file is.
    """

    number: int
    raw: bytes
    end: int
    consumed: int

    @property
    def is_whole(self) -> bool:
        """
        Whether `raw` is the whole line.

        :returns: false for one that is longer than `MAX_LINE_BYTES`.
        """
        return len(self.raw) <= MAX_LINE_BYTES


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


def raw_lines(path: Path, *, offset: int = 0, number: int = 0) -> Iterator[RawLine]:
    """
    Read the lines of a file, plain or gzip (told by its first bytes, whatever its name), blank ones as well.

    :param path: the file.
    :param offset: where to begin: `end` of the last line that is not wanted again.
    :param number: of that line.
    :returns: an iterator over lines.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a damaged gzip file.
    """
    with path.open("rb") as packed:
        text = _unpacked(packed)
        try:
            text.seek(offset)
            while raw := text.readline(MAX_LINE_BYTES + 1):
                number += 1
                offset += len(raw)
                end = raw
                while len(end) > MAX_LINE_BYTES and not end.endswith(b"\n"):
                    end = text.readline(MAX_LINE_BYTES + 1)
                    offset += len(end)
                yield RawLine(number, raw, offset, offset if text is packed else packed.tell())
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise fault(
                at(path, number + 1),
                expected="a whole gzip file",
                got=f"a damaged one ({error})",
                advice="fetch or make it again",
            ) from error


def decoded(path: Path, line: RawLine) -> str:
    """
    Get the text of a line.

    :param path: its file.
    :param line: from `raw_lines`.
    :returns: the text without the line's end and without a byte order mark.
    :raises ValueError: for a line that is not UTF-8, and one that is too long.
    """
    if not line.is_whole:
        raise fault(
            at(path, line.number),
            expected=f"lines of at most {MAX_LINE_BYTES:,} bytes",
            got="a longer one",
            advice="write one row a line",
        )
    try:
        text = line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault(
            at(path, line.number),
            expected="UTF-8",
            got=f"the byte 0x{line.raw[error.start]:02x} at position {error.start} of the line",
            advice="convert the file to UTF-8",
        ) from error
    return (text.removeprefix("\ufeff") if line.number == 1 else text).rstrip("\r\n")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    Read a text file, plain or gzip (told by its first bytes, whatever its name), in UTF-8.

    :param path: the file.
    :returns: an iterator over (line number from 1, line without its end); blank lines are left out.
    :raises OSError: when the file cannot be opened.
    :raises ValueError: for a line that is not UTF-8, a damaged gzip file, and a file without any line.
    """
    found = False
    for raw in raw_lines(path):
        line = decoded(path, raw)
        if line.strip(" "):
            found = True
            yield raw.number, line
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
                return unicode_text(where, cast(str, row[name]))
            raise fault(
                where,
                expected=f"a text as `{name}`",
                got=f"{shown(row[name])} ({type(row[name]).__name__})",
                advice="write it as a JSON string",
            )
    fields = ", ".join(f"`{name}`" for name in row) or "none"
    raise fault(where, expected=f"the field {wanted}", got=f"the fields {fields}", advice="add the field")


def unicode_text(where: str, text: str) -> str:
    """
    Check a text.

    :param where: `<file>:<line>` of its row.
    :param text: that may hold half of a surrogate pair.
    :returns: the text.
    :raises ValueError: when it does.
    """
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


def _unpacked(file: BinaryIO) -> BinaryIO:
    zipped = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    # GzipFile hands out lines several times slower than the buffer over it does.
    return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=file))) if zipped else file
