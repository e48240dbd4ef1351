# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What each part of the method is worth: a run without it, beside the whole one, on the same lists and seeds.

Rows that only change how a model is used (list length, order of the candidates, attention) run the whole model's
checkpoint again; the others are trained.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from resrank import ResRank
from resrank.checkpoint import read_config
from resrank_evals.results import write_whole

from .dev import DevPools
from .fitting import MODEL, Told, fit
from .lists import read_lists
from .settings import EvidenceDropout, Settings, Stage, expanded

WHOLE = "whole"
MEAN, PURE = "ndcg@10", "ndcg@10_pure"
_LONG = 1_000
_VECTORS = "vectors"
_NONE = EvidenceDropout(number=0.0, whole_list=1.0, lexical_only=0.0, dense_only=0.0, first_stage=0.0, matches=0.0)


Change = Callable[[Settings], Settings | None]  # `None`: no stage is left


def _config(**values: Any) -> Change:
    def change(settings: Settings) -> Settings:
        config = dict(settings.model.config)
        for key, value in values.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        return replace(settings, model=replace(settings.model, config=config))

    return change


def _stages(choose: Callable[[Sequence[Stage]], Sequence[Stage]]) -> Change:
    def change(settings: Settings) -> Settings | None:
        kept = list(choose(settings.stages))
        return replace(settings, stages=kept) if kept else None

    return change


def _each(change: Callable[[Stage], Stage | None]) -> Change:
    return _stages(lambda stages: [each for each in map(change, stages) if each is not None])


def _without_encoder_loss(stage: Stage) -> Stage | None:
    losses = {name: weight for name, weight in stage.losses.items() if name != "info_nce"}
    return replace(stage, losses=losses) if losses else None


def _frozen(stage: Stage) -> Stage | None:
    kept = _without_encoder_loss(stage)
    return None if kept is None else replace(kept, encoder="frozen")


def _without_ranking_loss(stage: Stage) -> Stage | None:
    if "info_nce" not in stage.losses:
        return None
    return replace(stage, losses={"info_nce": stage.losses["info_nce"]}, reranker="frozen")


def _all_kept(stage: Stage) -> Stage:
    return replace(stage, keep=1.0)


def _without_residual(settings: Settings) -> Settings | None:
    # Untrained, it does not rank as the first stage does: nothing of its start is worth keeping.
    whole = replace(settings, stages=[_all_kept(stage) for stage in settings.stages])
    return _config(residual=False)(whole)


TRAINED: Mapping[str, Change] = {
    WHOLE: lambda settings: settings,
    "without residual": _without_residual,
    "without stage 1": _stages(lambda stages: stages[1:]),
    "without stage 2": _stages(lambda stages: stages[:1]),
    "frozen encoder": _each(_frozen),
    "without encoder loss": _each(_without_encoder_loss),
    "without ranking loss": _each(_without_ranking_loss),
    "without evidence": _each(lambda stage: replace(stage, evidence_dropout=_NONE)),
    "causal attention": _config(reranker={"attention": "causal"}),
    "without calibration": _each(lambda stage: replace(stage, calibrate=False)),
    "all of the change kept": _each(_all_kept),
    "all that the reranker adds": _each(lambda stage: replace(stage, evidence_share=None)),
    "with passages that were added": _each(lambda stage: replace(stage, added=True)),
}
_CONFIGURED = frozenset({"without residual", "causal attention"})
USED: Mapping[str, Mapping[str, Any]] = {
    "lists of 20": {"candidates": 20},
    "lists of 1,000": {"candidates": _LONG},
    "shuffled at test time": {"shuffled": True},
    "causal at test time": {"attention": "causal"},
}
ROWS = (*TRAINED, *USED)


@dataclass(frozen=True)
class Ablation:
    """
    A row.

    :param name: of the row.
    :param dev: nDCG@10 by name, one value a seed.
    :param minutes: of training, all seeds.
    :param skipped: why there is no figure; empty when there is.
    """

    name: str
    dev: Mapping[str, Sequence[float]]
    minutes: float = 0.0
    skipped: str = ""

    def mean(self, name: str = MEAN) -> float:
        """
        Over the seeds.

        :param name: of a figure.
        :returns: its mean.
        """
        return statistics.fmean(self.dev[name])

    def spread(self, name: str = MEAN) -> float:
        """
        Over the seeds.

        :param name: of a figure.
        :returns: its standard deviation; 0 with one seed.
        """
        return statistics.stdev(self.dev[name]) if len(self.dev[name]) > 1 else 0.0


