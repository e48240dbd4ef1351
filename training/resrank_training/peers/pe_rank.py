# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The two training stages of PE-Rank (Liu et al., arXiv 2406.14848; the authors' repository, liuqi6777/pe_rank).

| stage | trains | learns to |
|---|---|---|
| `align` | the projector; the language model is frozen | write out a passage, given its slot |
| `train_ranking` | the language model, whole or by LoRA, and the projector | decode a teacher's order |

Known of the authors' code: the stages and what they train, weights of 1, 1 and alpha = 0.2, rates of 1e-3 and 2e-5 with
a cosine and 3 % warm-up, one epoch. Inferred: the batch size of `align`, and that passages are shuffled, so that those
which were added at the end of a list do not stand out.

```python
from resrank_evals.peers.pe_rank_model import PERank, PERankConfig
from resrank_training.peers.pe_rank import align, ranking_examples, train_ranking

vectors = encode_sets(resrank, sets, folder)
model = PERank.from_language_model(
    "Qwen/Qwen3-0.6B", PERankConfig(resrank.dimension, resrank.fingerprint), dtype="float32"
)
align(model, vectors.passages[0], [passage.content for passage in sets[0].passages.values()])
train_ranking(model, ranking_examples(sets, vectors))
model.save_pretrained("pe-rank-qwen3-0.6b")
```
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from resrank.evidence import Float32Array
from resrank_evals.peers.pe_rank_model import PERank
from resrank_training.collating import Vectors
from resrank_training.lists import ListSet, TrainingList
from resrank_training.losses import multi_task
from resrank_training.settings import Lora

from .pe_rank_losses import RankingExample, alignment_loss, ranking_losses

ALPHA = 0.2

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
    """

    learning_rate: float
    batch_size: int = 32
    steps: int | None = None
    warmup: float = 0.03
    max_passage_length: int = 128
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            msg = f"batch_size and steps must be at least 1, got {self.batch_size} and {self.steps}"
            raise ValueError(msg)


def align(
    model: PERank, vectors: Float32Array, texts: Sequence[str], loop: Loop | None = None, report: Report | None = None
) -> list[float]:
    """
    Stage 1: train the projector to a frozen language model.

    :param model: changed in place; afterwards in eval mode and without gradients.
    :param vectors: (n, d) float32 unit vectors of the frozen encoder.
    :param texts: n passages; blank ones are an error.
    :param loop: `None` takes a learning rate of 1e-3 and the defaults.
    :param report: told (step, losses) after each step.
    :returns: the loss of each step.
    :raises ValueError: when numbers of vectors and texts differ, or are 0, or a text is blank.
    """
    blank = [i for i, text in enumerate(texts) if not text.strip()]
    if len(vectors) != len(texts) or not texts or blank:
        msg = f"expected one vector a text, and no blank text; got {len(vectors)} vectors and {len(texts)} texts" + (
            f", blank: {blank[:3]}" if blank else ""
        )
        raise ValueError(msg)
    loop = Loop(1e-3) if loop is None else loop
    model.requires_grad_(False)
    model.projector.requires_grad_(True)

    def losses(rows: list[int]) -> dict[str, torch.Tensor]:
        chosen = [texts[i] for i in rows]
        return {"alignment": alignment_loss(model, vectors[rows], chosen, loop.max_passage_length)}

    return _run(model, losses, len(texts), loop, report, alignment=1.0)


def train_ranking(
    model: PERank,
    examples: Sequence[RankingExample],
    loop: Loop | None = None,
    *,
    alpha: float = ALPHA,
    lora: Lora | None = None,
    report: Report | None = None,
) -> list[float]:
    """
    Stage 2: train the language model and the projector on the orders of a teacher.

    :param model: changed in place; adapters are merged at the end, which leaves it in eval mode, without gradients.
    :param examples: lists.
    :param loop: `None` takes a learning rate of 2e-5 and the defaults.
    :param alpha: weight of the divergence.
    :param lora: adapters on the language model's layers; `None` trains all its weights, which must be float32.
    :param report: told (step, losses) after each step.
    :returns: the total loss of each step.
    :raises ValueError: without examples, or for weights that are too coarse to be trained.
    """
    if not examples:
        msg = "there is no list to learn from: give lists with a teacher's ranking or with positives"
        raise ValueError(msg)
    loop = Loop(2e-5) if loop is None else loop
    language_model = model.language_model
    if lora is None and language_model.dtype != torch.float32:
        found = language_model.dtype
        msg = f"training all weights needs float32 ones, got {found}: load with dtype='float32', or give lora"
        raise ValueError(msg)
    model.requires_grad_(lora is None)
    model.projector.requires_grad_(True)
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.target_modules
        )
        adapted = get_peft_model(model.backbone, config)
        setattr(language_model, language_model.base_model_prefix, adapted)

    def losses(rows: list[int]) -> dict[str, torch.Tensor]:
        return ranking_losses(model, [examples[i] for i in rows], loop.max_passage_length)

    try:
        return _run(model, losses, len(examples), loop, report, rank=1.0, content=1.0, kl=alpha)
    finally:
        if lora is not None:
            setattr(language_model, language_model.base_model_prefix, adapted.merge_and_unload())
            model.requires_grad_(False)


# -------------------------------------------------------------------------------------------------------------- data


def ranking_examples(
    sets: Sequence[ListSet], vectors: Vectors, *, candidates: int = 20, seed: int = 0
) -> list[RankingExample]:
    """
    Make examples of training lists.

    The order is the teacher's, or, where there is none, the positives by their grades. Of longer lists the best one
    and the positives are kept, then the pool's first ones. Lists with nothing to choose are left out.

    :param sets: of training lists.
    :param vectors: of their passages (`encode_sets`).
    :param candidates: most passages of an example; 20 in the paper.
    :param seed: of the shuffle.
    :returns: examples, in the order of the sets.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for source, of in enumerate(sets):
        for each in of.lists:
            order = _target_order(each)
            kept = list(dict.fromkeys([*order[:1], *each.positives, *range(len(each.passages))]))[:candidates]
            rows = [kept[i] for i in rng.permutation(len(kept))]
            place = {row: i for i, row in enumerate(rows)}
            wanted = tuple(place[row] for row in order if row in place)
            if len(rows) < 2 or not wanted:
                continue
            ids = [each.passages[row] for row in rows]
            stored = vectors.passages[source][[vectors.rows[source][id_] for id_ in ids]]
            examples.append(RankingExample(each.query, stored, tuple(of.passages[id_].content for id_ in ids), wanted))
    return examples


def _target_order(each: TrainingList) -> tuple[int, ...]:
    if each.ranking is not None:
        return each.ranking
    return tuple(sorted(each.positives, key=lambda i: -(each.grades[i] or 0)))


# -------------------------------------------------------------------------------------------------------------- loop


def _run(model: PERank, losses: Losses, count: int, loop: Loop, report: Report | None, **weights: float) -> list[float]:
    steps = -(-count // loop.batch_size) if loop.steps is None else loop.steps
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=loop.learning_rate, weight_decay=0.0)
    warmup = math.ceil(loop.warmup * steps)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    totals = []
    batches = _batches(count, loop, steps)
    model.train()
    try:
        for step, rows in enumerate(batches, start=1):
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=loop.bfloat16):
                found = losses(rows)
            total = multi_task(found, weights)
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            totals.append(total.item())
            if report is not None:
                report(step, {name: loss.item() for name, loss in found.items()})
    finally:
        model.requires_grad_(False)
        model.eval()
    return totals


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
