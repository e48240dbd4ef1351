# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Train an E2Rank: `resrank-train peer e2rank`.

A Qwen3-type embedding model is trained as published (see `e2rank`). A BERT-type encoder is made into an embedder of the
same form first (see `embedder`): an adaptation. A killed run goes on from its last checkpoint; the folder is complete
when it holds `training.json`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resrank.encoder import Encoder
from resrank.runtime import Runtime
from resrank.sources import resolve
from resrank_evals.peers.e2rank import load_embedder, prompt_ids
from resrank_pipelines.indexing import Progress
from resrank_training.lists import ListSet
from resrank_training.parts import set_dropout

from .e2rank import RANK_NET_WEIGHT, Lengths, ListwiseExample, embedding_losses, listwise_examples, multi_task_losses
from .embedder import embedder_from_encoder
from .loop import Loop, run_loop
from .orders import Unjudged, some_lists
from .runs import PeerReport, PeerRun, base_config, check_settings

EMBEDDING, RANKING = "Embedding", "Ranking"


@dataclass(frozen=True)
class E2RankSettings:
    """
    How an E2Rank is trained. Defaults are for a small encoder of 512 positions on a CPU; the paper's stand in brackets.

    :param base: a folder, a pinned base or a hub id of a Qwen3-type embedding model (Qwen3) or a BERT-type encoder.
    :param candidates: of a list, all in the prompt (16 to 20); in use likewise (20).
    :param max_length: tokens of a passage's text (1024); in use likewise.
    :param max_query_length: tokens of a query; in use likewise.
    :param embed_steps: of stage 1; `None` for one epoch, 0 to leave it out.
    :param embed_batch_size: queries a step of stage 1.
    :param embed_candidates: passages of each query in stage 1, the positive among them.
    :param embed_learning_rate: highest one of stage 1.
    :param steps: of stage 2; `None` for one epoch (one epoch).
    :param batch_size: lists a step of stage 2 (128).
    :param learning_rate: highest one of stage 2.
    :param unjudged: what follows the positives where a list has no teacher's order (teachers' orders alone).
    :param recompute: compute activations again in the backward pass: a third more work, a fraction of the memory.
    :param save_steps: steps between checkpoints.
    :param seed: of draws and orders.
    """

    base: str = "all-MiniLM-L6-v2"
    candidates: int = 10
    max_length: int = 36
    max_query_length: int = 64
    embed_steps: int | None = None
    embed_batch_size: int = 64
    embed_candidates: int = 2
    embed_learning_rate: float = 1e-4
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 5e-5
    unjudged: Unjudged = "tied"
    recompute: bool = False
    save_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, at_least_two=["candidates", "embed_candidates"], may_be_zero="embed_steps")

    @property
    def system(self) -> str:
        """
        The options that `resrank-eval` needs to use a model as it was trained.

        :returns: what follows `e2rank:FOLDER`.
        """
        return f",k={self.candidates},length={self.max_length},query={self.max_query_length}"