def ablate(
    settings: Settings,
    out: Path,
    *,
    rows: Sequence[str] = ROWS,
    seeds: Sequence[int] = (0,),
    max_steps: int | None = None,
    told: Told,
) -> list[Ablation]:
    """
    Train and measure every row. Called again, it goes on.

    :param settings: of the whole run, with dev lists.
    :param out: one folder a row and seed, and `ablations.json`.
    :param rows: of `ROWS`; the whole run is always one of them.
    :param seeds: of the runs.
    :param max_steps: of each stage; `None` leaves what the settings say.
    :param told: is told what happens.
    :returns: the rows, the whole run first.
    :raises ValueError: for an unknown row, or settings without dev lists.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        msg = f"expected rows among {', '.join(ROWS)}; got {', '.join(unknown)}"
        raise ValueError(msg)
    if not settings.dev.lists:
        msg = "ablations are measured on dev lists: the settings need `dev.lists`"
        raise ValueError(msg)
    if max_steps is not None:
        limited = [replace(s, passes=None, arguments={**s.arguments, "max_steps": max_steps}) for s in settings.stages]
        settings = replace(settings, stages=limited)
    found = []
    for name in dict.fromkeys([WHOLE, *rows]):
        told(f"Row: {name}")
        row = _trained(settings, out, name, seeds, told) if name in TRAINED else _used(settings, out, name, seeds)
        if row.skipped:
            told(f"{name} is left out: {row.skipped}")
        found.append(row)
        values = [{"name": r.name, "dev": r.dev, "minutes": r.minutes, "skipped": r.skipped} for r in found]
        write_whole(out / "ablations.json", json.dumps(values, indent=2) + "\n")
    return found


def ablation_table(rows: Sequence[Ablation]) -> Table:
    """
    The rows beside the whole run.

    :param rows: the whole run first.
    :returns: means over the seeds, with their standard deviation.
    """
    whole = rows[0]
    table = Table(title="Ablations: nDCG@10 on dev pools", title_justify="left", caption_justify="left")
    table.caption = "mean over the dev sets, ± standard deviation over seeds; pure: without evidence"
    table.add_column("row")
    for name in ("mean", "difference", "pure", "difference", "minutes"):
        table.add_column(name, justify="right")
    for row in rows:
        if row.skipped:
            table.add_row(row.name, row.skipped, "", "", "", "")
            continue
        cells = []
        for name in (MEAN, PURE):
            spread = f" ± {row.spread(name):.3f}" if len(row.dev[name]) > 1 else ""
            cells += [f"{row.mean(name):.3f}{spread}", f"{row.mean(name) - whole.mean(name):+.3f}"]
        table.add_row(row.name, *cells, f"{row.minutes:.1f}" if row.minutes else "")
    return table


def _trained(settings: Settings, out: Path, name: str, seeds: Sequence[int], told: Told) -> Ablation:
    if name in _CONFIGURED and settings.model.start is not None:
        return Ablation(name, {}, skipped="the run starts from a checkpoint: give model.encoder instead of model.start")
    changed = TRAINED[name](settings)
    if changed is None:
        return Ablation(name, {}, skipped="no stage is left to train")
    if name != WHOLE and changed == settings:
        return Ablation(name, {}, skipped="the settings are so already")
    figures: dict[str, list[float]] = {}
    minutes = 0.0
    for seed in seeds:
        results = fit(replace(changed, seed=seed), _folder(out, name, seed), told, vector_folder=out / _VECTORS)
        minutes += sum(result.minutes for result in results)
        for key, value in results[-1].dev.items():
            figures.setdefault(key, []).append(value)
    return Ablation(name, figures, minutes)


def _used(settings: Settings, out: Path, name: str, seeds: Sequence[int]) -> Ablation:
    options = dict(USED[name])
    attention = options.pop("attention", None)
    sets = [read_lists(expanded(path)) for path in settings.dev.lists]
    candidates = options.get("candidates", settings.dev.candidates)
    longest = max(len(each.passages) for of in sets for each in of.lists)
    if candidates > settings.dev.candidates and longest < candidates:
        return Ablation(
            name, {}, skipped=f"the dev lists hold {longest} candidates: mine them with --candidates {_LONG}"
        )
    pools = DevPools(sets, **{"candidates": candidates, "queries": settings.dev.queries, **options})
    figures: dict[str, list[float]] = {}
    for seed in seeds:
        folder = _folder(out, WHOLE, seed)
        model = ResRank.from_pretrained(folder / MODEL, dtype=settings.model.dtype, attention=attention)
        if read_config(folder / MODEL).reranker.attention == attention:
            return Ablation(name, {}, skipped=f"the model is {attention} already")
        for key, value in pools.measure(model.load(), out / _VECTORS, encoder_is_frozen=True).items():
            figures.setdefault(key, []).append(value)
    return Ablation(name, figures)


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
