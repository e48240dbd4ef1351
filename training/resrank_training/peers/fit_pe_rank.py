# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Train a PE-Rank on vectors of a ResRank encoder: `resrank-train peer pe-rank`.

From a causal language model both stages are the paper's (see `pe_rank`). From a BERT-type encoder they are an
adaptation: its layers become a language model that attends to earlier tokens alone, and stage 1 trains that model
together with the projector, since it speaks no language yet. A killed run goes on from its last checkpoint; the folder
is complete when it holds `training.json`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resrank import ResRank
from resrank.evidence import Float32Array
from resrank.runtime import Runtime
from resrank.sources import resolve
from resrank_evals.peers.pe_rank_model import PERank, PERankConfig
from resrank_pipelines.indexing import Progress
from resrank_training.lists import ListSet
from resrank_training.parts import set_dropout
from resrank_training.settings import Lora
from resrank_training.vectors import encode_sets

from .causal import is_language_model, language_model_from_encoder
from .loop import Loop
from .orders import Unjudged, some_lists
from .pe_rank import align, ranking_examples, train_ranking
from .pe_rank_losses import alignment_loss
from .runs import PeerReport, PeerRun, check_settings

ALIGNING, RANKING = "Aligning", "Ranking"
_ALIGNED, _RANKED = "align.pt", "rank.pt"
_LINEAR = 4.0  # from here on GELU leaves numbers as they are, within 1e-3
_AT_ONCE = {"cpu": (32, 4), "cuda": (64, 16)}  # passages, lists in one forward pass


@dataclass(frozen=True)
class PERankSettings:
    """
    How a PE-Rank is trained. Defaults are for a small encoder of 512 positions on a CPU; the paper's stand in brackets.

    :param base: a folder, a pinned base or a hub id of a causal language model (Mistral-7B) or a BERT-type encoder.
    :param candidates: of a list (20).
    :param max_passage_length: tokens of a text behind its slot in the content prompt; all candidates have to fit.
    :param max_query_length: tokens; the rest of a query is cut, in use likewise.
    :param align_length: tokens of a text that stage 1 writes out.
    :param align_steps: of stage 1; `None` for one epoch over the passages (one epoch), 0 to leave it out.
    :param align_batch_size: passages a step of stage 1.
    :param align_learning_rate: highest one of stage 1 (1e-3, for the projector alone).
    :param steps: of stage 2; `None` for one epoch over the lists (one epoch).
    :param batch_size: lists a step of stage 2.
    :param learning_rate: highest one of stage 2 (2e-5).
    :param unjudged: what follows the positives where a list has no teacher's order (teachers' orders alone).
    :param lora_rank: of adapters on the language model's linear layers in stage 2; 0 trains all weights (LoRA).
    :param save_steps: steps between checkpoints.
    :param seed: of fresh weights, draws and orders.
    """

    base: str = "all-MiniLM-L6-v2"
    candidates: int = 20
    max_passage_length: int = 12
    max_query_length: int = 32
    align_length: int = 64
    align_steps: int | None = None
    align_batch_size: int = 32
    align_learning_rate: float = 1e-4
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 1e-4
    unjudged: Unjudged = "pool"
    lora_rank: int = 0
    save_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            msg = f"lora_rank must be positive, or 0 for all weights, got {self.lora_rank}"
            raise ValueError(msg)
        check_settings(self, at_least_two=["candidates"], may_be_zero="align_steps")


