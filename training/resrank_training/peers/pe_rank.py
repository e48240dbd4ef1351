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

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from resrank.evidence import Float32Array
from resrank_evals.peers.pe_rank_model import PERank
from resrank_training.collating import Vectors
from resrank_training.lists import ListSet
from resrank_training.settings import Lora

from .loop import Loop, Report, run_loop
from .orders import Unjudged, kept_candidates, target_order
from .pe_rank_losses import RankingExample, alignment_loss, ranking_losses

ALPHA = 0.2


def align(
    model: PERank,
    vectors: Float32Array,
    texts: Sequence[str],
    loop: Loop | None = None,
    report: Report | None = None,
    *,
    whole: bool = False,
    checkpoint: Path | None = None,
) -> list[float]:
    """
    Stage 1: train the projector to a frozen language model.

    :param model: changed in place; afterwards in eval mode and without gradients.
    :param vectors: (n, d) float32 unit vectors of the frozen encoder.
    :param texts: n passages; blank ones are an error.
    :param loop: `None` takes a learning rate of 1e-3 and the defaults.
    :param report: told (step, losses) after each step.
    :param whole: train the language model, too, as one that was made of an encoder needs; not in the paper.
    :param checkpoint: file to go on from, and to write.
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
    model.requires_grad_(whole)
    model.projector.requires_grad_(True)

    def losses(rows: list[int]) -> dict[str, torch.Tensor]:
        chosen = [texts[i] for i in rows]
        return {"alignment": alignment_loss(model, vectors[rows], chosen, loop.max_passage_length)}

    return run_loop(
        model,
        losses,
        len(texts),
        loop,
        {"alignment": 1.0},
        device=model.device,
        report=report,
        checkpoint=checkpoint,
    )


def train_ranking(
    model: PERank,
    examples: Sequence[RankingExample],
    loop: Loop | None = None,
    *,
    alpha: float = ALPHA,
    lora: Lora | None = None,
    report: Report | None = None,
    checkpoint: Path | None = None,
) -> list[float]:
    """
    Stage 2: train the language model and the projector on the orders of a teacher.

    :param model: changed in place; adapters are merged at the end, which leaves it in eval mode, without gradients.
    :param examples: lists.
    :param loop: `None` takes a learning rate of 2e-5 and the defaults.
    :param alpha: weight of the divergence.
    :param lora: adapters on the language model's layers; `None` trains all its weights, which must be float32.
    :param report: told (step, losses) after each step.
    :param checkpoint: file to go on from, and to write.
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
        return run_loop(
            model,
            losses,
            len(examples),
            loop,
            {"rank": 1.0, "content": 1.0, "kl": alpha},
            device=model.device,
            report=report,
            checkpoint=checkpoint,
        )
    finally:
        if lora is not None:
            setattr(language_model, language_model.base_model_prefix, adapted.merge_and_unload())
            model.requires_grad_(False)


# -------------------------------------------------------------------------------------------------------------- data


def ranking_examples(
    sets: Sequence[ListSet],
    vectors: Vectors,
    *,
    candidates: int = 20,
    seed: int = 0,
    unjudged: Unjudged = "tied",
) -> list[RankingExample]:
    """
    Make examples of training lists.

    The order is the teacher's, or, where there is none, the positives by their grades. Of longer lists the best one
    and the positives are kept, then the pool's first ones. Lists with nothing to choose are left out.

    :param sets: of training lists.
    :param vectors: of their passages (`encode_sets`).
    :param candidates: most passages of an example; 20 in the paper.
    :param seed: of the shuffle.
    :param unjudged: what comes after the positives where there is no teacher; the paper has teachers' orders alone.
    :returns: examples, in the order of the sets.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for source, of in enumerate(sets):
        for each in of.lists:
            kept = kept_candidates(each, candidates)
            rows = [kept[i] for i in rng.permutation(len(kept))]
            place = {row: i for i, row in enumerate(rows)}
            wanted = tuple(place[row] for row in target_order(each, unjudged) if row in place)
            if len(rows) < 2 or not wanted or not (each.ranking or each.positives):
                continue
            ids = [each.passages[row] for row in rows]
            stored = vectors.passages[source][[vectors.rows[source][id_] for id_ in ids]]
            examples.append(RankingExample(each.query, stored, tuple(of.passages[id_].content for id_ in ids), wanted))
    return examples
