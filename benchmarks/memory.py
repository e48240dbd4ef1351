# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Peak resident memory of each stage, each in a process of its own (see `memory_probe`).

What only the measurement needs (texts, the cross-encoder's folder) is made here and handed over as files.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from .memory_probe import STAGES
from .outcome import Outcome
from .passages import texts_of_words
from .peers import save_cross_encoder
from .probing import run_probe
from .settings import Settings

_QUICK_STAGES = ("rerank",)


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: peak and resident memory by stage, in MiB.
    """
    sizes = {"indexed_passages": settings.pick(1_000, 20), "reranked_candidates": settings.pick(1_000, 20)}
    sizes["full_texts"] = settings.pick(100, 10)
    stages = {name: label for name, label in STAGES.items() if not settings.quick or name in _QUICK_STAGES}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        texts = texts_of_words(sizes["indexed_passages"], 100, small=settings.quick)
        job = {"device": settings.device, "dtype": settings.dtype, "texts": texts, **sizes}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        if any(stage.startswith("peers") for stage in stages):
            save_cross_encoder(folder / "cross-encoder")
        for stage in stages:
            results[stage] = run_probe("memory_probe", stage, folder)
    table = Table(title="passages and texts of 100 words", title_justify="left")
    table.add_column("stage")
    for column in ("peak MiB", "resident MiB", "peak over its imports"):
        table.add_column(column, justify="right")
    for stage, label in stages.items():
        row = results[stage]
        row["peak_over_imports_mib"] = row["peak_mib"] - row["imports_mib"]
        table.add_row(
            label, f"{row['peak_mib']:,.0f}", f"{row['resident_mib']:,.0f}", f"{row['peak_over_imports_mib']:,.0f}"
        )
    return Outcome(
        title=f"Peak resident memory: {settings.model_name} on {settings.device}",
        sizes=sizes,
        results=results,
        shown=[table],
        notes=["each stage in a fresh process; weights are memory-mapped files in part, which count once touched"],
    )
