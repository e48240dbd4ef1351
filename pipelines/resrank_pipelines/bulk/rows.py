# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The rows of a corpus's files, one after the other, from any position on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resrank_pipelines.lines import at, decoded, fault, json_object, raw_lines

from .sources import CorpusFile

_PARQUET_ROWS = 256  # in memory as Python objects at a time


@dataclass(frozen=True)
class Position:
    """
    How far a corpus was read.

    :param file: index of the file.
    :param row: of the last row that was read: its line, or in a Parquet file its number from 1; 0: none yet.
    :param offset: where the next line begins, in bytes; 0 in a Parquet file.
    :param consumed: bytes of all files so far.
    """

    file: int = 0
    row: int = 0
    offset: int = 0
    consumed: int = 0


@dataclass(frozen=True)
class Row:
    """
    A row, or why it is none.

    :param end: the position after it.
    :param fields: its values; `None` when it is damaged.
    :param damage: what is wrong with it, with file and line.
    """

    end: Position
    fields: dict[str, Any] | None = None
    damage: ValueError | None = None


def rows(files: list[CorpusFile], names: tuple[str, ...], start: Position) -> Iterator[Row]:
    """
    Read files row by row, in bounded memory. Blank lines are left out.

    :param files: of the corpus.
    :param names: of the fields that are needed.
    :param start: the position after the last row that is not wanted again.
    :returns: an iterator over rows.
    :raises OSError: when a file cannot be read.
    :raises ValueError: for a file that is damaged as a whole.
    :raises ImportError: when there are Parquet files and no pyarrow.
    """
    before = sum(file.size for file in files[: start.file])
    for index, file in enumerate(files[start.file :], start.file):
        begin = start if index == start.file else Position(index)
        read = _parquet_rows if file.kind == "parquet" else _json_rows
        yield from read(file, names, begin, before)
        before += file.size


def _json_rows(file: CorpusFile, _names: tuple[str, ...], start: Position, before: int) -> Iterator[Row]:
    for line in raw_lines(file.path, offset=start.offset, number=start.row):
        end = Position(start.file, line.number, line.end, before + line.consumed)
        try:
            text = decoded(file.path, line)
            if text.strip():
                yield Row(end, fields=json_object(at(file.path, line.number), text))
        except ValueError as damage:
            yield Row(end, damage=damage)


def _parquet_rows(file: CorpusFile, names: tuple[str, ...], start: Position, before: int) -> Iterator[Row]:
    pa, table = _open_parquet(file.path)
    columns = [name for name in table.schema_arrow.names if name in names]
    total = table.metadata.num_rows
    first = 0
    try:
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if first + count > start.row:
                number = first
                for part in table.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=columns):
                    for fields in part.to_pylist():
                        number += 1
                        if number > start.row:
                            consumed = before + file.size * number // total
                            yield Row(Position(start.file, number, 0, consumed), fields=fields)
            first += count
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file.path, error) from error
    finally:
        table.close()


def _open_parquet(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        msg = f"reading {path.name} needs pyarrow: pip install 'resrank[parquet]'"
        raise ImportError(msg) from error
    try:
        return pa, ParquetFile(path, memory_map=False, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return fault(str(path), expected="a whole Parquet file", got=f"a damaged one ({error})", advice="make it again")
