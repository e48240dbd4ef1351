# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A picture of a run: losses and dev nDCG@10 over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .losses import LOSSES


def draw_curves(history: Sequence[Mapping[str, Any]], first_stage: Mapping[str, float], path: Path, title: str) -> None:
    """
    Write the picture.

    :param history: what the trainer logged.
    :param first_stage: nDCG@10 of the dev pools' own order, by set; drawn as dotted lines.
    :param path: of the PNG.
    :param title: over it.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name in ("loss", *LOSSES):
        points = [(row["step"], row[name]) for row in history if name in row]
        if points:
            left.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    left.set(xlabel="step", ylabel="loss", title="Training")
    if left.get_legend_handles_labels()[0]:
        left.legend()
    measured = [row for row in history if "eval_ndcg@10" in row]
    for i, name in enumerate(first_stage):
        colour = f"C{i % 10}"
        points = [(row["step"], row[f"eval_{name}"]) for row in measured]
        if points:
            right.plot(*zip(*points, strict=True), label=name, color=colour, linewidth=1.2, marker=".")
        right.axhline(first_stage[name], color=colour, linewidth=0.8, linestyle=":")
    for name, style in (("ndcg@10", "-"), ("ndcg@10_pure", "--")):
        points = [(row["step"], row[f"eval_{name}"]) for row in measured]
        if points:
            label = "mean" if name == "ndcg@10" else "mean without evidence"
            right.plot(*zip(*points, strict=True), label=label, color="black", linewidth=2, linestyle=style)
    right.set(xlabel="step", ylabel="nDCG@10", title="Dev pools (dotted: their own order)")
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
