# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Teachers order the candidates of training lists.

1. Each teacher orders the first candidates of a list, and all judged positives wherever they stand.
2. Several teachers are joined by reciprocal rank fusion.
3. Judged positives go to the top, in the teachers' order: judges err less often than teachers do.

The output folder is a `ListWriter`'s, with one file more: `labelling.jsonl` says for each list what the teachers
counted and where they failed. It is written before the list itself, so that no figure is lost when a run is killed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from resrank_evals.collection import Passage
from resrank_pipelines.indexing import Progress, batches
from resrank_pipelines.lines import json_rows

from .lists import ListSet, ListWriter, TrainingList

LOG = "labelling.jsonl"
RRF_K = 60
SPECS = "cross-encoder:NAME_OR_PATH, llm:MODEL, llm:MODEL@URL or grades"
# Enough pairs to sort by length; a kill costs no more than these.
_LISTS_AT_ONCE = 32


@dataclass(frozen=True)
class Candidates:
    """
    What a teacher orders.

    :param query_id: of the list.
    :param query: its text.
    :param texts: of the candidates, in the order of the pool.
    :param grades: judged relevance of each, `None` where unjudged.
    """

    query_id: str
    query: str
    texts: tuple[str, ...]
    grades: tuple[int | None, ...]


@dataclass(frozen=True)
class Order:
    """
    What a teacher made of one list.

    :param ranking: positions in `Candidates.texts`, best first, each once.
    :param counts: what happened, e.g. `{"cut": 3}`; added up over all lists.
    :param failures: what went wrong, in words; each also counts as `failed`.
    """

    ranking: tuple[int, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


class Teacher(Protocol):
    """
    Something that orders candidates.
    """

    @property
    def name(self) -> str:
        """
        What tables call it.

        :returns: a name without paths of this machine.
        """
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """
        What decides its orders.

        :returns: plain values.
        """
        ...

    def order(self, lists: Sequence[Candidates], progress: Progress) -> list[Order]:
        """
        Order lists.

        :param lists: any number.
        :param progress: told (what, done, total).
        :returns: an order for each.
        """
        ...


class Grades:
    """
    The judges as a teacher: positives by grade, highest first, then everything else; ties in the order of the pool.

    Judged and not relevant is no lower than unjudged: pools are judged from the top, so those were good enough to be
    looked at.
    """

    name = "grades"
    settings: Mapping[str, Any] = {"kind": "grades"}

    def order(self, lists: Sequence[Candidates], progress: Progress) -> list[Order]:  # noqa: ARG002
        """
        Order lists.

        :param lists: any number.
        :param progress: not needed.
        :returns: an order for each.
        """
        return [
            Order(tuple(sorted(range(len(each.texts)), key=lambda i: -max(each.grades[i] or 0, 0)))) for each in lists
        ]


@dataclass(frozen=True)
class LabelReport:
    """
    What was labelled.

    :param lists: in the folder now.
    :param kept: of them, those that an earlier run had labelled.
    :param left_out: candidates below the depth, which have no place in the rankings.
    :param counts: sums over all lists, by teacher.
    :param failures: (query id, teacher, what went wrong).
    :param complete: false when too many answers failed: the folder was left unfinished.
    """

    lists: int
    kept: int
    left_out: int
    counts: Mapping[str, Mapping[str, int]]
    failures: tuple[tuple[str, str, str], ...]
    complete: bool

    @property
    def failed_share(self) -> float:
        """
        How much of a teacher's answers failed.

        :returns: of the worst teacher, between 0 and 1.
        """
        return max((each.get("failed", 0) / max(1, each.get("answers", 0)) for each in self.counts.values()), default=0)

    def to_json(self) -> dict[str, Any]:
        """
        For programs.

        :returns: plain values.
        """
        return {**asdict(self), "failed_share": self.failed_share}


def label(
    lists: ListSet,
    out: Path,
    teachers: Sequence[Teacher],
    *,
    depth: int | None = None,
    positives_first: bool = True,
    max_failures: float = 0.05,
    progress: Progress,
) -> LabelReport:
    """
    Write the lists with a ranking. What an interrupted run has written is kept.

    :param lists: to be labelled; a ranking that they have is replaced.
    :param out: folder to write.
    :param teachers: at least one.
    :param depth: candidates that are ordered, beside the positives; `None` for all. The others stay in the list and are
        left out of its ranking.
    :param positives_first: put judged positives to the top.
    :param max_failures: most of a teacher's answers that may fail, as a share; with more, the folder is left
        unfinished, and a run with a higher share completes it without asking again.
    :param progress: told (what, done, total).
    :returns: what was done.
    :raises FileExistsError: when the folder is complete already.
    :raises ValueError: for settings that make no sense, or a folder that was begun with others.
    """
    _check(teachers, depth, max_failures)
    settings = {
        "step": "label",
        "teachers": [dict(teacher.settings) for teacher in teachers],
        "depth": depth,
        "positives_first": positives_first,
        "source": {"name": lists.name, "digest": lists.digest, "info": dict(lists.info)},
    }
    with ListWriter(out, settings) as writer:
        kept = len(writer.done)
        todo = [each for each in lists.lists if each.query_id not in writer.done]
        rows = {row["query_id"]: row["teachers"] for row in whole_rows(out / LOG)}
        with (out / LOG).open("a", encoding="utf-8") as log:
            for chunk in batches(todo, _LISTS_AT_ONCE):
                progress("Labelling", len(writer.done), len(lists.lists))
                found = _label(
                    chunk, lists.passages, teachers, depth=depth, positives_first=positives_first, progress=progress
                )
                for each, told in found:
                    rows[each.query_id] = told
                    log.write(json.dumps({"query_id": each.query_id, "teachers": told}, ensure_ascii=False) + "\n")
                log.flush()
                writer.add(each for each, _ in found)
        progress("Labelling", len(writer.done), len(lists.lists))
        counts, failures = _counted(lists, [teacher.name for teacher in teachers], rows)
        left_out = sum(len(each.passages) - len(_chosen(each, depth)) for each in lists.lists)
        report = LabelReport(len(lists.lists), kept, left_out, counts, failures, complete=True)
        if report.failed_share > max_failures:
            return replace(report, complete=False)
        writer.finish(lists.passages, {"labels": report.counts, "candidates_left_out": report.left_out})
    return report


def fuse_rankings(rankings: Sequence[Sequence[int]], k: int = RRF_K) -> tuple[int, ...]:
    """
    Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).

    :param rankings: permutations of the same candidates, best first; at least one.
    :param k: the constant; 60 as in the first stage.
    :returns: the candidates by (sum of 1 / (k + rank), descending; candidate).
    """
    places: dict[int, list[float]] = {each: [] for each in rankings[0]}
    for ranking in rankings:
        for rank, each in enumerate(ranking, 1):
            places[each].append(1.0 / (k + rank))
    # fsum does not depend on the order of the teachers, so that ties are ties.
    return tuple(sorted(places, key=lambda each: (-math.fsum(places[each]), each)))


def make_teacher(
    spec: str,
    *,
    answers: Path,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int = 32,
    passage_words: int = 300,
    concurrency: int = 4,
) -> Teacher:
    """
    Make a teacher from its name on the command line.

    :param spec: `cross-encoder:NAME_OR_PATH`, `llm:MODEL`, `llm:MODEL@URL` or `grades`.
    :param answers: JSONL file in which a language model's answers are kept.
    :param device: of a cross-encoder; `None` takes the best one present.
    :param dtype: of a cross-encoder: `auto`, `float32`, `bfloat16` or `float16`.
    :param batch_size: pairs in a forward pass of a cross-encoder.
    :param passage_words: words of a passage that a language model reads.
    :param concurrency: requests to a language model at the same time.
    :returns: the teacher, ready to work.
    :raises ValueError: for another name, or a model that is none.
    :raises FileNotFoundError: when there is no such model.
    """
    kind, _, rest = spec.strip().partition(":")
    if kind == "grades" and not rest:
        return Grades()
    if kind == "cross-encoder" and rest:
        from .cross_encoder_labels import CrossEncoderTeacher

        return CrossEncoderTeacher(rest, device=device, dtype=dtype, batch_size=batch_size)
    if kind == "llm" and rest:
        from .llm_labels import LLMTeacher

        found = re.fullmatch(r"(.+?)@(https?://.+)", rest)
        model, url = found.groups() if found else (rest, None)
        return LLMTeacher(model, url=url, answers=answers, passage_words=passage_words, concurrency=concurrency)
    msg = f"--teacher must be {SPECS}, got {spec!r}"
    raise ValueError(msg)


def label_table(report: LabelReport) -> Table:
    """
    What the teachers counted.

    :param report: of a run.
    :returns: a row a teacher.
    """
    table = Table(title=f"{report.lists:,} lists", title_justify="left")
    table.add_column("teacher", overflow="fold")
    names = list(dict.fromkeys(name for counts in report.counts.values() for name in counts))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for teacher, counts in report.counts.items():
        table.add_row(Text(teacher), *(f"{counts[name]:,}" if name in counts else "—" for name in names))
    return table


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """
    Read back a JSONL file to which an interrupted run was writing; half a line at its end is cut off.

    :param path: may be missing.
    :returns: its rows.
    :raises ValueError: for a damaged line, with file and line.
    """
    if not path.is_file():
        return []
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    return [row for _, row in json_rows(path)] if b"\n" in content else []


def _check(teachers: Sequence[Teacher], depth: int | None, max_failures: float) -> None:
    if not teachers:
        msg = f"name at least one teacher: {SPECS}"
        raise ValueError(msg)
    twice = [name for name, times in Counter(teacher.name for teacher in teachers).items() if times > 1]
    if twice:
        msg = f"each teacher counts once, got {twice[0]!r} again: name it once"
        raise ValueError(msg)
    if depth is not None and depth < 1:
        msg = f"--depth must be positive, got {depth}"
        raise ValueError(msg)
    if not 0 <= max_failures <= 1:
        msg = f"--max-failures is a share between 0 and 1, got {max_failures}"
        raise ValueError(msg)


def _chosen(each: TrainingList, depth: int | None) -> list[int]:
    """Candidates that are ordered, by their index."""
    return sorted({*range(len(each.passages))[:depth], *each.positives})


def _label(
    chunk: Sequence[TrainingList],
    passages: Mapping[str, Passage],
    teachers: Sequence[Teacher],
    *,
    depth: int | None,
    positives_first: bool,
    progress: Progress,
) -> list[tuple[TrainingList, dict[str, Any]]]:
    chosen = [_chosen(each, depth) for each in chunk]
    asked = [
        Candidates(
            each.query_id,
            each.query,
            tuple(passages[each.passages[i]].content for i in indices),
            tuple(each.grades[i] for i in indices),
        )
        for each, indices in zip(chunk, chosen, strict=True)
    ]
    orders = {teacher.name: teacher.order(asked, progress) for teacher in teachers}
    labelled = []
    for number, (each, indices) in enumerate(zip(chunk, chosen, strict=True)):
        told = {name: {**order[number].counts, "failures": order[number].failures} for name, order in orders.items()}
        ranking = [indices[i] for i in fuse_rankings([order[number].ranking for order in orders.values()])]
        if positives_first:
            positives = set(each.positives)
            ranking.sort(key=lambda i: i not in positives)  # stable: the order within both halves stays
        labelled.append((each.ranked(ranking), told))
    return labelled


def _counted(
    lists: ListSet, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, int]], tuple[tuple[str, str, str], ...]]:
    """What `labelling.jsonl` says, of this run and of those before it."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    failures = []
    for each in lists.lists:
        for name, told in rows.get(each.query_id, {}).items():
            failures += [(each.query_id, name, failure) for failure in told["failures"]]
            counts[name].update({key: count for key, count in told.items() if key != "failures"})
    return {name: dict(count) for name, count in counts.items()}, tuple(failures)
