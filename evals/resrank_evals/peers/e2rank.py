# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
E2Rank: a text embedding model that is also a listwise reranker (arXiv 2510.22733; weights: Alibaba-NLP/E2Rank-0.6B, …).

1. A passage's own embedding is the normalised last hidden state at an end token after its text.
2. The first `listwise_k` candidates' texts and the query make one prompt, a chat message. Its last hidden state,
   normalised, is the enriched query: the query after pseudo relevance feedback.
3. A candidate's score is the cosine of the two. Candidates beyond `listwise_k` are scored with the same enriched query.

Published, in the paper or its evaluation code: the three steps, k = 20, the prompt with one instruction for every
collection, no end token after the prompt, and one pass over the whole list. The model card's example differs from that
prompt in white space and in end tokens inside it. Inferred: `max_length` counts tokens, 1024 as in training, where the
evaluation code cuts a text after 1024 words; as there, the same cut text is embedded and in the prompt. Ours:
`max_query_length`, for models with few positions.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from haystack import Document, component, logging
from haystack.utils import ComponentDevice

from haystack_integrations.common.resrank.documents import (
    check_documents,
    check_query,
    check_top_k,
    document_text,
    score_or_lowest,
    unique_documents,
)
from resrank.encoder import TruncationReport

if TYPE_CHECKING:
    from pathlib import Path

    from resrank.encoder import Encoder, Float32Array
    from resrank.runtime import Runtime

logger = logging.getLogger(__name__)

# The weights were trained and evaluated with these words.
INSTRUCTION = "Given a web search query and some relevant documents, rerank the documents that answer the query"
_PROMPT = "{instruction}:\nDocuments:\n{documents}\nSearch Query: {query}"
END = "<|endoftext|>"
# Cosine of a passage's stored vector and ours. One model's differ by the dtype (above 0.999 in half precision, mostly);
# a close relative, MiniLM and what it was fine-tuned to, had 0.982.
_SAME_MODEL = 0.99
_HINT = "store what encode_passages gives, or set use_stored_embeddings=False"


@dataclass
class E2RankUsage:
    """
    What a ranker has processed so far; replace it with a new one to count anew.

    :param lists: ranked.
    :param prompt_tokens: of enriched queries.
    :param passage_tokens: of passages' own embeddings.
    :param generated_tokens: always 0.
    :param truncation: passages that were longer than `max_length`; one that is in the prompt and embedded counts once.
    :param prompt_truncation: passages in the prompt that were, cut to `max_length`, longer than `max_prompt_length`.
    :param cut_query_tokens: of queries that were longer than `max_query_length`.
    """

    lists: int = 0
    prompt_tokens: int = 0
    passage_tokens: int = 0
    generated_tokens: int = 0
    truncation: TruncationReport = field(default_factory=TruncationReport)
    prompt_truncation: TruncationReport = field(default_factory=TruncationReport)
    cut_query_tokens: int = 0


