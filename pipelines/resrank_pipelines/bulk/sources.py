# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which files a corpus is made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resrank_pipelines.lines import fault

JSONL = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
PARQUET = (".parquet",)
CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")

Kind = Literal["jsonl", "parquet"]


@dataclass(frozen=True)
class CorpusFile:
    """
    A file of passages.

    :param path: absolute.
    :param kind: of the file.
    :param size: in bytes.
    :param modified_ns: when it was last changed.
    """

    path: Path
    kind: Kind
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> CorpusFile:
        """
        Look at a file.

        :param path: a regular file.
        :returns: what it is, by its name; anything but Parquet is read as JSONL, plain or gzip.
        """
        status = path.stat()
        kind: Kind = "parquet" if path.name.lower().endswith(PARQUET) else "jsonl"
        return cls(path, kind, status.st_size, status.st_mtime_ns)


def corpus_files(sources: list[Path]) -> list[CorpusFile]:
    """
    Find the files of a corpus.

    :param sources: JSONL (plain or gzip) and Parquet files; folders in BEIR layout, of which `corpus.jsonl` is read;
        and other folders, of which all JSONL and Parquet files are read, in the order of their names.
    :returns: files in the given order, each once.
    :raises FileNotFoundError: when a source is not there.
    :raises ValueError: when a source is neither, or a folder holds no such file.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(os.path.abspath(os.path.expanduser(source)))
        if path.is_dir():
            found.update(dict.fromkeys(_in_folder(path)))
        elif path.is_file():
            if not path.name.lower().endswith((*JSONL, *PARQUET)):
                raise fault(
                    str(source),
                    expected=f"a corpus ({', '.join((*JSONL, *PARQUET))}, or a folder)",
                    got="a file of another kind",
                    advice="files of text are indexed by `resrank index`",
                )
            found[path] = None
        elif path.exists():
            raise fault(str(source), expected="a regular file or a folder", got="neither", advice="write it to a file")
        else:
            msg = f"{source}: no such file or folder"
            raise FileNotFoundError(msg)
    return [CorpusFile.of(path) for path in found]


def _in_folder(folder: Path) -> list[Path]:
    corpora = [folder / name for name in CORPUS if (folder / name).is_file()]
    if len(corpora) > 1:
        msg = f"{folder}: expected one of {' and '.join(CORPUS)}, got both; move one of them elsewhere, or name one"
        raise ValueError(msg)
    inside = corpora or sorted(
        path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith((*JSONL, *PARQUET))
    )
    if not inside:
        raise fault(
            str(folder),
            expected=f"corpus.jsonl, or files named {', '.join((*JSONL, *PARQUET))}",
            got="none of them",
            advice="files of text are indexed by `resrank index`",
        )
    return inside
