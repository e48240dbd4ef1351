# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What the command shows: progress, tables and one-line errors. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from haystack import Document, ExtractedAnswer, GeneratedAnswer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_SNIPPET = 160
_AROUND = 120


@contextmanager
def progress_display(*, keep: bool = True) -> Iterator[Any]:
    """
    Show progress: bars on a terminal, else a line each time something is acknowledged.

    :param keep: leave finished bars on the screen.
    :returns: a callable taking (what, done, total); total 0 means unknown.
    """
    if not err.is_terminal:

        def line(what: str, done: int, total: int) -> None:
            err.print(f"{what}: {done} of {total}" if total else f"{what}: {done}" if done else what, soft_wrap=True)

        yield line
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)
            if not keep and done >= total:
                bars.remove_task(tasks.pop(what))

        yield update


def print_json(value: Any) -> None:
    """
    One JSON document on stdout.

    :param value: plain values.
    """
    print(json.dumps(value, ensure_ascii=False, indent=2))  # noqa: T201 - what programs read


def results_table(documents: list[Document], title: str) -> Table:
    """
    Search results.

    :param documents: ranked.
    :param title: above the table.
    :returns: a table with rank, rank before reranking, score, source and text.
    """
    table = Table(title=escape(title), title_justify="left", show_lines=False, expand=True)
    table.add_column("#", justify="right", style="bold", no_wrap=True)
    table.add_column("was", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("source", style="cyan", overflow="fold", ratio=1)
    table.add_column("text", overflow="fold", ratio=3)
    for rank, document in enumerate(documents, 1):
        before = document.meta.get("resrank", {}).get("retrieval_rank")
        score = f"{document.score:.3f}" if document.score is not None else ""
        table.add_row(
            str(rank), str(before or ""), score, escape(source_of(document)), escape(snippet(document, _SNIPPET))
        )
    return table


def result_dict(document: Document, rank: int) -> dict[str, Any]:
    """
    One search result for programs.

    :param document: a ranked document.
    :param rank: from 1.
    :returns: plain values, without vectors.
    """
    known = document.meta.get("resrank", {})
    meta = {key: value for key, value in document.meta.items() if key != "resrank"}
    return {
        "rank": rank,
        "score": document.score,
        "retrieval_rank": known.get("retrieval_rank"),
        "retrieval_score": known.get("retrieval_score"),
        "id": document.id,
        "content": document.content,
        "meta": meta,
    }


def show_extracted(answers: list[ExtractedAnswer]) -> Group:
    """
    Answers of a reader.

    :param answers: best first, with "no answer" among them.
    :returns: those above "no answer", each with its confidence, source and the passage around it.
    """
    lines: list[RenderableType] = []
    for answer in answers:
        if answer.data is None or answer.document is None or answer.document_offset is None:
            break
        place, text = answer.document_offset, answer.document.content or ""
        before, after = _line(text[: place.start]), _line(text[place.end :])
        lines.append(Text.assemble((_line(answer.data), "bold"), (f"  confidence {answer.score:.2f}", "dim")))
        passage = Text.assemble(
            before if len(before) <= _AROUND else f"…{before[-_AROUND:]}",
            (_line(answer.data), "bold"),
            after if len(after) <= _AROUND else f"{after[:_AROUND]}…",
        )
        lines += [_indented(Text(source_of(answer.document), "cyan")), _indented(passage)]
    if not lines:
        lines.append(Text.assemble(("no answer found", "bold"), (f"  confidence {answers[0].score:.2f}", "dim")))
    return Group(*lines)


def show_generated(answer: GeneratedAnswer) -> Group:
    """
    An LLM's answer.

    :param answer: with the documents that it cites.
    :returns: its text and, by number, the source and start of each cited passage.
    """
    lines: list[RenderableType] = [Text(answer.data.strip())]
    for document in answer.documents:
        number = f"[{document.meta['source_index']}]"
        lines.append(Text.assemble((number, "bold"), " ", (source_of(document), "cyan")))
        lines.append(_indented(Text(snippet(document, _SNIPPET))))
    if not answer.documents:
        lines.append(Text("no passage is cited", "dim"))
    return Group(*lines)


def extracted_dict(answer: ExtractedAnswer) -> dict[str, Any]:
    """
    An answer of a reader for programs.

    :param answer: with a place, or "no answer".
    :returns: plain values; "no answer" has only its confidence.
    """
    if answer.document is None or answer.document_offset is None:
        return {"answer": None, "confidence": answer.score}
    place = {"start": answer.document_offset.start, "end": answer.document_offset.end}
    return {"answer": answer.data, "confidence": answer.score, **place, **_passage_dict(answer.document)}


def citation_dict(document: Document) -> dict[str, Any]:
    """
    A cited passage for programs.

    :param document: of a generated answer.
    :returns: plain values; `number` is how the answer cites it.
    """
    return {"number": document.meta["source_index"], **_passage_dict(document)}


def _passage_dict(document: Document) -> dict[str, Any]:
    meta = {key: value for key, value in document.meta.items() if key not in ("resrank", "source_index", "referenced")}
    return {"source": source_of(document), "id": document.id, "content": document.content, "meta": meta}


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)


def _line(text: str) -> str:
    """On one line, with a single space where there was any white space, also at its ends."""
    return re.sub(r"\s+", " ", text)


def source_of(document: Document) -> str:
    """
    Where a passage comes from.

    :param document: any document.
    :returns: its title, else its file with the chunk number, else its id.
    """
    if document.meta.get("title"):
        return str(document.meta["title"])
    path = document.meta.get("file_path")
    if not path:
        return document.id[:12]
    chunk = document.meta.get("split_id")
    return f"{path}#{chunk}" if chunk is not None else str(path)


def snippet(document: Document, length: int) -> str:
    """
    The start of a passage on one line.

    :param document: any document.
    :param length: most characters.
    :returns: the text, with an ellipsis when it is longer.
    """
    text = " ".join((document.content or "").split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def fail(message: str) -> None:
    """
    A one-line error on stderr.

    :param message: what went wrong and the way out.
    """
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