def fit_e2rank(sets: Sequence[ListSet], out: Path, settings: E2RankSettings, progress: Progress) -> PeerReport:
    """
    Train an E2Rank, or go on with it.

    :param sets: training lists.
    :param out: folder to write; `E2RankRanker(model=out)` loads it afterwards.
    :param settings: how.
    :param progress: told (stage, step, steps).
    :returns: what was trained.
    :raises FileExistsError: when the folder holds a finished model.
    :raises FileNotFoundError: when there is no such base.
    :raises RuntimeError: when the loss is no longer a number.
    :raises ValueError: for a folder begun with other settings or data, lists without examples, a prompt that does not
        fit into the base's positions, or an unusable base.
    """
    base = resolve(settings.base)
    adapts = bool(base_config(base).model_type == "bert")
    run = PeerRun(
        out,
        method="E2Rank",
        settings=settings,
        base=base,
        sets=sets,
        facts={"made_of_an_encoder": adapts},
        progress=progress,
    )
    encoder = _open(base, adapts, settings)
    _check_room(encoder, settings)
    examples = {
        EMBEDDING: _examples(
            sets, settings, settings.embed_candidates, settings.embed_steps, settings.embed_batch_size
        ),
        RANKING: _examples(sets, settings, settings.candidates, settings.steps, settings.batch_size),
    }
    if not examples[RANKING]:
        msg = "no list has a judged positive or a teacher's ranking beside another text: mine or label other lists"
        raise ValueError(msg)
    run.begin()
    lengths = Lengths(settings.max_length, settings.max_query_length, recompute=settings.recompute)
    steps, losses = {}, [0.0]
    for stage, loop, compute, weights in _stages(settings):
        if loop is None:
            continue
        mine = examples[stage]
        steps[stage] = -(-len(mine) // loop.batch_size) if loop.steps is None else loop.steps
        encoder.requires_grad_(True)

        def of_rows(
            rows: list[int],
            mine: list[ListwiseExample] = mine,
            compute: Callable[..., dict[str, torch.Tensor]] = compute,
        ) -> dict[str, torch.Tensor]:
            return compute(encoder, [mine[i] for i in rows], lengths)

        losses = run_loop(
            encoder,
            of_rows,
            len(mine),
            loop,
            weights,
            device=encoder.device,
            report=run.told(stage, steps[stage]),
            checkpoint=run.work / f"{stage.lower()}.pt",
        )
    encoder.save(out)
    return run.finish(steps, losses, _card(adapts, settings))


def _open(base: Path, adapts: bool, settings: E2RankSettings) -> Encoder:
    runtime = Runtime.resolve(None, "float32", "sdpa")
    if adapts:
        with tempfile.TemporaryDirectory() as folder:
            embedder_from_encoder(base, Path(folder))
            encoder = load_embedder(Path(folder), runtime, settings.base)
    else:
        encoder = load_embedder(base, runtime, settings.base)
    # Attention with any dropout takes 2.5 times as long on a CPU, and one pass needs none.
    set_dropout(encoder, 0.0)
    return encoder


def _check_room(encoder: Encoder, settings: E2RankSettings) -> None:
    text, query = "a " * settings.max_length, "a " * settings.max_query_length
    length = len(prompt_ids(encoder.tokenizer, query, [text] * settings.candidates))
    limit = encoder.backbone.config.max_position_embeddings
    if length > limit:
        msg = (
            f"the prompt of {settings.candidates} candidates has up to {length} tokens, more than the {limit} that "
            f"{settings.base} reads: lower candidates, max_length or max_query_length"
        )
        raise ValueError(msg)


def _examples(
    sets: Sequence[ListSet], settings: E2RankSettings, candidates: int, steps: int | None, batch_size: int
) -> list[ListwiseExample]:
    drawn = some_lists(list(sets), None if steps is None else steps * batch_size, settings.seed)
    return listwise_examples(drawn, candidates=candidates, seed=settings.seed, unjudged=settings.unjudged)


def _stages(
    settings: E2RankSettings,
) -> list[tuple[str, Loop | None, Callable[..., dict[str, torch.Tensor]], Mapping[str, float]]]:
    runtime = Runtime.resolve(None, "auto", "sdpa")
    common: dict[str, Any] = {
        "bfloat16": runtime.dtype == torch.bfloat16,
        "seed": settings.seed,
        "save_steps": settings.save_steps,
    }
    first = None
    if settings.embed_steps != 0:
        size, steps = settings.embed_batch_size, settings.embed_steps
        first = Loop(settings.embed_learning_rate, batch_size=size, steps=steps, **common)
    second = Loop(settings.learning_rate, batch_size=settings.batch_size, steps=settings.steps, **common)
    return [
        (EMBEDDING, first, embedding_losses, {"info_nce": 1.0}),
        (RANKING, second, multi_task_losses, {"info_nce": 1.0, "rank_net": RANK_NET_WEIGHT}),
    ]


def _card(adapts: bool, settings: E2RankSettings) -> str:
    named = Path(settings.base).name
    rest = "the others follow in the first stage's order" if settings.unjudged == "pool" else "the others are tied"
    differs = []
    if adapts:
        form = "with bidirectional attention, a new end token and a chat template of [CLS] and [SEP]"
        differs.append(f"the embedder is {named}, an encoder, not Qwen3: {form}")
    differs += [
        f"{settings.candidates} candidates of {settings.max_length} tokens each are in the prompt, not 20 whole texts",
        f"where a training list has no teacher's order, judged positives come first and {rest}",
        "the data are ResRank's training lists; batches, steps and rates are those in the table",
    ]
    listed = "\n".join(f"* {each};" for each in differs)
    return f"""---
library_name: resrank
pipeline_tag: text-ranking
tags: [reranker, e2rank]
---

# E2Rank, an adaptation

**Adaptation: trained by ResRank's maintainers on {named}, not the authors' model.** The method is that of E2Rank
(arXiv 2510.22733); its figures say nothing about the published models. It was made by `resrank-train peer e2rank` to be
compared with, as it was trained: `resrank-eval ir COLLECTION -s e2rank:FOLDER{settings.system}`.

What differs from the paper:

{listed[:-1]}.
"""
