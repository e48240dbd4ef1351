# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The Encoder-LLM: texts to unit vectors.

It reads and writes the folder layout of sentence-transformers (Transformer, Pooling, Normalize), without importing that
package: loading stays fast, and batches follow a token budget. Results do not depend on batch size, padding side or
batch mates beyond float rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from .adapter import merge_adapter
from .backbone import UNUSED_PREFIX, load_backbone, load_config, load_tokenizer
from .batching import token_budget_batches
from .config import EncoderConfig, Pooling
from .json_file import read_json, read_object
from .runtime import Runtime
from .threads import BatchThreads

Float32Array = np.ndarray[Any, np.dtype[np.float32]]

# Tokens in one forward pass, padding included: large enough to fill the device, small enough for its memory.
TOKENS_PER_BATCH = {"cpu": 2_048, "mps": 8_192, "cuda": 65_536}

_NORMALIZE = "sentence_transformers.models.Normalize"
_POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


@dataclass
class TruncationReport:
    """
    What did not fit into the model; counted, never silent.

    :param texts: texts seen.
    :param truncated: how many of them were cut.
    :param cut_tokens: tokens cut off, all texts together.
    :param cut_per_text: tokens cut off each text of the last call, in input order.
    :param tokens_per_text: tokens that the encoder read of each text of the last call, special ones included; empty
        when it read none, because the query was remembered.
    """

    texts: int = 0
    truncated: int = 0
    cut_tokens: int = 0
    cut_per_text: tuple[int, ...] = ()
    tokens_per_text: tuple[int, ...] = ()

    def add(self, cut_per_text: Sequence[int], tokens_per_text: Sequence[int] = ()) -> None:
        """
        Count one call.

        :param cut_per_text: tokens cut off each text.
        :param tokens_per_text: tokens read of each text.
        """
        self.tokens_per_text = tuple(tokens_per_text)
        self.texts += len(cut_per_text)
        self.truncated += sum(1 for cut in cut_per_text if cut)
        self.cut_tokens += sum(cut_per_text)
        self.cut_per_text = tuple(cut_per_text)