@component
class E2RankRanker:
    """
    Ranks documents with an E2Rank model. What it processed is counted in `usage`.

    In YAML it needs `Pipeline.load(..., allowed_modules=["resrank_evals.*"])`: it is here to be measured.

    ```python
    from haystack import Document
    from resrank_evals.peers.e2rank import E2RankRanker

    documents = [Document(content="Bread needs yeast."), Document(content="Parse dates with datetime.strptime.")]
    ranker = E2RankRanker(model="Alibaba-NLP/E2Rank-0.6B", top_k=1)
    print(ranker.run(query="how do I parse a date?", documents=documents)["documents"][0].content)
    # Parse dates with datetime.strptime.
    ```
    """

    def __init__(
        self,
        *,
        model: str = "Alibaba-NLP/E2Rank-0.6B",
        revision: str | None = None,
        listwise_k: int = 20,
        max_length: int = 1024,
        max_prompt_length: int | None = None,
        max_query_length: int | None = None,
        instruction: str = INSTRUCTION,
        top_k: int | None = 10,
        use_stored_embeddings: bool = False,
        device: ComponentDevice | str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
        tokens_per_batch: int | None = None,
    ) -> None:
        """
        Create the ranker; nothing loads yet.

        :param model: a Qwen3-type embedding model with last-token pooling: a folder or a hub id.
        :param revision: of a hub id.
        :param listwise_k: how many candidates' texts the prompt holds, in the order in which they come.
        :param max_length: tokens of a passage's text, in the prompt and embedded; longer ones are cut and counted.
        :param max_prompt_length: tokens of a passage's text in the prompt, for models with few positions; the rest is
            cut and counted. `None` is `max_length`, as published.
        :param max_query_length: tokens of the query in the prompt; the rest is cut and counted. `None` cuts nothing.
        :param instruction: the prompt's first line, without the colon.
        :param top_k: how many documents to return; `None` returns all.
        :param use_stored_embeddings: take the passages' vectors from `Document.embedding`. They must come from this
            model (see `encode_passages`); one passage of the first list is encoded to check it.
        :param device: a `ComponentDevice` or a torch device string; `None` takes the best one when loading.
        :param dtype: `auto`, `float32`, `bfloat16` or `float16`; scores are float32.
        :param attn_implementation: `auto`, `sdpa`, `eager` or `flash_attention_2`.
        :param tokens_per_batch: padded tokens of passages in one forward pass; `None` takes the device's default.
        :raises ValueError: for a number that is not a positive integer.
        """
        check_top_k(top_k)
        numbers = {"listwise_k": listwise_k, "max_length": max_length}
        if tokens_per_batch is not None:
            numbers["tokens_per_batch"] = tokens_per_batch
        if max_prompt_length is not None:
            numbers["max_prompt_length"] = max_prompt_length
        if max_query_length is not None:
            numbers["max_query_length"] = max_query_length
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                msg = f"{name} must be a positive integer, got {value!r}"
                raise ValueError(msg)
        self.model = model
        self.revision = revision
        self.listwise_k = listwise_k
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.max_query_length = max_query_length
        self.instruction = instruction
        self.top_k = top_k
        self.use_stored_embeddings = use_stored_embeddings
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.tokens_per_batch = tokens_per_batch
        self.usage = E2RankUsage()
        self._lock = threading.RLock()
        self._encoder: Encoder | None = None
        self._stored_checked = False

    def warm_up(self) -> None:
        """
        Load the model, once. `run` does it when nobody did.

        :raises ValueError: when it is not a model of this kind, or cannot run as asked.
        """
        with self._lock:
            self._loaded()

    def close(self) -> None:
        """
        Let the model go. A later `run` loads it again.
        """
        with self._lock:
            self._encoder, self._stored_checked = None, False

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """
        Rank documents.

        :param query: the query.
        :param documents: the candidates, best first: the first `listwise_k` are in the prompt. Duplicates by id are
            ranked once (the one with the higher score stays).
        :param top_k: how many to return; `None` means the constructor's value.
        :returns: `documents`: copies with cosines as scores, descending, equal ones by the score they came with, then
            by id.
        :raises TypeError: for a query or documents of another type.
        :raises ValueError: for a blank query or document, a bad `top_k`, a prompt that is longer than the model reads,
            stored vectors that are missing or of another model, and scores that are not finite.
        """
        check_query(query)
        check_top_k(top_k)
        candidates = unique_documents(check_documents(documents))
        if not candidates:
            return {"documents": []}
        texts = [document_text(document, [], "\n") for document in candidates]
        with self._lock:
            encoder = self._loaded()
            cut = self._cut(encoder, texts[: self.listwise_k] if self.use_stored_embeddings else texts)
            enriched = self._enriched_query(encoder, query, cut[: self.listwise_k])
            vectors = (
                self._stored(encoder, candidates, cut) if self.use_stored_embeddings else self._embed(encoder, cut)
            )
            self.usage.lists += 1
        # Row by row, not a matrix product, which may round equal rows differently.
        scores = (vectors * enriched).sum(axis=1)
        if not np.isfinite(scores).all():
            msg = f"{self.model} gives scores that are not finite in {self.dtype}: use dtype float32 or bfloat16"
            raise ValueError(msg)
        ranked = [replace(d, score=score) for d, score in zip(candidates, scores.tolist(), strict=True)]
        came_with = {document.id: score_or_lowest(document) for document in candidates}
        ranked.sort(key=lambda d: (-score_or_lowest(d), -came_with[d.id], d.id))
        return {"documents": ranked[: self.top_k if top_k is None else top_k]}

    def encode_passages(self, texts: Sequence[str]) -> Float32Array:
        """
        Embed passages as `run` does, to store them.

        :param texts: any number.
        :returns: (len(texts), dimension) float32 unit vectors.
        """
        with self._lock:
            encoder = self._loaded()
            return self._embed(encoder, self._cut(encoder, texts))

    # -------------------------------------------------------------------------------------------------------- helpers

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder

    def _load(self) -> Encoder:
        from resrank.runtime import Runtime
        from resrank.sources import resolve

        device = None if self.device is None else self.device.to_torch_str()
        runtime = Runtime.resolve(device, self.dtype, self.attn_implementation)
        return load_embedder(resolve(self.model, revision=self.revision), runtime, self.model)

    def _cut(self, encoder: Encoder, texts: Sequence[str]) -> list[str]:
        kept, cut = cut_texts(encoder.tokenizer, texts, self.max_length)
        if any(cut) and not self.usage.truncation.truncated:
            logger.warning(
                "{cut} of {total} passages are longer than max_length {max_length} and are cut; `usage` counts all",
                cut=sum(1 for each in cut if each),
                total=len(cut),
                max_length=self.max_length,
            )
        self.usage.truncation.add(cut)
        return kept

    def _enriched_query(self, encoder: Encoder, query: str, texts: Sequence[str]) -> Float32Array:
        if self.max_prompt_length is not None:
            texts, lost = cut_texts(encoder.tokenizer, texts, self.max_prompt_length)
            self.usage.prompt_truncation.add(lost)
        if self.max_query_length is not None:
            (query,), (cut,) = cut_texts(encoder.tokenizer, [query], self.max_query_length)
            self.usage.cut_query_tokens += cut
        ids = prompt_ids(encoder.tokenizer, query, texts, self.instruction)
        limit = encoder.backbone.config.max_position_embeddings
        if len(ids) > limit:
            msg = (
                f"the prompt of {len(texts)} candidates has {len(ids)} tokens, more than the {limit} that {self.model} "
                "reads: lower listwise_k, max_prompt_length or max_query_length"
            )
            raise ValueError(msg)
        self.usage.prompt_tokens += len(ids)
        return self._encode(encoder, [ids])[0]

    def _embed(self, encoder: Encoder, texts: Sequence[str]) -> Float32Array:
        # Once a different text, so that equal ones are equal whatever batch they are in.
        different = list(dict.fromkeys(texts))
        ids = ended_ids(encoder.tokenizer, different)
        self.usage.passage_tokens += sum(map(len, ids))
        rows = {text: row for row, text in enumerate(different)}
        return self._encode(encoder, ids)[[rows[text] for text in texts]]

    def _stored(self, encoder: Encoder, documents: list[Document], texts: list[str]) -> Float32Array:
        size = encoder.dimension
        lacking = [d.id for d in documents if d.embedding is None or len(d.embedding) != size]
        if lacking:
            msg = (
                f"{len(lacking)} of {len(documents)} documents have no vector of {size} numbers ({lacking[0]}): {_HINT}"
            )
            raise ValueError(msg)
        vectors = np.asarray([document.embedding for document in documents], dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            msg = f"there are stored vectors that are zero or not finite: {_HINT}"
            raise ValueError(msg)
        vectors /= norms
        if not self._stored_checked:
            shortest = min(range(len(texts)), key=lambda i: len(texts[i]))
            agreement = float(self._embed(encoder, [texts[shortest]])[0] @ vectors[shortest])
            if not agreement >= _SAME_MODEL:
                msg = (
                    f"document {documents[shortest].id} has a vector of another model: its cosine with the one of "
                    f"{self.model} is {agreement:.3f}; {_HINT}"
                )
                raise ValueError(msg)
            self._stored_checked = True
        return vectors

    def _encode(self, encoder: Encoder, ids: list[list[int]]) -> Float32Array:
        import torch

        from resrank.batching import token_budget_batches
        from resrank.encoder import TOKENS_PER_BATCH, pad

        vectors = np.empty((len(ids), encoder.dimension), dtype=np.float32)
        own = self.tokens_per_batch
        budget = own if own is not None else TOKENS_PER_BATCH.get(encoder.device.type, 8_192)
        with torch.inference_mode():
            for batch in token_budget_batches([len(tokens) for tokens in ids], budget):
                padded = pad([ids[i] for i in batch], encoder.tokenizer.pad_token_id, encoder.device)
                vectors[batch] = encoder(*padded).cpu().numpy()
        return vectors


def load_embedder(folder: Path, runtime: Runtime, name: str) -> Encoder:
    """
    Load an E2Rank model.

    :param folder: of the model.
    :param runtime: where and how it runs.
    :param name: for messages.
    :returns: the encoder, in eval mode.
    :raises ValueError: when it is not a model of this kind.
    """
    from resrank.config import EncoderConfig
    from resrank.encoder import load_encoder

    described = (folder / "modules.json").is_file()  # else a plain folder, as the published ones are loaded
    encoder, _ = load_encoder(folder, EncoderConfig(pooling=None if described else "last"), runtime)
    tokenizer = encoder.tokenizer
    lacking = {
        f"last-token pooling (it has {encoder.pooling})": encoder.pooling != "last",
        f"the token {END}": tokenizer.convert_tokens_to_ids(END) in (None, tokenizer.unk_token_id),
        "a chat template": not tokenizer.chat_template,
    }
    if any(lacking.values()):
        msg = (
            f"{name} is no E2Rank model: expected a Qwen3-type embedding model, but it lacks "
            f"{' and '.join(what for what, lacks in lacking.items() if lacks)}"
        )
        raise ValueError(msg)
    return encoder


def cut_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[str], list[int]]:
    """
    Cut texts to so many tokens.

    :param tokenizer: of the model.
    :param texts: any number.
    :param max_length: tokens of each.
    :returns: the texts, cut where the first token that does not fit starts, so that a character of several tokens is
        never cut in two; and how many tokens were cut off each.
    """
    offsets = _tokenised(tokenizer, texts, "offset_mapping")
    cut = [max(0, len(spans) - max_length) for spans in offsets]
    kept = [
        text[: spans[max_length][0]] if over else text for text, spans, over in zip(texts, offsets, cut, strict=True)
    ]
    return kept, cut


