# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Reranking stored candidates against a cross-encoder that reads their full texts."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from .candidates import stored
from .contestants import Contestant, contestants
from .outcome import Bar, Outcome
from .passages import QUERY, texts_of_words
from .settings import Settings
from .timing import Task, Timing, take_turns

WORDS = 100
FASTER_THAN_CROSS_ENCODER = 100.0
QUERY_ENCODINGS = 3.0


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: times in milliseconds, and the two ratios of the largest pool.
    """
    counts = (5, 10) if settings.quick else (10, 50, 100)
    texts = texts_of_words(max(counts), WORDS, small=settings.quick)
    outcome = Outcome(
        title=f"Reranking {max(counts)} stored candidates: {settings.model_name} on {settings.device}",
        sizes={"candidates": list(counts), "words_per_text": WORDS, "query": QUERY},
        results={"contestants": {}},
    )
    for contestant in contestants(settings, QUERY, texts):
        timings = _time(contestant, texts, counts, settings)
        _report(contestant, texts, counts, timings, outcome)
    return outcome


def _time(
    contestant: Contestant, texts: list[str], counts: tuple[int, ...], settings: Settings
) -> dict[tuple[str, int], Timing]:
    model = contestant.model
    vectors = model.encode_passages(texts)
    query_vector = model.encode_queries([QUERY])[0]
    calls = settings.pick(20, 2)
    tasks: dict[tuple[str, int], Task] = {("query", 1): Task(lambda: _encode_afresh(model, QUERY), calls)}
    for count in counts:
        pool = stored(model, QUERY, texts[:count], vectors[:count])
        tasks["rerank", count] = Task(lambda pool=pool: pool.rerank(model, QUERY, query_vector), calls)
        tasks["full_text", count] = Task(lambda count=count: contestant.full_text(QUERY, texts[:count]))
    return take_turns(tasks, rounds=settings.pick(5, 2))


def _report(
    contestant: Contestant,
    texts: list[str],
    counts: tuple[int, ...],
    timings: dict[tuple[str, int], Timing],
    outcome: Outcome,
) -> None:
    encoding = timings["query", 1]
    tokens = sum(len(ids) for ids in contestant.model.encoder.tokenize(texts, is_query=False)[0]) / len(texts)
    table = Table(title=f"attention: {contestant.name}; {tokens:.0f} tokens a text", title_justify="left")
    for column in ("candidates", "rerank ms (best)", "cross-encoder ms (best)", "cross-encoder / rerank"):
        table.add_column(column, justify="right")
    table.add_column("rerank / query encoding", justify="right")
    rows: dict[str, Any] = {}
    for count in counts:
        rerank, full_text = timings["rerank", count], timings["full_text", count]
        faster, encodings = full_text.over(rerank), rerank.over(encoding)
        rows[str(count)] = {
            "rerank": rerank.to_dict(),
            "cross_encoder": full_text.to_dict(),
            "cross_encoder_over_rerank": faster,
            "rerank_over_query_encoding": encodings,
            "best_cross_encoder_over_best_rerank": full_text.best_ms / rerank.best_ms,
            "best_rerank_over_best_query_encoding": rerank.best_ms / encoding.best_ms,
        }
        table.add_row(
            str(count),
            _shown(rerank),
            _shown(full_text),
            f"{faster:.0f} x ({full_text.best_ms / rerank.best_ms:.0f} x)",
            f"{encodings:.2f} x ({rerank.best_ms / encoding.best_ms:.2f} x)",
        )
    table.caption = (
        f"one query encoding: {_shown(encoding)} ms; ratios: median over rounds of taking turns (of the best times)"
    )
    table.caption_justify = "left"
    outcome.shown.append(table)
    outcome.results["contestants"][contestant.name] = {
        "tokens_per_text": tokens,
        "query_encoding": encoding.to_dict(),
        "candidates": rows,
    }
    largest = rows[str(max(counts))]
    outcome.bars += [
        Bar(
            f"{contestant.name}: cross-encoder / rerank, {max(counts)} candidates",
            largest["cross_encoder_over_rerank"],
            ">=",
            FASTER_THAN_CROSS_ENCODER,
        ),
        Bar(
            f"{contestant.name}: rerank / query encoding, {max(counts)} candidates",
            largest["rerank_over_query_encoding"],
            "<=",
            QUERY_ENCODINGS,
        ),
    ]
    outcome.notes += [note for note in contestant.notes if note not in outcome.notes]


def _encode_afresh(model: Any, query: str) -> None:
    model.forget_queries()  # otherwise only the first call would encode
    model.encode_queries([query])


def _shown(timing: Timing) -> str:
    return f"{timing.median_ms:,.1f} ({timing.best_ms:,.1f})"
