# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The Reranker-LLM: one forward pass over a query and one position per passage; no generated token.

Input: query template | slot 1 … slot n | closing template, end token. Two kinds of attention:

* `causal` (the paper): positions count up; scores depend on the order of the candidates.
* `order_free`: all slots stand at one position and see each other, so the score of a candidate does not depend on where
  it stands. With a bidirectional backbone everything sees everything; with a causal one only the slots do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .config import RerankerConfig
from .encoder import tokenize_counting

# On each side of the query, in each template.
MAX_TEMPLATE_TOKENS = 512


@dataclass(frozen=True)
class Prompt:
    """
    A tokenised query.

    :param before: token ids before the slots.
    :param after: token ids after them, the end token last.
    :param cut_tokens: query tokens that did not fit.
    """

    before: list[int]
    after: list[int]
    cut_tokens: int

    @property
    def tokens(self) -> int:
        """
        Length without the slots.

        :returns: tokens.
        """
        return len(self.before) + len(self.after)


class Reranker(nn.Module):
    """
    A Hugging Face backbone that takes `inputs_embeds`.

    :param backbone: the model.
    :param tokenizer: its fast tokenizer.
    :param config: templates, attention and limits.
    :raises ValueError: for attention that the backbone's implementation would silently change, or templates too long.
    """

    def __init__(self, backbone: Any, tokenizer: Any, config: RerankerConfig) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.config = config
        self.bidirectional = _is_bidirectional(backbone.config)
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            msg = f"the reranker's tokenizer ({type(tokenizer).__name__}) has neither an eos_token nor a sep_token"
            raise ValueError(msg)
        self._end = int(end)
        pieces = [*config.query_template.split("{query}"), *config.closing_template.split("{query}")]
        self._template, cut = self._tokenize(pieces, MAX_TEMPLATE_TOKENS)
        if any(cut):
            msg = f"reranker.query_template and closing_template take at most {MAX_TEMPLATE_TOKENS} tokens a piece"
            raise ValueError(msg)
        if any("sliding" in str(kind) for kind in getattr(backbone.config, "layer_types", None) or ()):
            msg = (
                "this backbone has sliding-window layers, which see only neighbours: a reranker needs full attention "
                "over all candidates"
            )
            raise ValueError(msg)
        # RoBERTa-type backbones begin to count after their padding position.
        table = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        self._first_position = 0 if padding is None else int(padding) + 1
        if needs_custom_mask(backbone.config, config) and getattr(
            backbone.config, "_attn_implementation", ""
        ).startswith("flash"):
            msg = (
                f"FlashAttention 2 drops custom masks, which attention '{config.attention}' of this reranker needs: "
                "load it with attn_implementation='sdpa', or use a causal reranker on a causal backbone"
            )
            raise ValueError(msg)

    @property
    def hidden_size(self) -> int:
        """
        Size of the hidden states.

        :returns: the backbone's hidden size.
        """
        return int(self.backbone.config.hidden_size)

    @property
    def token_norm(self) -> float:
        """
        Mean norm of the token embeddings: what a slot must look like to the backbone.

        :returns: a float.
        """
        weight = self.backbone.get_input_embeddings().weight
        return float(weight.detach().float().norm(dim=-1).mean())

    def prompt(self, query: str) -> Prompt:
        """
        Tokenise a query into both templates.

        :param query: the query.
        :returns: token ids around the slots.
        """
        (ids,), (cut,) = self._tokenize([query], self.config.max_query_length)
        b0, b1, a0, a1 = self._template
        start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.cls_token_id
        before = [*([] if start is None else [int(start)]), *b0, *ids, *b1]
        if self.bidirectional:
            before.append(self._end)  # BERT-like: [CLS] query [SEP] slots … query [SEP]
        return Prompt(before, [*a0, *ids, *a1, self._end], cut)

    def capacity(self, prompt: Prompt) -> int:
        """
        Most candidates in one pass for this query.

        :param prompt: the tokenised query.
        :returns: limited by `max_candidates`, and with causal attention by the backbone's positions.
        """
        limit = getattr(self.backbone.config, "max_position_embeddings", None)
        if not isinstance(limit, int) or limit <= 0:
            return self.config.max_candidates
        # Order-free slots share one position; causal ones take one each.
        free = limit - self._first_position - prompt.tokens - (1 if self.config.attention == "order_free" else 0)
        if free < 1:
            msg = (
                f"the query takes {prompt.tokens} of the reranker's {limit} positions: lower reranker.max_query_length"
            )
            raise ValueError(msg)
        return (
            self.config.max_candidates
            if self.config.attention == "order_free"
            else min(free, self.config.max_candidates)
        )

    def forward(
        self, prompts: Sequence[Prompt], slots: torch.Tensor, counts: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        One forward pass for a batch of lists; lists never see each other. Differentiable.

        :param prompts: one a list.
        :param slots: (batch, most candidates, hidden) float32 slot inputs, padded at the end.
        :param counts: candidates of each list.
        :returns: hidden states at the end token (batch, hidden) and at the slots (batch, most candidates, hidden), of
            the backbone's dtype. Rows beyond a list's count are undefined.
        """
        embed = self.backbone.get_input_embeddings()
        device, dtype = embed.weight.device, embed.weight.dtype
        lengths = [p.tokens + n for p, n in zip(prompts, counts, strict=True)]
        longest = max(lengths)
        inputs = torch.zeros(len(prompts), longest, self.hidden_size, device=device, dtype=dtype)
        positions = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
        is_slot = torch.zeros(len(prompts), longest, dtype=torch.bool, device=device)
        rows = []
        for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
            tokens = embed(torch.tensor(prompt.before + prompt.after, device=device))
            first = len(prompt.before)
            parts = [tokens[:first], slots[row, :count].to(dtype), tokens[first:]]
            rows.append(torch.cat([*parts, inputs[row, lengths[row] :]]))
            is_slot[row, first : first + count] = True
            positions[row, : lengths[row]] = self._first_position + self._positions(prompt, count, device)
        hidden = self.backbone(
            inputs_embeds=torch.stack(rows),
            attention_mask=self._mask(lengths, is_slot, dtype),
            position_ids=positions,
            **({} if self.bidirectional else {"use_cache": False}),
        ).last_hidden_state
        last = torch.tensor(lengths, device=device) - 1
        query_hidden = hidden[torch.arange(len(prompts), device=device), last]
        first_slots = torch.tensor([len(p.before) for p in prompts], device=device)
        index = first_slots[:, None] + torch.arange(slots.shape[1], device=device)[None]
        index = index.clamp(max=longest - 1).unsqueeze(-1).expand(-1, -1, self.hidden_size)
        return query_hidden, hidden.gather(1, index)

    def _tokenize(self, texts: list[str], max_length: int) -> tuple[list[list[int]], list[int]]:
        return tokenize_counting(self.tokenizer, texts, max_length, add_special_tokens=False)

    def _positions(self, prompt: Prompt, count: int, device: torch.device) -> torch.Tensor:
        if self.config.attention == "causal":
            return torch.arange(prompt.tokens + count, device=device)
        first = len(prompt.before)
        return torch.cat(
            [
                torch.arange(first, device=device),
                torch.full((count,), first, device=device),
                torch.arange(first + 1, first + 1 + len(prompt.after), device=device),
            ]
        )

    def _mask(self, lengths: list[int], is_slot: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
        """(batch, 1, length, length) added to attention logits, or a 2-d padding mask, or None where none is needed."""
        longest = max(lengths)
        device = is_slot.device
        padded = min(lengths) < longest
        real = torch.arange(longest, device=device)[None] < torch.tensor(lengths, device=device)[:, None]
        if (self.config.attention == "causal") is not self.bidirectional:
            # The backbone's own attention is the wanted one: causal on causal, or everything on everything.
            return real.long() if padded else None
        causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()[None]
        allowed = causal
        if self.config.attention == "order_free":
            allowed = causal | (is_slot[:, :, None] & is_slot[:, None, :])
        # Padding rows look at the first position, so that no softmax is empty.
        allowed = (allowed & real[:, None, :]) | ~real[:, :, None] & (torch.arange(longest, device=device) == 0)
        # Not boolean: eager attention adds masks, whatever their type.
        return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)[
            :, None
        ]


def needs_custom_mask(backbone_config: Any, config: RerankerConfig) -> bool:
    """
    Whether a reranker must not run with FlashAttention 2, which drops custom masks.

    :param backbone_config: of the Hugging Face backbone.
    :param config: of the reranker.
    :returns: false only for causal attention on a causal backbone.
    """
    return config.attention == "order_free" or _is_bidirectional(backbone_config)


def _is_bidirectional(backbone_config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    decoder = getattr(backbone_config, "is_decoder", False)
    return backbone_config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decoder
