# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the loaders share beyond reading lines: ids, options and the final checks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from resrank_pipelines.lines import fault, shown, text_field

from .collection import Collection, Passage

logger = logging.getLogger(__name__)

MissingPassages = Literal["error", "keep"]
DuplicateIds = Literal["error", "first"]


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