def ended_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """
    Tokenise texts that are embedded by themselves.

    :param tokenizer: of the model.
    :param texts: passages, or plain queries.
    :returns: token ids of each, the end token after them.
    """
    end = tokenizer.convert_tokens_to_ids(END)
    return [[*tokens, end] for tokens in _tokenised(tokenizer, texts, "input_ids")]


def prompt_ids(tokenizer: Any, query: str, texts: Sequence[str], instruction: str = INSTRUCTION) -> list[int]:
    """
    Tokenise the listwise prompt.

    :param tokenizer: of the model, with a chat template.
    :param query: the query.
    :param texts: of the first candidates, in their order.
    :param instruction: the prompt's first line, without the colon.
    :returns: token ids; the hidden state at the last one is the enriched query.
    """
    listed = "\n".join(f"[{rank}] {text}" for rank, text in enumerate(texts, 1))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": _PROMPT.format(instruction=instruction, documents=listed, query=query)}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    ids: list[int] = _tokenised(tokenizer, [prompt], "input_ids")[0]
    return ids


def _tokenised(tokenizer: Any, texts: Sequence[str], what: str) -> list[list[Any]]:
    if not texts:
        return []
    read = tokenizer(
        list(texts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
    )
    found: list[list[Any]] = read[what]
    return found