class Encoder(nn.Module):
    """
    A Hugging Face backbone with pooling and L2 norm.

    :param backbone: any model whose output has `last_hidden_state`.
    :param tokenizer: its fast tokenizer.
    :param config: with `pooling` and `max_length` set.
    """

    def __init__(self, backbone: Any, tokenizer: Any, config: EncoderConfig) -> None:
        super().__init__()
        if config.pooling is None or config.max_length is None:
            msg = f"the encoder needs a pooling and a max_length, got {config.pooling!r} and {config.max_length!r}"
            raise ValueError(msg)
        if not getattr(tokenizer, "is_fast", False):
            msg = f"the encoder needs a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}"
            raise ValueError(msg)
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token is None:
                msg = f"the encoder needs a tokenizer with a pad_token or an eos_token, got {type(tokenizer).__name__}"
                raise ValueError(msg)
            tokenizer.pad_token = tokenizer.eos_token
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.pooling: Pooling = config.pooling
        self.max_length = config.max_length
        self.max_query_length = config.max_query_length if config.max_query_length is not None else config.max_length
        self.query_prompt = config.query_prompt or ""
        self.passage_prompt = config.passage_prompt or ""
        limit = _position_limit(backbone)
        if limit is not None and max(self.max_length, self.max_query_length) > limit:
            msg = (
                f"the backbone has {limit} positions; encoder.max_length {self.max_length} and max_query_length "
                f"{self.max_query_length} must not exceed them"
            )
            raise ValueError(msg)

    @property
    def dimension(self) -> int:
        """
        Size of the vectors.

        :returns: the backbone's hidden size.
        """
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """
        Where the weights are.

        :returns: a torch device.
        """
        return next(self.backbone.parameters()).device

    def resolved_config(self, config: EncoderConfig) -> EncoderConfig:
        """
        The config with everything that the folder decided filled in.

        :param config: what the checkpoint said.
        :returns: a config that does not depend on the folder any more.
        """
        return replace(
            config,
            pooling=self.pooling,
            max_length=self.max_length,
            max_query_length=self.max_query_length,
            query_prompt=self.query_prompt,
            passage_prompt=self.passage_prompt,
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """
        Encode padded token ids; differentiable.

        :param input_ids: (batch, length) int64.
        :param attention_mask: (batch, length) int64, 1 where there is a token; padding on either side.
        :returns: (batch, dimension) float32 unit vectors.
        """
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return nn.functional.normalize(pool(hidden, attention_mask, self.pooling).float(), dim=-1)

    def tokenize(
        self, texts: Sequence[str], *, is_query: bool, max_tokens: int | None = None
    ) -> tuple[list[list[int]], list[int]]:
        """
        Prompt, tokenise and cut.

        :param texts: queries or passages.
        :param is_query: which prompt and limit to use.
        :param max_tokens: a lower limit, prompt included, special tokens not.
        :returns: the token ids of each text, and how many tokens were cut off each.
        """
        prompt = self.query_prompt if is_query else self.passage_prompt
        limit = self.max_query_length if is_query else self.max_length
        if max_tokens is not None:
            limit = min(limit, max_tokens + self.tokenizer.num_special_tokens_to_add(pair=False))
        return tokenize_counting(self.tokenizer, [prompt + text for text in texts], limit)

    def encode(
        self,
        texts: Sequence[str],
        *,
        is_query: bool,
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
        progress_bar: bool = False,
        report: TruncationReport | None = None,
        lock: AbstractContextManager[Any] | None = None,
        turn: AbstractContextManager[Any] | None = None,
    ) -> Float32Array:
        """
        Encode texts.

        :param texts: any number of queries or passages.
        :param is_query: which prompt and length limit to use.
        :param max_tokens: a lower limit, prompt included, special tokens not.
        :param tokens_per_batch: padded tokens in one forward pass; `None` takes the device's default. It is halved and
            tried again when a GPU runs out of memory.
        :param progress_bar: show one when the work takes over two seconds.
        :param report: filled with what was cut.
        :param lock: held for the tokeniser.
        :param turn: held for each forward pass, and free between them, so that a long job lets others in.
        :returns: (len(texts), dimension) float32 unit vectors in input order.
        """
        with lock or nullcontext():
            ids, cut = self.tokenize(texts, is_query=is_query, max_tokens=max_tokens)
        if report is not None:
            report.add(cut, [len(tokens) for tokens in ids])
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        budget = tokens_per_batch if tokens_per_batch is not None else TOKENS_PER_BATCH.get(self.device.type, 8_192)
        with tqdm(total=len(texts), desc="Encoding", unit="text", delay=2, disable=not progress_bar) as bar:
            batches = token_budget_batches([len(i) for i in ids], budget)
            with BatchThreads(self.backbone) as threads:
                for group in threads.groups(batches):
                    with turn or nullcontext():
                        encoded = threads.map(lambda batch: self._encode_batch([ids[i] for i in batch]), group)
                    for batch, batch_vectors in zip(group, encoded, strict=True):
                        vectors[batch] = batch_vectors
                        bar.update(len(batch))
        return vectors

    @torch.inference_mode()
    def _encode_batch(self, ids: list[list[int]]) -> Float32Array:
        try:
            input_ids, mask = pad(ids, self.tokenizer.pad_token_id, self.device)
            return self(input_ids, mask).cpu().numpy()
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(ids) // 2
        return np.concatenate([self._encode_batch(ids[:half]), self._encode_batch(ids[half:])])

    def fingerprint(self) -> str:
        """
        Identify the vectors this encoder makes: weights, pooling, prompts, maximum lengths and dimension.

        Weights are hashed at bfloat16 precision, so that the same model has one fingerprint whatever dtype it is loaded
        or saved in. Call it before casting: `load_encoder` does.

        :returns: 16 hexadecimal digits.
        """
        digest = hashlib.sha256()
        described = (self.pooling, self.query_prompt, self.passage_prompt, self.max_length, self.max_query_length)
        digest.update(json.dumps([*described, self.dimension]).encode())
        for name, tensor in sorted(self.backbone.state_dict().items()):
            if name.startswith(UNUSED_PREFIX) or not tensor.is_floating_point():
                continue  # not part of what pooling sees; buffers such as position ids
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """
        Write a sentence-transformers folder (safetensors).

        :param folder: made if missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        pooling_flags = {flag: mode == self.pooling for flag, mode in _POOLING_FLAGS.items()}
        files: dict[str, Any] = {
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": _NORMALIZE},
            ],
            "sentence_bert_config.json": {"max_seq_length": self.max_length, "do_lower_case": False},
            "config_sentence_transformers.json": {
                "prompts": {"query": self.query_prompt, "document": self.passage_prompt},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
            },
            "1_Pooling/config.json": {"word_embedding_dimension": self.dimension, **pooling_flags},
        }
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "2_Normalize").mkdir(exist_ok=True)
        (folder / "2_Normalize" / "config.json").write_text("{}\n", encoding="utf-8")


def load_encoder(
    folder: Path, config: EncoderConfig, runtime: Runtime, adapter: Path | None = None
) -> tuple[Encoder, str]:
    """
    Load a sentence-transformers folder, or a plain Hugging Face one when the config says how to pool.

    :param folder: with safetensors weights.
    :param config: overrides what the folder says where it is not `None`.
    :param runtime: where and how to run.
    :param adapter: a folder with an update of these weights.
    :returns: the encoder in eval mode, and its fingerprint.
    :raises ValueError: for a folder whose modules we do not know, without a pooling, or that is damaged.
    """
    load_config(folder)  # first: without it transformers says that it knows no such tokenizer
    described = _read_folder(folder)
    missing = {key: value for key, value in described.items() if getattr(config, key) is None and value is not None}
    try:
        merged = replace(config, **missing)
    except ValueError as error:
        msg = f"{folder}: {error}"
        raise ValueError(msg) from error
    if merged.pooling is None:
        msg = f"{folder} does not say how to pool: set encoder.pooling to mean, cls or last"
        raise ValueError(msg)
    tokenizer = load_tokenizer(folder)
    backbone = load_backbone(folder, dtype="auto", attn_implementation=runtime.attn_implementation)
    if merged.max_length is None:
        limits = (_position_limit(backbone), tokenizer.model_max_length, 8_192)
        merged = replace(merged, max_length=min(limit for limit in limits if limit is not None))
    if adapter is not None:
        merge_adapter(backbone, adapter)
    try:
        encoder = Encoder(backbone, tokenizer, merged)
    except ValueError as error:
        msg = f"{folder}: {error}"
        raise ValueError(msg) from error
    fingerprint = encoder.fingerprint()
    return runtime.place(encoder).eval(), fingerprint


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """
    One vector per sequence; padding on either side never counts.

    :param hidden: (batch, length, dimension).
    :param attention_mask: (batch, length), 1 where there is a token.
    :param pooling: `mean`, `cls` (first token) or `last` (last token).
    :returns: (batch, dimension), float32 for `mean`, else as `hidden`.
    """
    if pooling == "mean":
        weights = attention_mask.unsqueeze(-1).float()
        return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    if pooling == "cls":
        return hidden[rows, attention_mask.argmax(1)]
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    return hidden[rows, (positions * attention_mask).argmax(1)]


def pad(ids: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Right-pad token ids.

    :param ids: token ids of each text.
    :param pad_token_id: what to fill with.
    :param device: of the result.
    :returns: ids and mask, each (batch, longest) int64.
    """
    longest = max(1, *(len(i) for i in ids))
    padded = np.full((len(ids), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)


def tokenize_counting(
    tokenizer: Any, texts: Sequence[str], max_length: int, *, add_special_tokens: bool = True
) -> tuple[list[list[int]], list[int]]:
    """
    Tokenise, cut the text (never the special tokens), and count what was cut.

    :param tokenizer: a fast tokenizer.
    :param texts: what to tokenise.
    :param max_length: most tokens of one text, special tokens included.
    :param add_special_tokens: whether to add the tokenizer's own.
    :returns: token ids of each text, and the number of tokens cut off each.
    """
    if not texts:
        return [], []
    batch = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=False,
        add_special_tokens=add_special_tokens,
        return_attention_mask=False,
    )
    special = tokenizer.num_special_tokens_to_add(pair=False) if add_special_tokens else 0
    cut = [sum(max(0, len(rest.ids) - special) for rest in encoding.overflowing) for encoding in batch.encodings]
    return batch["input_ids"], cut


def _position_limit(backbone: Any) -> int | None:
    limit = getattr(backbone.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def _read_folder(folder: Path) -> dict[str, Any]:
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return {}
    described: dict[str, Any] = {}
    modules = read_json(modules_file)
    if not isinstance(modules, list) or not all(map(_is_module, modules)):
        msg = f"{modules_file}: expected a list of objects with a type and a path: it is damaged, get it again"
        raise ValueError(msg)
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        path = folder / module["path"]
        if kind == "Pooling":
            described["pooling"] = _read_pooling(path / "config.json")
        elif kind == "Transformer":
            described["max_length"] = _read_optional(path / "sentence_bert_config.json").get("max_seq_length")
        elif kind != "Normalize":
            msg = f"{modules_file}: expected the modules Transformer, Pooling and Normalize, got {kind}"
            raise ValueError(msg)
    prompts_file = folder / "config_sentence_transformers.json"
    prompts = _read_optional(prompts_file).get("prompts") or {}
    if not isinstance(prompts, dict):
        msg = f"{prompts_file}: expected an object as prompts, got {type(prompts).__name__}: get it again"
        raise ValueError(msg)
    described["query_prompt"] = prompts.get("query")
    described["passage_prompt"] = prompts.get("document", prompts.get("passage"))
    return described


def _is_module(described: Any) -> bool:
    return isinstance(described, dict) and all(isinstance(described.get(key), str) for key in ("type", "path"))


def _read_pooling(path: Path) -> str:
    settings = _read_optional(path)
    if settings.get("include_prompt") is False:
        msg = f"{path}: pooling without the prompt (include_prompt false) is not supported"
        raise ValueError(msg)
    modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)]
    if not modes and "pooling_mode" in settings:
        mode = str(settings["pooling_mode"])
        modes = [{"lasttoken": "last"}.get(mode, mode)]
    if len(modes) != 1 or modes[0] not in _POOLING_FLAGS.values():
        msg = f"{path}: expected exactly one of mean, cls and last-token pooling, got {settings}"
        raise ValueError(msg)
    return modes[0]


def _read_optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
