# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The optimizer's loop of a peer's training stage: one process, a cosine schedule, and a checkpoint to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from resrank_evals.results import whole_file
from resrank_training.losses import multi_task
from resrank_training.parts import trained_state

Report = Callable[[int, Mapping[str, float]], None]
Losses = Callable[[list[int]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Loop:
    """
    How a stage runs.

    :param learning_rate: at its peak: after the warm-up, before the cosine. 1e-3 for `align`, 2e-5 for ranking.
    :param batch_size: passages or lists of an optimizer step.
    :param steps: of the optimizer; `None` takes one epoch.
    :param warmup: share of the steps.
    :param max_passage_length: tokens of a passage's text.
    :param bfloat16: compute in bfloat16 with float32 weights (autocast).
    :param seed: of the order.
    :param at_once: most of a batch in one forward pass, whose losses are then averaged: the same for losses that are
        means over lists; `None` takes all.
    :param save_steps: steps between checkpoints, where there is a file for them.
    """

    learning_rate: float
    batch_size: int = 32
    steps: int | None = None
    warmup: float = 0.03
    max_passage_length: int = 128
    bfloat16: bool = False
    seed: int = 0
    at_once: int | None = None
    save_steps: int = 100

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            msg = f"batch_size and steps must be at least 1, got {self.batch_size} and {self.steps}"
            raise ValueError(msg)
        if self.save_steps < 1 or (self.at_once is not None and self.at_once < 1):
            msg = f"save_steps and at_once must be at least 1, got {self.save_steps} and {self.at_once}"
            raise ValueError(msg)


def run_loop(
    model: nn.Module,
    losses: Losses,
    count: int,
    loop: Loop,
    weights: Mapping[str, float],
    *,
    device: torch.device,
    report: Report | None = None,
    checkpoint: Path | None = None,
) -> list[float]:
    """
    Train what has gradients switched on.

    :param model: changed in place; afterwards in eval mode and without gradients.
    :param losses: of a batch of examples, given by their indices.
    :param count: of examples.
    :param loop: how.
    :param weights: of the losses.
    :param device: of the model.
    :param report: told (step, losses) after each step that this run takes.
    :param checkpoint: file that is written every `save_steps` and at the end; a run goes on from one that is there.
        Draws inside `losses` are not in it.
    :returns: the total loss of each step, those before the checkpoint included.
    :raises RuntimeError: when the loss is no longer a number.
    """
    steps = -(-count // loop.batch_size) if loop.steps is None else loop.steps
    trained = trained_state(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=loop.learning_rate, weight_decay=0.0)
    totals: list[float] = []
    if checkpoint is not None and checkpoint.is_file():
        totals = _restore(checkpoint, trained, optimizer)
    model.train()
    try:
        for step, rows in enumerate(_batches(count, loop, steps), start=1):
            if step <= len(totals):
                continue
            for group in optimizer.param_groups:
                group["lr"] = loop.learning_rate * _rate(step - 1, steps, math.ceil(loop.warmup * steps))
            optimizer.zero_grad()
            found: dict[str, float] = {}
            size = len(rows) if loop.at_once is None else loop.at_once
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=loop.bfloat16):
                    parts = losses(part)
                share = len(part) / len(rows)
                (share * multi_task(parts, weights)).backward()
                for name, loss in parts.items():
                    found[name] = found.get(name, 0.0) + share * loss.item()
            totals.append(sum(weights[name] * loss for name, loss in found.items()))
            if not math.isfinite(totals[-1]):
                msg = f"the loss is {totals[-1]} at step {step}: try a lower learning rate"
                raise RuntimeError(msg)
            nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
            optimizer.step()
            if report is not None:
                report(step, found)
            if checkpoint is not None and (step % loop.save_steps == 0 or step == steps):
                with whole_file(checkpoint) as file:
                    torch.save({"weights": trained, "optimizer": optimizer.state_dict(), "totals": totals}, file)
    finally:
        model.requires_grad_(False)
        model.eval()
    return totals


def _restore(checkpoint: Path, trained: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    totals: list[float] = state["totals"]
    return totals


def _rate(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(count: int, loop: Loop, steps: int) -> Iterator[list[int]]:
    """Pass after pass, each shuffled anew; a batch does not reach into the next pass."""
    rng = np.random.default_rng(loop.seed)
    done = 0
    while done < steps:
        order = rng.permutation(count).tolist()
        for start in range(0, count, loop.batch_size):
            if done == steps:
                return
            yield order[start : start + loop.batch_size]
            done += 1
