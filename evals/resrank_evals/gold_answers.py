# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Gold answers of a collection in BEIR layout: `answers.jsonl`, plain or with `.gz`, with `_id` and `answers`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resrank_pipelines.lines import at, fault, json_rows, shown

from .answers import normalize_answer
from .lines import DuplicateIds, check_duplicate_ids, duplicate, id_field

logger = logging.getLogger(__name__)

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class GoldAnswers:
    """
    What is right.

    :param path: of the file.
    :param by_query: at least one answer by query id, as they are written.
    """

    path: Path
    by_query: dict[str, list[str]]


def read_gold_answers(folder: Path | None, name: str, *, duplicate_ids: DuplicateIds = "error") -> GoldAnswers:
    """
    Read the gold answers of a collection.

    A query has none when its list is empty, or when nothing of its answers is left after normalisation (they are
    articles and punctuation): an empty prediction would be right. Other fields, such as `split`, are left alone.

    :param folder: of the collection; `None` for a collection that is no folder.
    :param name: of the collection, for messages.
    :param duplicate_ids: what to do with different answers under one id: `"error"`, or read the `"first"`, with a
        warning. Equal ones count as one.
    :returns: the answers, of any split.
    :raises FileNotFoundError: when there is no such file.
    :raises ValueError: for a damaged line, with file and line, and for a file without any answer.
    """
    check_duplicate_ids(duplicate_ids)
    path = _file(folder, name)
    found: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    left_out: list[str] = []
    for number, row in json_rows(path):
        where = at(path, number)
        id_ = id_field(where, row, ("_id",))
        answers = _answers(where, row)
        if found.setdefault(id_, answers) != answers:
            if duplicate_ids == "error":
                error = duplicate(where, lines[id_], f"query id {shown(id_)}")
                msg = f"{error}, or read the first with --duplicate-ids first"
                raise ValueError(msg)
            left_out.append(where)
        lines.setdefault(id_, where)
    if left_out:
        logger.warning(
            "%d lines have the query id of an earlier one with other answers and are left out, the first at %s",
            len(left_out),
            left_out[0],
        )
    by_query = {id_: answers for id_, answers in found.items() if any(map(normalize_answer, answers))}
    if not by_query:
        raise fault(str(path), expected="an answer", got="empty lists alone", advice="write what is right")
    return GoldAnswers(path, by_query)


def _file(folder: Path | None, name: str) -> Path:
    for path in () if folder is None else (folder / ANSWERS, folder / f"{ANSWERS}.gz"):
        if path.is_file():
            return path
    where = f"{ANSWERS} in a folder in BEIR layout" if folder is None else f"{folder / ANSWERS}, or with .gz"
    msg = (
        f"{name} has no gold answers: expected {where}, a line a query such as "
        '{"_id": "q1", "answers": ["42", "forty-two"]}; measure its rankings with `resrank-eval ir`'
    )
    raise FileNotFoundError(msg)


def _answers(where: str, row: dict[str, Any]) -> list[str]:
    answers = row.get("answers")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise fault(
            where,
            expected="a list of texts as `answers`",
            got=shown(answers) if "answers" in row else f"the fields {', '.join(f'`{name}`' for name in row)}",
            advice="write each right answer as a JSON string, and [] when there is none",
        )
    return answers