def fit_pe_rank(
    sets: Sequence[ListSet], encoder: ResRank, out: Path, settings: PERankSettings, progress: Progress
) -> PeerReport:
    """
    Train a PE-Rank, or go on with it.

    :param sets: training lists.
    :param encoder: whose vectors the model will rank; frozen.
    :param out: folder to write; `PERankRanker.from_pretrained(out)` loads it afterwards.
    :param settings: how.
    :param progress: told (stage, step, steps).
    :returns: what was trained.
    :raises FileExistsError: when the folder holds a finished model.
    :raises FileNotFoundError: when there is no such base.
    :raises RuntimeError: when the loss is no longer a number.
    :raises ValueError: for a folder begun with other settings or data, lists without examples, texts or lists that do
        not fit into the base's positions, or an unusable base.
    """
    base = resolve(settings.base)
    adapts = not is_language_model(base)
    run = PeerRun(
        out,
        method="PE-Rank",
        settings=settings,
        base=base,
        sets=sets,
        facts={"encoder": encoder.fingerprint, "made_of_an_encoder": adapts},
        progress=progress,
    )
    runtime = Runtime.resolve(None, "auto", "sdpa")
    model = _open(base, adapts, encoder, settings, runtime)
    _check_room(model, settings)
    passes_on = adapts and encoder.dimension == int(model.language_model.config.hidden_size)
    drawn = some_lists(
        list(sets), None if settings.steps is None else settings.steps * settings.batch_size, settings.seed
    )
    run.begin()
    progress("Reading vectors", 0, 0)
    vectors = encode_sets(encoder, drawn, run.work)
    examples = ranking_examples(
        drawn, vectors, candidates=settings.candidates, seed=settings.seed, unjudged=settings.unjudged
    )
    texts = [passage.content for of in sets for passage in of.passages.values()]
    passages = np.concatenate(vectors.passages)
    spoken = [i for i, text in enumerate(texts) if text.strip()]

    if passes_on:
        pass_vectors_on(model)
    else:
        scale_projector(model, passages[spoken])
    aligning, ranking = _loops(settings, runtime)
    aligned = 0 if settings.align_steps == 0 else _steps(aligning, len(spoken))
    steps = {ALIGNING: aligned, RANKING: _steps(ranking, len(examples))}
    if settings.align_steps != 0:
        align(
            model,
            passages[spoken],
            [texts[i] for i in spoken],
            aligning,
            run.told(ALIGNING, steps[ALIGNING]),
            whole=adapts,
            checkpoint=run.work / _ALIGNED,
        )
    lora = Lora(rank=settings.lora_rank, alpha=2 * settings.lora_rank, dropout=0.0) if settings.lora_rank else None
    losses = train_ranking(
        model,
        examples,
        ranking,
        lora=lora,
        report=run.told(RANKING, steps[RANKING]),
        checkpoint=run.work / _RANKED,
    )
    model.save_pretrained(out)
    return run.finish(steps, losses, _card(adapts, settings))


@torch.no_grad()
def pass_vectors_on(model: PERank) -> None:
    """
    Start the projector as the identity: a slot is its vector.

    For a language model that was made of an encoder akin to the one of the vectors: its hidden states live in the
    space of the vectors, so that inner products with slots say something before the first step.

    :param model: whose hidden size is that of the vectors; changed in place.
    """
    inner: Any = model.projector[0]
    outer: Any = model.projector[2]
    for layer, shift in ((inner, _LINEAR), (outer, -_LINEAR)):
        layer.weight.copy_(torch.eye(len(layer.weight)))
        layer.bias.fill_(shift)


@torch.no_grad()
def scale_projector(model: PERank, vectors: Float32Array) -> None:
    """
    Make the slots of an untrained projector as long as token embeddings, and as different as the vectors are.

    As torch draws it, a projector turns all unit vectors into nearly the same slot, and no order can be learnt.

    :param model: changed in place.
    :param vectors: (n, d) float32 unit vectors; 256 of them are looked at.
    """
    inner: Any = model.projector[0]
    outer: Any = model.projector[2]
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), 256)).astype(int)]
    inner.weight.mul_(model.config.embedding_dim**0.5)  # unit vectors have entries of about 1 / sqrt(d)
    tokens = model.language_model.get_input_embeddings().weight.float().norm(dim=-1).mean()
    slots = model.project(sample) - outer.bias
    centred = slots - slots.mean(dim=0)
    scale = tokens / centred.norm(dim=-1).mean().clamp(min=torch.finfo(torch.float32).tiny)
    outer.weight.mul_(scale)
    outer.bias.copy_(-scale * slots.mean(dim=0))


