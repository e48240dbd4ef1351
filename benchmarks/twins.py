# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The paper's architectures with random weights, built on the device: no download, and speed does not depend on weights.

Prompts and limits are those of the shipped checkpoints `resrank-qwen3-0.6b` and `resrank-qwen3-4b`. The tokenizer is a
real byte-level BPE, but a small one trained in place, so texts have somewhat more tokens than with Qwen's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resrank import ResRank, ResRankConfig
from resrank.batching import token_budget_batches
from resrank.checkpoint import Checkpoint, read_config
from resrank.encoder import TOKENS_PER_BATCH, Encoder, pad, pool, tokenize_counting
from resrank.reranker import Reranker
from resrank.runtime import Runtime
from resrank.sources import CHECKPOINTS

from .architectures import COMMON, TWINS, Twin
from .contestants import Contestant
from .passages import documents
from .settings import Settings

QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_END = "<|endoftext|>"
_FULL_TEXT_TOKENS = 1_024


class InMemoryCheckpoint(Checkpoint):
    """
    A checkpoint whose backbones were never on a disk; the head is at safe start.

    :param config: of the model.
    :param encoder: loaded.
    :param reranker: loaded.
    """

    def __init__(self, config: ResRankConfig, encoder: Encoder, reranker: Reranker) -> None:
        super().__init__(config, None, _nothing_to_resolve)
        self._encoder, self._reranker = encoder, reranker

    def load_encoder(self, runtime: Runtime) -> tuple[Encoder, str]:  # noqa: ARG002
        """
        Give the encoder.

        :param runtime: not used: it runs already.
        :returns: the encoder, and a fingerprint in name only: hashing 8 GB of random numbers serves nobody.
        """
        return self._encoder, "random"

    def load_reranker(self, encoder: Encoder, runtime: Runtime) -> Reranker:  # noqa: ARG002
        """
        Give the reranker.

        :param encoder: not used: nothing is shared.
        :param runtime: not used: it runs already.
        :returns: the reranker.
        """
        return self._reranker


class FullTextTwin:
    """
    A cross-encoder as `Qwen3ForSequenceClassification`.

    The reranker's backbone reads query and text, and a linear layer scores the last token. Batches are sorted by length
    and hold as many tokens as ResRank's encoder takes.

    :param backbone: of the reranker.
    :param tokenizer: of the reranker.
    """

    def __init__(self, backbone: Any, tokenizer: Any) -> None:
        self._backbone, self._tokenizer = backbone, tokenizer
        weight = backbone.get_input_embeddings().weight
        self._device = weight.device
        self._score = nn.Linear(weight.shape[1], 1, bias=False, device=weight.device, dtype=weight.dtype)

    @torch.inference_mode()
    def __call__(self, query: str, texts: Sequence[str]) -> Any:
        """
        Score texts.

        :param query: the query.
        :param texts: of the candidates.
        :returns: (n,) float32 scores.
        """
        pairs = [f"Query: {query}\nPassage: {text}\nRelevant:" for text in texts]
        ids, _ = tokenize_counting(self._tokenizer, pairs, _FULL_TEXT_TOKENS)
        scores = torch.empty(len(texts), device=self._device)
        for batch in token_budget_batches([len(i) for i in ids], TOKENS_PER_BATCH[self._device.type]):
            input_ids, mask = pad([ids[i] for i in batch], self._tokenizer.pad_token_id, self._device)
            hidden = self._backbone(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
            scores[batch] = self._score(pool(hidden, mask, "last")).squeeze(-1).float()
        return scores.cpu().numpy()


@cache
def twin_contestants(settings: Settings) -> list[Contestant]:
    """
    Build a twin, once for each kind of attention; all kinds share one set of weights.

    :param settings: with `twin` set.
    :returns: causal and order-free attention with SDPA, and causal attention with FlashAttention 2 where it runs.
    """
    twin = TWINS[settings.twin or ""]
    tokenizer = _tokenizer(twin.tokens, small=settings.twin == "tiny")
    runtime = settings.runtime()
    torch.manual_seed(0)
    encoder = _backbone(twin.architecture, twin.encoder_vocabulary, tokenizer, runtime)
    reranker = _backbone(twin.architecture, twin.reranker_vocabulary, tokenizer, runtime)
    made = [
        _contestant(twin, attention, (encoder, reranker), tokenizer, runtime) for attention in ("causal", "order_free")
    ]
    try:
        flash = Runtime.resolve(settings.device, settings.dtype, "flash_attention_2")
    except ValueError:
        return made
    backbones = tuple(_with_kernels(backbone, flash.attn_implementation) for backbone in (encoder, reranker))
    return [*made, _contestant(twin, "causal", backbones, tokenizer, flash)]


def _contestant(twin: Twin, attention: Any, backbones: tuple[Any, ...], tokenizer: Any, runtime: Runtime) -> Contestant:
    encoder, reranker = backbones
    config = read_config(CHECKPOINTS / twin.checkpoint).with_reranker(attention=attention)
    config = config.with_encoder(pooling="last", query_prompt=QUERY_PROMPT, passage_prompt="")
    checkpoint = InMemoryCheckpoint(
        config,
        Encoder(encoder, tokenizer, config.encoder).eval(),
        Reranker(reranker, tokenizer, config.reranker).eval(),
    )
    parameters = sum(weight.numel() for backbone in (encoder, reranker) for weight in backbone.parameters())
    size = f"{parameters / 1e9:.2f} billion, encoder and reranker together"
    notes = (
        f"all weights are random ({size}), and so are the rankings; the tokenizer was trained in place",
        "cross-encoder: the reranker's backbone with a linear layer on each whole text, length-sorted batches",
    )
    model = ResRank(checkpoint, runtime).load()
    return Contestant(f"{attention}, {runtime.attn_implementation}", model, FullTextTwin(reranker, tokenizer), notes)


def _backbone(architecture: dict[str, int], vocabulary: int, tokenizer: Any, runtime: Runtime) -> Any:
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(
        **architecture,
        **COMMON,
        vocab_size=vocabulary,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with runtime.device:
        backbone = Qwen3Model._from_config(config, dtype=runtime.dtype, attn_implementation=runtime.attn_implementation)
    return backbone.eval()


def _with_kernels(backbone: Any, attn_implementation: str) -> Any:
    """A copy with another attention implementation and the very same weights."""
    twin = copy.deepcopy(backbone, {id(weight): weight for weight in backbone.parameters()})
    twin.set_attn_implementation(attn_implementation)
    return twin


def _tokenizer(tokens: int, *, small: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (document.content or "" for document in documents(None, small=small)),
        trainers.BpeTrainer(
            vocab_size=tokens,
            special_tokens=[_END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # As Qwen3-Embedding: every text ends with the token that is pooled.
    end = (_END, tokenizer.token_to_id(_END))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {_END}", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_END, eos_token=_END, padding_side="left", model_max_length=131_072
    )


def _nothing_to_resolve(source: str, revision: str | None) -> Path:
    msg = f"a twin loads nothing, but {source!r} (revision {revision}) was asked for"
    raise RuntimeError(msg)
