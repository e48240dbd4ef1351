# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Collections in BEIR's folder layout.

`corpus.jsonl` (`_id`, `text`, and `title` where there is one), `queries.jsonl` (`_id`, `text`), both plain or with
`.gz`, and `qrels/<split>.tsv` with the header `query-id corpus-id score`, tab separated. Other fields and files are
left alone.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from resrank_pipelines.lines import at, json_rows, shown, text_field

from .collection import Collection, Passage
from .lines import (
    DuplicateIds,
    MissingPassages,
    check_duplicate_ids,
    check_missing_passages,
    check_query,
    duplicate,
    id_field,
    make_collection,
)
from .trec import judgment_at, read_beir_qrels

logger = logging.getLogger(__name__)

CORPUS = "corpus.jsonl"
QUERIES = "queries.jsonl"
QRELS = "qrels"


def is_beir(folder: Path) -> bool:
    """
    Whether a folder is meant as a collection in BEIR layout: it holds a corpus. What else it lacks `load_beir` says.

    :param folder: any path.
    :returns: true when `corpus.jsonl` or `corpus.jsonl.gz` is in it.
    """
    return any(path.is_file() for path in _candidates(folder, CORPUS))


def splits(folder: Path) -> list[str]:
    """
    List the splits of a collection.

    :param folder: the collection.
    :returns: names of the files `qrels/<split>.tsv`, sorted; empty when there are none.
    """
    return sorted(path.stem for path in (folder / QRELS).glob("*.tsv"))


def collection_name(folder: Path) -> str:
    """
    Name a collection after its folder.

    :param folder: the collection, also as `.` or `..`.
    :returns: the last part of its path.
    """
    return os.path.basename(os.path.abspath(folder))


def choose_split(folder: Path, split: str | None = None) -> str:
    """
    Decide which qrels count.

    :param folder: the collection.
    :param split: asked for; `None` takes `test` when there is one, else `dev`, else the only one.
    :returns: the name of the split.
    :raises ValueError: when the collection lacks the split, or there are several and none is `test` or `dev`.
    """
    found = splits(folder)
    listed = ", ".join(found)
    if not found:
        msg = f"{folder / QRELS}: expected a file <split>.tsv, got none; write the judgments of each split there"
        raise ValueError(msg)
    if split is not None:
        if split not in found:
            msg = f"{folder}: expected one of the splits {listed}, got {split!r}; ask for one of these"
            raise ValueError(msg)
        return split
    for preferred in ("test", "dev"):
        if preferred in found:
            return preferred
    if len(found) > 1:
        msg = f"{folder}: expected a split named test or dev, or only one split, got {listed}; name the split"
        raise ValueError(msg)
    return found[0]


def load_beir(
    folder: Path,
    split: str | None = None,
    *,
    missing_passages: MissingPassages = "error",
    duplicate_ids: DuplicateIds = "error",
) -> Collection:
    """
    Read a collection in BEIR layout.

    A query whose judgments are all 0 is kept, and measures give 0 for it. Grades below 0 are kept as they are; like 0
    they are not relevant.

    :param folder: the collection; its name is the collection's name.
    :param split: of the qrels; `None` takes `test` when there is one, else `dev`, else the only one.
    :param missing_passages: what to do with judgments of passages that the corpus lacks: `"error"`, or `"keep"` them
        as passages that no system can find, with a warning.
    :param duplicate_ids: what to do with different passages, or judged queries, under one id: `"error"`, or read the
        `"first"`, with a warning. Equal ones count as one.
    :returns: all passages, and the queries that have judgments in this split.
    :raises FileNotFoundError: when a file is missing.
    :raises ValueError: for anything that is damaged, contradicts itself or does not fit together, with file and line.
    """
    check_missing_passages(missing_passages)
    check_duplicate_ids(duplicate_ids)
    corpus = _file(folder, CORPUS)
    queries = _file(folder, QUERIES)
    split = choose_split(folder, split)
    judged = folder / QRELS / f"{split}.tsv"
    qrels = read_beir_qrels(judged)
    return make_collection(
        name=collection_name(folder),
        split=split,
        source=str(folder),
        passages=_passages(corpus, duplicate_ids),
        texts=_texts(queries, duplicate_ids, set(qrels)),
        qrels=qrels,
        judged_at=lambda query, passage: judgment_at(judged, query, passage),
        texts_name=queries.name,
        passages_name=corpus.name,
        missing_passages=missing_passages,
    )


def _passages(path: Path, duplicate_ids: DuplicateIds) -> dict[str, Passage]:
    passages: dict[str, Passage] = {}
    left_out: list[str] = []
    for number, row in json_rows(path):
        where = at(path, number)
        id_ = id_field(where, row, ("_id",))
        title = "" if row.get("title") is None else text_field(where, row, ("title",))
        passage = Passage(text=text_field(where, row, ("text",)), title=title)
        if passages.setdefault(id_, passage) != passage:
            if duplicate_ids == "error":
                raise _duplicate(where, path, f"passage id {shown(id_)}", id_)
            left_out.append(where)
    _warn(left_out, "passages")
    return passages


def _texts(path: Path, duplicate_ids: DuplicateIds, judged: set[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    left_out: list[str] = []
    for number, row in json_rows(path):
        where = at(path, number)
        id_ = id_field(where, row, ("_id",))
        text = text_field(where, row, ("text",))
        check_query(where, id_, text)
        if texts.setdefault(id_, text) != text and id_ in judged:
            if duplicate_ids == "error":
                raise _duplicate(where, path, f"query id {shown(id_)}", id_)
            left_out.append(where)
    _warn(left_out, "queries")
    return texts


def _duplicate(where: str, path: Path, what: str, id_: str) -> ValueError:
    error = duplicate(where, _first(path, id_), what)
    return ValueError(f"{error}, or read the first with --duplicate-ids first")


def _warn(left_out: list[str], what: str) -> None:
    if left_out:
        logger.warning(
            "%d %s have the id of an earlier, different one and are left out, the first at %s",
            len(left_out),
            what,
            left_out[0],
        )


def _first(path: Path, id_: str) -> str:
    # A second pass, for the message alone: line numbers of millions of passages are not worth their memory.
    return next(at(path, number) for number, row in json_rows(path) if row["_id"] == id_)


def _file(folder: Path, name: str) -> Path:
    found = [path for path in _candidates(folder, name) if path.is_file()]
    if len(found) > 1:
        msg = f"{folder}: expected one of {found[0].name} and {found[1].name}, got both; move one of them elsewhere"
        raise ValueError(msg)
    if not found:
        msg = f"{folder}: expected {name} or {name}.gz, got neither; docs/data.md describes the layout"
        raise FileNotFoundError(msg)
    return found[0]


def _candidates(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, folder / f"{name}.gz"
