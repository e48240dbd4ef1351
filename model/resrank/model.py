# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The model: encode queries and passages, rerank stored vectors."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import sources
from .batching import token_budget_batches
from .candidates import CandidateList, ListTensors
from .checkpoint import Checkpoint, read_config, save_checkpoint, shares_embeddings, write_card
from .config import Attention, Mode, ResRankConfig
from .encoder import Encoder, Float32Array, TruncationReport
from .evidence import Evidence, evidence_from_meta
from .head import Head
from .lexical import LexicalEncoder
from .matching import WordMatcher
from .query_memory import QueryMemory
from .reranker import Prompt, Reranker
from .runtime import Runtime
from .scoring import score_lists
from .threads import BatchThreads
from .windows import IntArray, score_in_windows, window_sizes

logger = logging.getLogger(__name__)

# Slots and prompt tokens in one forward pass of rerank_batch, padding included. A list of 100 fills a CPU.
_RERANK_TOKENS = {"cpu": 256, "mps": 16_384, "cuda": 131_072}


class ResRank:
    """
    One Encoder-LLM and one Reranker-LLM that reads one vector per passage.

    Parts load on first use and separately: encoding never loads the reranker. All methods may be called from many
    threads; forward passes of different calls run one after the other, unless `allow_passes` says otherwise.

    ```python
    from resrank import ResRank

    model = ResRank.from_pretrained("resrank-mini")
    passages = model.encode_passages(["Parse dates with datetime.strptime.", "Bread needs yeast."])
    print(model.rerank("how do I parse a date?", passages).argmax())  # 0
    ```

    :param checkpoint: where the parts come from.
    :param runtime: where and how they run.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.runtime = runtime
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._lock = threading.RLock()  # for parts, tokenisers and remembered queries; never held while a pass runs
        self._passes = threading.BoundedSemaphore(1)
        self._encoder: Encoder | None = None
        self._fingerprint: str | None = None
        self._reranker: Reranker | None = None
        self._head: Head | None = None
        self._lexical: LexicalEncoder | None = None
        self._matcher: WordMatcher | None = None
        self._queries = QueryMemory()

    # ------------------------------------------------------------------------------------------------ load and save

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = sources.DEFAULT_MODEL,
        *,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
        attention: Attention | None = None,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> ResRank:
        """
        Open a checkpoint. Weights load on first use.

        :param name_or_path: `resrank-mini` (default: works without hub and GPU), another shipped name, a folder, or a
            hub id.
        :param device: `cpu`, `cuda`, …; `None` takes the best one present.
        :param dtype: `auto` (bfloat16 where the hardware computes in it, else float32), `float32`, `bfloat16`,
            `float16`.
        :param attn_implementation: `auto`, `sdpa`, `eager` or `flash_attention_2`.
        :param attention: run the reranker `causal` or `order_free`; `None` as it was trained.
        :param revision: of a hub id.
        :param token: for private hub repositories.
        :param local_files_only: never download.
        :returns: the model.
        :raises FileNotFoundError: when there is no such model.
        :raises ValueError: when it is not a ResRank checkpoint, or damaged.
        """

        def find(source: str, source_revision: str | None) -> Path:
            return sources.resolve(source, revision=source_revision, token=token, local_files_only=local_files_only)

        folder = find(str(name_or_path), revision)
        runtime = Runtime.resolve(device, dtype, attn_implementation)
        config = read_config(folder)
        if attention is not None:
            config = config.with_reranker(attention=attention)
        return cls(Checkpoint(config, folder, find), runtime)

    @classmethod
    def from_backbones(
        cls,
        encoder: str | Path,
        reranker: str | Path | None = None,
        *,
        mode: Mode = "evidence",
        attention: Attention = "order_free",
        config: ResRankConfig | None = None,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
    ) -> ResRank:
        """
        Put a new, untrained model together; in `evidence` mode it starts safely: it ranks as the first stage does.

        :param encoder: a sentence-transformers or Hugging Face folder, or a hub id.
        :param reranker: likewise; `None` starts it from the encoder's last layers.
        :param mode: `evidence` or `paper`.
        :param attention: `order_free` or `causal`.
        :param config: everything else; its sources, mode and attention are replaced.
        :param device: as in `from_pretrained`.
        :param dtype: as in `from_pretrained`.
        :param attn_implementation: as in `from_pretrained`.
        :returns: the model.
        """
        base = config if config is not None else ResRankConfig()
        full = replace(base, mode=mode).with_encoder(source=str(encoder))
        full = full.with_reranker(source=None if reranker is None else str(reranker), attention=attention)
        runtime = Runtime.resolve(device, dtype, attn_implementation)
        return cls(Checkpoint(full, None, lambda source, revision: sources.resolve(source, revision=revision)), runtime)

    def load(self, *parts: str) -> ResRank:
        """
        Load parts now instead of on first use.

        :param parts: `encoder`, `reranker`; none means both.
        :returns: the model itself.
        :raises ValueError: for another part.
        """
        unknown = sorted(set(parts) - {"encoder", "reranker"})
        if unknown:
            msg = f"parts are 'encoder' and 'reranker', got {', '.join(unknown)}"
            raise ValueError(msg)
        with self._lock:
            if not parts or "encoder" in parts:
                _ = self.encoder
            if not parts or "reranker" in parts:
                _ = self.reranker
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """
        Write the checkpoint: one folder, safetensors only, complete in itself.

        :param folder: made if missing.
        """
        target = Path(folder)
        with self._lock:
            config = self.load().config
            if shares_embeddings(self.encoder, self.reranker):
                layers = int(self.reranker.backbone.config.num_hidden_layers)
                config = config.with_reranker(encoder_layers=config.reranker.encoder_layers or tuple(range(layers)))
            config = config.with_encoder(source=None, revision=None).with_reranker(source=None, revision=None)
            save_checkpoint(target, config, self.encoder, self.reranker, self.head)
            card = None if self._checkpoint.folder is None else self._checkpoint.folder / "README.md"
            trained_here = not (card and (card.parent / "head.safetensors").is_file()) and not self.head.is_safe_start
            if card is None or not card.is_file() or trained_here:
                write_card(target, config, self.fingerprint)  # the card of the untrained model would be wrong
            elif card.resolve() != (target / "README.md").resolve():
                shutil.copyfile(card, target / "README.md")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        commit_message: str = "Upload ResRank model",
    ) -> str:
        """
        Upload the checkpoint to the Hugging Face hub.

        :param repo_id: `organisation/name`; made if missing.
        :param private: for a new repository.
        :param token: with write access; `None` uses the login of this machine.
        :param commit_message: of the upload.
        :returns: the URL of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message))

    # -------------------------------------------------------------------------------------------------------- parts

    @property
    def config(self) -> ResRankConfig:
        """
        The model's config; complete once the encoder is loaded.

        :returns: the config.
        """
        return self._config

    @property
    def encoder(self) -> Encoder:
        """
        The Encoder-LLM, loaded on first use.

        :returns: the encoder.
        """
        with self._lock:
            if self._encoder is None:
                with torch.inference_mode(False):  # also when the first call is a rerank: weights must be trainable
                    self._encoder, self._fingerprint = self._checkpoint.load_encoder(self.runtime)
                self._config = replace(self._config, encoder=self._encoder.resolved_config(self._config.encoder))
            return self._encoder

    @property
    def reranker(self) -> Reranker:
        """
        The Reranker-LLM, loaded on first use.

        :returns: the reranker.
        """
        with self._lock:
            if self._reranker is None:
                with torch.inference_mode(False):
                    reranker = self._checkpoint.load_reranker(self.encoder, self.runtime)
                    self._head = self._checkpoint.load_head(self.encoder, reranker, self.runtime)
                self._reranker = reranker
            return self._reranker

    @property
    def head(self) -> Head:
        """
        Slot inputs and scores, loaded with the reranker.

        :returns: the head.
        """
        with self._lock:
            _ = self.reranker
            if self._head is None:  # loading sets both
                msg = "the reranker is loaded without its head"
                raise RuntimeError(msg)
            return self._head

    @property
    def lexical(self) -> LexicalEncoder:
        """
        BM25 with this model's constants.

        :returns: the sparse encoder.
        """
        with self._lock:
            if self._lexical is None:
                self._lexical = LexicalEncoder(self._config.lexical)
            return self._lexical

    @property
    def matcher(self) -> WordMatcher:
        """
        Compares the words of queries and texts, with this model's terms.

        :returns: the matcher.
        """
        with self._lock:
            if self._matcher is None:
                self._matcher = WordMatcher(self.lexical)
            return self._matcher

    @property
    def loaded_parts(self) -> tuple[str, ...]:
        """
        What is in memory.

        :returns: of `encoder` and `reranker`.
        """
        parts = {"encoder": self._encoder, "reranker": self._reranker}
        return tuple(name for name, part in parts.items() if part is not None)

    @property
    def dimension(self) -> int:
        """
        Size of the vectors.

        :returns: floats per vector.
        """
        return self.encoder.dimension

    @property
    def fingerprint(self) -> str:
        """
        Identify the vectors that this model makes; vectors of another fingerprint must not be mixed with them.

        :returns: 16 hexadecimal digits of the encoder's weights, pooling, prompts, maximum lengths and dimension.
        """
        _ = self.encoder
        return str(self._fingerprint)

    # --------------------------------------------------------------------------------------------------------- work

    def encode_queries(
        self,
        queries: Sequence[str],
        *,
        tokens_per_batch: int | None = None,
        progress_bar: bool = False,
        report: TruncationReport | None = None,
    ) -> Float32Array:
        """
        Encode queries.

        The last ones that came alone are remembered: retriever and ranker of one request encode a query once.

        :param queries: a list of texts.
        :param tokens_per_batch: padded tokens in one forward pass; `None` takes the device's default.
        :param progress_bar: show one when it takes over two seconds.
        :param report: filled with what was cut; without one, a warning is logged when anything was.
        :returns: (n, d) float32 unit vectors.
        :raises TypeError: when it is not a list of strings.
        :raises ValueError: when a text is not valid Unicode (a lone surrogate).
        """
        return self._encode(queries, "queries", tokens_per_batch, report, progress_bar=progress_bar)

    def forget_queries(self) -> None:
        """
        Drop the remembered query vectors, so that the next query is encoded: for measuring.
        """
        with self._lock:
            self._queries.clear()

    def allow_passes(self, at_once: int) -> None:
        """
        Let forward passes of several threads run at once. Each takes memory of its own.

        :param at_once: how many; 1 as long as nobody asks: a pass takes all of PyTorch's threads, or the GPU.
        :raises ValueError: when it is not positive.
        """
        if at_once < 1:
            msg = f"at least one pass has to run at once, got {at_once}"
            raise ValueError(msg)
        self._passes = threading.BoundedSemaphore(at_once)

    def set_evidence_share(self, share: float) -> None:
        """
        Change how much of what the reranker adds counts where there is evidence; `save_pretrained` keeps it.

        :param share: from 0 (the score of the evidence alone) to 1.
        :raises ValueError: for another value.
        """
        with self._lock:
            self._config = replace(self._config, evidence_share=share)
            self.head.evidence_share = share

    def weights_changed(self) -> None:
        """
        Tell the model that its encoder was trained: the fingerprint is computed anew and remembered queries go.
        """
        with self._lock:
            self._queries.clear()
            self._fingerprint = self.encoder.fingerprint()

    @property
    def checkpoint_hash(self) -> str:
        """
        Identify everything that decides the scores.

        That is the files of the checkpoint, its config as it is run, and the vectors' fingerprint. Weights of a
        reranker from elsewhere count by their name and revision.

        :returns: 16 hexadecimal digits.
        """
        return self._checkpoint.digest(self.fingerprint, self._config)

    def rerank_tokens(self, query: str, candidates: int) -> tuple[int, int]:
        """
        What the reranker reads to rank a list, all passes together. It generates nothing.

        :param query: the query.
        :param candidates: how many passages.
        :returns: tokens of query and templates, and passage slots.
        """
        prompt = self.reranker.prompt(query)
        config = self.reranker.config
        passes = window_sizes(candidates, self.reranker.capacity(prompt), config.window_anchors)
        return len(passes) * prompt.tokens, sum(passes)

    def encode_passages(
        self,
        passages: Sequence[str],
        *,
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
        progress_bar: bool = False,
        report: TruncationReport | None = None,
    ) -> Float32Array:
        """
        Encode passages.

        :param passages: a list of texts.
        :param max_tokens: cut passages after so many tokens (the encoder's prompt counts, its special tokens do not);
            more than the encoder reads changes nothing. For vectors that are not stored: those of an index must all be
            made alike.
        :param tokens_per_batch: padded tokens in one forward pass; `None` takes the device's default.
        :param progress_bar: show one when it takes over two seconds.
        :param report: filled with what was cut; without one, a warning is logged when anything was.
        :returns: (n, d) float32 unit vectors.
        :raises TypeError: when it is not a list of strings.
        :raises ValueError: when a text is not valid Unicode (a lone surrogate), or `max_tokens` is not positive.
        """
        if max_tokens is not None and max_tokens <= 0:
            msg = f"max_tokens must be positive, got {max_tokens}"
            raise ValueError(msg)
        return self._encode(
            passages, "passages", tokens_per_batch, report, progress_bar=progress_bar, max_tokens=max_tokens
        )

    def text_evidence(self, query: str, texts: Sequence[str | None]) -> Evidence:
        """
        What the texts of candidates from anywhere say: how their words match the query's. No model reads them.

        :param query: the query.
        :param texts: of all candidates of the list; `None` where there is no text.
        :returns: evidence for `rerank`, without any of a first stage.
        """
        return evidence_from_meta(query, [None] * len(texts), self.matcher.matches(query, texts))[0]

    def rerank(
        self,
        query: str,
        passage_embeddings: Any,
        evidence: Evidence | None = None,
        query_embedding: Any = None,
        report: TruncationReport | None = None,
    ) -> Float32Array:
        """
        Score stored passage vectors against a query, all in one forward pass.

        A listwise score depends on the whole list, so compare scores within a list only. More candidates than fit into
        a pass are ranked in windows whose scores are comparable (see `resrank.windows`).

        :param query: the query; not blank.
        :param passage_embeddings: (n, d) vectors that this model encoded; any array-like.
        :param evidence: of these candidates in this order; `None` is the pure mode.
        :param query_embedding: (d,) vector of the query; `None` encodes it.
        :param report: filled with query tokens that the reranker had to cut.
        :returns: (n,) float32 scores in input order; higher is better. In `evidence` mode an unbounded logit, in
            `paper` mode a cosine.
        :raises ValueError: for a blank query, a wrong shape, NaN, infinite or zero vectors.
        :raises TypeError: when the query is not a string.
        """
        query_embeddings = None if query_embedding is None else [query_embedding]
        return self.rerank_batch([query], [passage_embeddings], [evidence], query_embeddings, report)[0]

    @torch.inference_mode()
    def rerank_batch(
        self,
        queries: Sequence[str],
        passage_embeddings: Sequence[Any],
        evidence: Sequence[Evidence | None] | None = None,
        query_embeddings: Sequence[Any] | None = None,
        report: TruncationReport | None = None,
        *,
        tokens_per_batch: int | None = None,
    ) -> list[Float32Array]:
        """
        Rerank the candidates of several queries; lists share forward passes but never see each other.

        On a CPU the passes of a small model run side by side, a thread each.

        :param queries: not blank.
        :param passage_embeddings: one (n_i, d) array-like a query; n_i may be 0.
        :param evidence: one a query.
        :param query_embeddings: one (d,) array-like a query; `None` encodes them.
        :param report: filled with query tokens that the reranker had to cut.
        :param tokens_per_batch: slots and prompt tokens in one forward pass, padding included; `None` takes the
            device's default. With 1 each list has a pass of its own, so that its scores do not depend on the others.
        :returns: one (n_i,) float32 array a query, as `rerank` gives it.
        :raises ValueError: as `rerank`, or when the lengths differ.
        :raises TypeError: when a query is not a string.
        """
        _check_texts(queries, "queries")
        given = {"passage_embeddings": passage_embeddings, "evidence": evidence, "query_embeddings": query_embeddings}
        for name, values in given.items():
            if values is not None and len(values) != len(queries):
                msg = f"{name} must have one entry a query: expected {len(queries)}, got {len(values)}"
                raise ValueError(msg)
        for query in queries:
            if not query.strip():
                msg = "the query is blank: reranking needs a query text"
                raise ValueError(msg)
        vectors: Sequence[Any] | Float32Array = (
            query_embeddings
            if query_embeddings is not None
            else self.encode_queries(queries, report=None if report is None else TruncationReport())
        )
        lists = [
            CandidateList.checked(
                query, vectors[i], passage_embeddings[i], evidence[i] if evidence else None, self.dimension
            )
            for i, query in enumerate(queries)
        ]
        return self._score_lists(lists, report, tokens_per_batch)

    def _encode(
        self,
        texts: Sequence[str],
        kind: str,
        tokens_per_batch: int | None,
        report: TruncationReport | None,
        *,
        progress_bar: bool,
        max_tokens: int | None = None,
    ) -> Float32Array:
        _check_texts(texts, kind)
        counted = report if report is not None else TruncationReport()
        is_query = kind == "queries"
        alone = is_query and len(texts) == 1 and not self.encoder.training
        with self._lock:
            known = self._queries.get(texts[0], self.encoder) if alone else None
        if known is not None:
            vectors = known[0][None]
            counted.add([known[1]])
        else:
            vectors = self.encoder.encode(
                texts,
                is_query=is_query,
                max_tokens=max_tokens,
                tokens_per_batch=tokens_per_batch,
                progress_bar=progress_bar,
                report=counted,
                lock=self._lock,
                turn=self._passes,
            )
            if alone:
                with self._lock:
                    self._queries.put(texts[0], vectors[0], counted.cut_per_text[0])
        if report is None and counted.truncated:
            limit = self.encoder.max_query_length if is_query else self.encoder.max_length
            logger.warning(
                "%d of %d %s were longer than %d tokens and were cut (%d tokens in all)",
                counted.truncated,
                counted.texts,
                kind,
                limit if max_tokens is None else min(limit, max_tokens),
                counted.cut_tokens,
            )
        return vectors

    def _score_lists(
        self, lists: list[CandidateList], report: TruncationReport | None, tokens_per_batch: int | None
    ) -> list[Float32Array]:
        reranker = self.reranker
        with self._lock:
            prompts = [reranker.prompt(candidates.query) for candidates in lists]
        cut = [prompt.cut_tokens for prompt in prompts]
        if report is not None:
            report.add(cut)
        elif any(cut):
            logger.warning(
                "%d queries were longer than %d tokens and were cut for the reranker (%d tokens in all)",
                sum(1 for c in cut if c),
                reranker.config.max_query_length,
                sum(cut),
            )
        with self._passes:
            scores = self._score_prompted(lists, prompts, tokens_per_batch)
        if reranker.config.attention == "order_free":
            return [_tie_equals(of, found) for of, found in zip(lists, scores, strict=True)]
        return scores

    def _score_prompted(
        self, lists: list[CandidateList], prompts: list[Prompt], tokens_per_batch: int | None
    ) -> list[Float32Array]:
        reranker, head = self.reranker, self.head
        tensors = [candidates.tensors(head, self.runtime.device) for candidates in lists]
        scores: list[Float32Array] = [np.empty(0, dtype=np.float32) for _ in lists]
        together = []
        for i, (of, prompt) in enumerate(zip(tensors, prompts, strict=True)):
            capacity = reranker.capacity(prompt)
            if len(of.passages) > capacity:
                scores[i] = self._in_windows(prompt, of, capacity, tokens_per_batch)
            elif len(of.passages):
                together.append((i, prompt, of))
        for i, found in self._together(together, tokens_per_batch):
            scores[i] = found
        return scores

    def _in_windows(self, prompt: Prompt, of: ListTensors, capacity: int, budget: int | None) -> Float32Array:
        def score(windows: list[IntArray]) -> list[Float32Array]:
            found = dict(self._together([(i, prompt, of.select(rows)) for i, rows in enumerate(windows)], budget))
            return [found[i] for i in range(len(windows))]

        return score_in_windows(of.prior.cpu().numpy(), capacity, self.reranker.config.window_anchors, score)

    def _together(
        self, lists: list[tuple[int, Prompt, ListTensors]], budget: int | None
    ) -> Iterator[tuple[int, Float32Array]]:
        """Score lists that fit into a pass; on a CPU passes run at once, a thread each."""
        reranker, head = self.reranker, self.head
        budget = budget or _RERANK_TOKENS.get(self.runtime.device.type, 16_384)
        batches = token_budget_batches([prompt.tokens + len(of.passages) for _, prompt, of in lists], budget)

        def forward(batch: Sequence[int]) -> list[Float32Array]:
            return self._forward(reranker, head, [lists[b][1] for b in batch], [lists[b][2] for b in batch])

        with BatchThreads(reranker.backbone) as threads:
            for group in threads.groups(batches):
                for batch, found in zip(group, threads.map(forward, group), strict=True):
                    yield from zip([lists[b][0] for b in batch], found, strict=True)

    @torch.inference_mode()  # here, too: it belongs to a thread
    def _forward(
        self, reranker: Reranker, head: Head, prompts: list[Prompt], lists: list[ListTensors]
    ) -> list[Float32Array]:
        scores = score_lists(reranker, head, prompts, lists)
        counts = [len(of.passages) for of in lists]
        found = [row[:count].cpu().numpy() for row, count in zip(scores, counts, strict=True)]
        if not all(np.isfinite(row).all() for row in found):
            msg = (
                f"the model gave scores that are not finite in {self.runtime.dtype_name}: load it with dtype='float32' "
                "or 'bfloat16'; if it stays so, its weights are damaged"
            )
            raise RuntimeError(msg)
        return found


def _tie_equals(candidates: CandidateList, scores: Float32Array) -> Float32Array:
    # Kernels round the rows of a matrix differently: without this, equal candidates would be ordered by that noise.
    rows = np.concatenate([candidates.passages, candidates.features], axis=1)
    first: dict[bytes, int] = {}
    return scores[[first.setdefault(row.tobytes(), position) for position, row in enumerate(rows)]]


def _check_texts(texts: Sequence[str], kind: str) -> None:
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        msg = f"{kind} must be a list of strings, got {type(texts).__name__}: wrap a single text in a list"
        raise TypeError(msg)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            msg = f"{kind} must be a list of strings, got {type(text).__name__} at position {position}"
            raise TypeError(msg)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            msg = (
                f"{kind}: the text at position {position} is not valid Unicode ({error.reason}): "
                "clean it with text.encode('utf-8', 'replace').decode()"
            )
            raise ValueError(msg) from error