def _open(base: Path, adapts: bool, encoder: ResRank, settings: PERankSettings, runtime: Runtime) -> PERank:
    config = PERankConfig(encoder.dimension, encoder.fingerprint, settings.max_query_length)
    torch.manual_seed(settings.seed)  # of the projector
    how: dict[str, Any] = {"device": runtime.device.type, "dtype": "float32", "attn_implementation": "sdpa"}
    if adapts:
        with tempfile.TemporaryDirectory() as folder:
            language_model_from_encoder(base, Path(folder), settings.seed)
            model = PERank.from_language_model(folder, config, **how)
    else:
        model = PERank.from_language_model(base, config, **how)
    # Attention with any dropout takes 2.5 times as long on a CPU, and one pass needs none.
    set_dropout(model.language_model, 0.0)
    return model


@torch.no_grad()
def _check_room(model: PERank, settings: PERankSettings) -> None:
    """The longest inputs there can be, now rather than in the middle of the training."""
    query, text = "a " * settings.max_query_length, "a " * settings.max_passage_length
    slots = torch.zeros(settings.candidates, int(model.language_model.config.hidden_size), device=model.device)
    segments = model.prompt(query, len(slots), [text] * len(slots), settings.max_passage_length)
    model.inputs(segments, slots)
    vectors = np.zeros((1, model.config.embedding_dim), dtype=np.float32)
    alignment_loss(model, vectors, ["a " * settings.align_length], settings.align_length)


def _loops(settings: PERankSettings, runtime: Runtime) -> tuple[Loop, Loop]:
    passages, lists = _AT_ONCE["cuda" if runtime.device.type == "cuda" else "cpu"]
    common: dict[str, Any] = {
        "bfloat16": runtime.dtype == torch.bfloat16,
        "seed": settings.seed,
        "save_steps": settings.save_steps,
    }
    aligning = Loop(
        settings.align_learning_rate,
        batch_size=settings.align_batch_size,
        steps=settings.align_steps if settings.align_steps else None,
        max_passage_length=settings.align_length,
        at_once=passages,
        **common,
    )
    ranking = Loop(
        settings.learning_rate,
        batch_size=settings.batch_size,
        steps=settings.steps,
        max_passage_length=settings.max_passage_length,
        at_once=lists,
        **common,
    )
    return aligning, ranking


def _steps(loop: Loop, count: int) -> int:
    return -(-count // loop.batch_size) if loop.steps is None else loop.steps


def _card(adapts: bool, settings: PERankSettings) -> str:
    named = Path(settings.base).name
    rest = "the others follow in the first stage's order" if settings.unjudged == "pool" else "the others are tied"
    differs = [f"the language model is {named}, not Mistral-7B, and the vectors are those of the ResRank encoder below"]
    if adapts:
        layers = "attention to earlier tokens alone and a fresh output transform"
        differs.append(f"that is an encoder: its layers were made into a language model, with {layers}")
    if adapts and settings.align_steps != 0:
        differs.append("stage 1 trains this language model, too; the paper trains the projector alone")
    if settings.align_steps == 0:
        differs.append("stage 1 is left out")
    lengths = f"{settings.max_passage_length} tokens in the content prompt, queries to {settings.max_query_length}"
    differs += [
        "the projector starts as the identity, or where sizes differ at a scale that makes slots as long as tokens",
        f"where a training list has no teacher's order, judged positives come first and {rest}",
        f"texts are cut to {lengths}; batches, steps and rates are those in the table",
    ]
    listed = "\n".join(f"* {each};" for each in differs)
    return f"""---
library_name: resrank
pipeline_tag: text-ranking
tags: [reranker, pe-rank]
---

# PE-Rank, an adaptation

**Adaptation: trained by ResRank's maintainers on {named}, not the authors' model.** The method is that of PE-Rank
(arXiv 2406.14848); its figures say nothing about the published model. It was made by `resrank-train peer pe-rank` to be
compared with on the same vectors: `resrank-eval ir COLLECTION -s pe-rank:FOLDER`.

What differs from the paper:

{listed[:-1]}.
"""
