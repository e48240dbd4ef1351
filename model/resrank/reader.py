# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A span reader: where in which passage the answer to a question stands, or that none of them holds it.

A BERT-type model gives each token two logits, of starting and of ending the answer; those of the first token stand for
"no answer here" (Devlin et al. 2019, arXiv 1810.04805, section 4.3). A span's margin is s_start + e_end - s_0 - e_0.
Margins of different passages are on one scale, because each is against the same alternative; the confidence of a
passage's best span is the softmax of the margins over all passages, with 0 for "no answer" (after Clark & Gardner 2018,
arXiv 1710.10723, who normalise over the paragraphs of a question). So the confidences of all passages and of "no
answer" sum to 1.

Passages longer than the model reads are read in overlapping windows; nothing of them is left out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .adapter import merge_adapter
from .backbone import load_backbone, load_config, load_tokenizer
from .batching import token_budget_batches
from .encoder import TOKENS_PER_BATCH, TruncationReport
from .json_file import read_object
from .runtime import Runtime
from .sources import resolve, sha256_of

CONFIG = "config.json"
HEAD = "head.safetensors"
MODEL_TYPE = "resrank-reader"
FORMAT = 1
_OWN = "resrank_reader"  # our settings in the config.json of a whole model; transformers passes over it
_SPECIALS = 8  # most tokens that a tokenizer adds to question and window, and that a question's cut may cost

Float32Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class ReaderConfig:
    """
    How a reader reads.

    :param max_length: tokens of question and window together.
    :param stride: tokens that neighbouring windows share: no fewer than a span may have, so that an answer at an edge
        is whole in one of them.
    :param max_query_length: tokens of a question; the rest is cut and counted.
    :param max_answer_length: most tokens of a span; SQuAD's answers have 30 at most, nearly all of them.
    :param base: the pinned base, folder or hub id that an adapter updates; `None` for a folder that holds all weights.
    :param base_sha256: of that base's `model.safetensors`, checked on loading; `None` for a pinned base, which is
        checked anyway.
    """

    max_length: int = 384
    stride: int = 128
    max_query_length: int = 64
    max_answer_length: int = 30
    base: str | None = None
    base_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "stride", "max_query_length", "max_answer_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"{name} must be a positive integer, got {value!r}"
                raise ValueError(msg)
        if self.max_query_length + self.stride + _SPECIALS >= self.max_length:
            msg = (
                f"max_length {self.max_length} leaves no room for windows that share {self.stride} tokens beside a "
                f"question of {self.max_query_length}: raise it, or lower stride or max_query_length"
            )
            raise ValueError(msg)
        if self.max_answer_length > self.stride:
            msg = (
                f"spans of {self.max_answer_length} tokens may be cut in two by windows that share {self.stride}: "
                "raise stride, or lower max_answer_length"
            )
            raise ValueError(msg)
        if self.base is not None and not isinstance(self.base, str):
            msg = f"base must be a name, a folder, a hub id or null, got {self.base!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Span:
    """
    A piece of a passage.

    :param passage: its place in the list that was read.
    :param start: first character.
    :param end: one past the last character.
    :param text: `passage[start:end]`.
    :param margin: log-odds against "no answer in this passage"; above 0 the reader believes that it is one.
    """

    passage: int
    start: int
    end: int
    text: str
    margin: float


@dataclass(frozen=True)
class Window:
    """
    A piece of a passage that fits into the model, behind the question.

    :param passage: its place in the list.
    :param ids: token ids of question and window with special tokens.
    :param types: segment of each: 0 the question, 1 the window.
    :param offsets: (start, end) characters in the passage without white space around them; `None` where a token is not
        of the passage or holds nothing else. No span starts or ends there.
    """

    passage: int
    ids: list[int]
    types: list[int]
    offsets: list[tuple[int, int] | None]


class SpanReader:
    """
    Reads passages for the span that answers a question. Threads may share one.

    ```python
    from resrank.reader import SpanReader

    reader = SpanReader.from_pretrained("my-reader")
    spans = reader.read("who found penicillin?", ["Penicillin was discovered by Alexander Fleming."])
    print(spans[0].text)  # Alexander Fleming
    ```

    :param model: a transformers question-answering model, in eval mode.
    :param tokenizer: its fast tokenizer; puts a special token first, whose logits stand for "no answer".
    :param config: how to read.
    :raises ValueError: for another kind of tokenizer, or windows longer than the model reads.
    """

    def __init__(self, model: Any, tokenizer: Any, config: ReaderConfig) -> None:
        if not getattr(tokenizer, "is_fast", False):
            msg = f"a reader needs a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}"
            raise ValueError(msg)
        if tokenizer("a", "b").encodings[0].sequence_ids[0] is not None or tokenizer.pad_token_id is None:
            msg = (
                "a reader needs a tokenizer that pads, and puts a special token first ([CLS], <s>) that stands for "
                f"'no answer' (BERT, RoBERTa, DistilBERT, ModernBERT, …), got a {type(tokenizer).__name__} without"
            )
            raise ValueError(msg)
        limit = _position_limit(model)
        if limit is not None and config.max_length > limit:
            msg = f"the model reads {limit} tokens at once, max_length {config.max_length} must not exceed them"
            raise ValueError(msg)
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self._lock = threading.Lock()  # fast tokenizers keep how to truncate, and cannot be used by two threads

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> SpanReader:
        """
        Load a reader.

        :param source: a folder, a shipped name or a hub id: either an adapter of ours, or any question-answering model
            of transformers (safetensors), as `deepset/roberta-base-squad2`.
        :param device: as `ResRank.from_pretrained` takes it.
        :param dtype: likewise.
        :param revision: of a hub id.
        :param token: for private hub repositories.
        :param local_files_only: never download.
        :returns: the reader.
        :raises FileNotFoundError: when there is no such model.
        :raises ValueError: when it is damaged or of another kind.
        """
        runtime = Runtime.resolve(device, dtype, "sdpa")
        try:
            folder = resolve(source, revision=revision, token=token, local_files_only=local_files_only)
        except FileNotFoundError as error:
            msg = f"{error}; `resrank-train reader` makes a reader"
            raise FileNotFoundError(msg) from error
        described = _read_config(folder)
        if described.get("model_type") == MODEL_TYPE:
            config = _config_of(folder, described)
            if config.base is None:
                msg = f"{folder / CONFIG}: an adapter needs a base, got null: get the reader again"
                raise ValueError(msg)
            home = resolve(config.base, token=token, local_files_only=local_files_only)
            found = sha256_of_weights(home) if config.base_sha256 is not None else None
            if found != config.base_sha256:
                msg = (
                    f"the reader in {folder} updates another {config.base} than the one in {home}: expected weights of "
                    f"sha256 {config.base_sha256}, got {found}; bring back that base, or train the reader again"
                )
                raise ValueError(msg)
            model = _load_base(home)
            merge_adapter(model.base_model, folder)
            _load_head(model, folder)
        else:
            home, model = folder, _load(folder)
            own = described.get(_OWN)
            config = _within(ReaderConfig(), model) if own is None else _config_of(folder, own)
        tokenizer = load_tokenizer(home)
        try:
            return cls(runtime.place(model).eval(), tokenizer, config)
        except ValueError as error:
            msg = f"{folder}: {error}"
            raise ValueError(msg) from error

    @property
    def device(self) -> torch.device:
        """
        Where the weights are.

        :returns: a torch device.
        """
        return next(self.model.parameters()).device

    def windows(
        self, query: str, passages: Sequence[str], report: TruncationReport | None = None
    ) -> list[list[Window]]:
        """
        Cut passages into pieces that fit, each behind the question.

        :param query: the question.
        :param passages: texts.
        :param report: filled with what was cut of the question.
        :returns: the windows of each passage; none of a blank one.
        """
        most = self.config.max_query_length
        with self._lock:
            question = self.tokenizer(query, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            cut = max(0, len(question["input_ids"]) - most)
            if report is not None:
                report.add([cut])
            kept = query[: question["offset_mapping"][most - 1][1]] if cut else query
            found: list[list[Window]] = [[] for _ in passages]
            if not passages:
                return found
            encoded = self.tokenizer(
                [kept] * len(passages),
                list(passages),
                truncation="only_second",
                max_length=self.config.max_length,
                stride=self.config.stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
        for encoding, place in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True):
            offsets = [
                _trimmed(passages[place], *at) if sequence == 1 else None
                for sequence, at in zip(encoding.sequence_ids, encoding.offsets, strict=True)
            ]
            if any(at is not None for at in offsets):
                found[place].append(Window(place, encoding.ids, encoding.type_ids, offsets))
        return found

    def read(
        self,
        query: str,
        passages: Sequence[str],
        *,
        spans_per_passage: int = 1,
        report: TruncationReport | None = None,
    ) -> list[Span]:
        """
        Find the best spans of every passage.

        :param query: the question.
        :param passages: texts, best first or not: the order does not matter to the spans.
        :param spans_per_passage: most spans of one passage; they do not overlap.
        :param report: filled with what was cut of the question; passages are never cut.
        :returns: spans of all passages by margin descending, equal ones by passage; none of a blank passage.
        :raises ValueError: when the model's logits are no numbers.
        """
        by_passage = self.windows(query, passages, report)
        windows = [window for of in by_passage for window in of]
        logits = iter(self._logits(windows))
        found: list[Span] = []
        for passage, of in enumerate(by_passage):
            scored = [_score_spans(window, *next(logits), self.config.max_answer_length) for window in of]
            found.extend(
                Span(passage, start, end, passages[passage][start:end], margin)
                for start, end, margin in _best_apart(scored, spans_per_passage)
            )
        return sorted(found, key=lambda span: (-span.margin, span.passage, span.start))

    def save_pretrained(self, folder: str | Path) -> None:
        """
        Write a folder with all weights, that this class and `transformers` read.

        :param folder: made if missing.
        """
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        described[_OWN] = {"format": FORMAT, **asdict(replace(self.config, base=None))}
        (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    def save_head(self, folder: str | Path) -> None:
        """
        Write config and output layer of a reader whose backbone is an adapter; `save_adapter` writes that beside them.

        :param folder: made if missing.
        :raises ValueError: when the config names no base.
        """
        if self.config.base is None:
            msg = "this reader has no base that an adapter could update: use save_pretrained"
            raise ValueError(msg)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        outputs = {
            name: weight.detach().cpu().contiguous() for name, weight in self.model.qa_outputs.named_parameters()
        }
        save_file(outputs, folder / HEAD, metadata={"format": "pt"})
        described = {"model_type": MODEL_TYPE, "format": FORMAT, **asdict(self.config)}
        (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    @torch.inference_mode()
    def _logits(self, windows: Sequence[Window]) -> list[tuple[Float32Array, Float32Array]]:
        """Those of starts and of ends, by window, each (tokens of the window,) float32."""
        found: list[Any] = [None] * len(windows)
        budget = TOKENS_PER_BATCH.get(self.device.type, 8_192)
        with_types = getattr(self.model.config, "type_vocab_size", 0) > 1  # else there is one segment, or no such input
        for batch in token_budget_batches([len(window.ids) for window in windows], budget):
            inputs = pad_windows([windows[i] for i in batch], self.tokenizer.pad_token_id, self.device)
            if not with_types:
                del inputs["token_type_ids"]
            output = self.model(**inputs)
            logits = torch.stack([output.start_logits, output.end_logits]).float().cpu().numpy()  # (2, batch, length)
            for row, i in enumerate(batch):
                found[i] = tuple(logits[:, row, : len(windows[i].ids)])
                if not np.isfinite(found[i]).all():
                    msg = f"the reader's logits are not finite in {output.start_logits.dtype}: read with dtype float32"
                    raise ValueError(msg)
        return found


def sha256_of_weights(folder: Path) -> str | None:
    """
    Identify the weights of a base.

    :param folder: of the base.
    :returns: 64 hexadecimal digits; `None` where the weights are not one `model.safetensors`.
    """
    weights = folder / "model.safetensors"
    return sha256_of(weights) if weights.is_file() else None


def confidences(margins: Sequence[float]) -> tuple[list[float], float]:
    """
    Turn the margins of a question's passages into probabilities.

    :param margins: the best of each passage.
    :returns: the probability of each, and that of "no answer"; they sum to 1.
    """
    values = np.array([*margins, 0.0])
    weights = np.exp(values - values.max())
    shares = weights / weights.sum()
    return [float(share) for share in shares[:-1]], float(shares[-1])


def pad_windows(windows: Sequence[Window], pad_token_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """
    Right-pad windows into the model's input.

    :param windows: any.
    :param pad_token_id: what to fill with.
    :param device: of the tensors.
    :returns: `input_ids`, `token_type_ids` and `attention_mask`, each (windows, longest) int64.
    """
    longest = max(len(window.ids) for window in windows)
    values = {
        "input_ids": [window.ids + [pad_token_id] * (longest - len(window.ids)) for window in windows],
        "token_type_ids": [window.types + [0] * (longest - len(window.ids)) for window in windows],
        "attention_mask": [[1] * len(window.ids) + [0] * (longest - len(window.ids)) for window in windows],
    }
    return {name: torch.tensor(rows, device=device) for name, rows in values.items()}


def new_reader(base: str, config: ReaderConfig, seed: int = 0) -> SpanReader:
    """
    A reader that has learnt nothing: a base with a fresh output layer, in float32 on the CPU.

    :param base: a folder, a pinned base or a hub id of a BERT-type encoder.
    :param config: how to read; shorter windows are taken for a base that reads no longer ones.
    :param seed: of the output layer.
    :returns: the reader.
    :raises ValueError: for a base of another kind.
    """
    home = resolve(base)
    torch.manual_seed(seed)
    model = _load_base(home)
    return SpanReader(model, load_tokenizer(home), _within(config, model))


@dataclass(frozen=True)
class _ScoredSpans:
    """
    Every span of a window.

    :param starts: (tokens,) first character of each token that a span may start or end with.
    :param ends: (tokens,) one past the last.
    :param margins: (tokens, tokens) float32 by first and last token; -inf where that is no span.
    """

    starts: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]
    margins: Float32Array


def _score_spans(window: Window, starts: Float32Array, ends: Float32Array, most_tokens: int) -> _ScoredSpans:
    tokens = np.array([i for i, at in enumerate(window.offsets) if at is not None])
    places = np.array([at for at in window.offsets if at is not None])
    margins = starts[tokens, None] + ends[None, tokens] - starts[0] - ends[0]
    apart = tokens[None, :] - tokens[:, None]
    margins[(apart < 0) | (apart >= most_tokens)] = -np.inf
    return _ScoredSpans(places[:, 0], places[:, 1], margins)


def _best_apart(scored: Sequence[_ScoredSpans], most: int) -> list[tuple[int, int, float]]:
    """The best spans of a passage's windows as (start, end, margin), greedily, none overlapping a better one."""
    found: list[tuple[int, int, float]] = []
    while scored and len(found) < most:
        best = max(scored, key=lambda each: each.margins.max())
        first, last = np.unravel_index(int(best.margins.argmax()), best.margins.shape)
        margin = float(best.margins[first, last])
        if margin == -np.inf:
            break
        start, end = int(best.starts[first]), int(best.ends[last])
        found.append((start, end, margin))
        for each in scored:  # windows share text, so another one may hold the same span
            each.margins[(each.starts[:, None] < end) & (each.ends[None, :] > start)] = -np.inf
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """A token's characters without the white space that byte-level tokenizers keep in it."""
    inner = text[start:end].strip()
    if not inner:
        return None
    start += text[start:end].index(inner)
    return start, start + len(inner)


def _read_config(folder: Path) -> dict[str, Any]:
    described = read_object(folder / CONFIG)
    if described.get("model_type") == "resrank":
        msg = (
            f"{folder} is a ResRank checkpoint, which ranks passages: expected a reader, which `resrank-train reader` "
            "makes, or a question-answering model of transformers"
        )
        raise ValueError(msg)
    return described


def _config_of(folder: Path, described: Any) -> ReaderConfig:
    try:
        values = {name: value for name, value in described.items() if name not in ("model_type", "format")}
        unknown = sorted(set(values) - {each.name for each in fields(ReaderConfig)})
        if described.get("format") != FORMAT or unknown:
            found = f"format {described.get('format')!r}" + (f" with {', '.join(unknown)}" if unknown else "")
            msg = f"this version of resrank reads format {FORMAT}, got {found}: install a matching resrank"
            raise ValueError(msg)
        return ReaderConfig(**values)
    except (AttributeError, TypeError, ValueError) as error:
        msg = f"{folder / CONFIG}: {error}"
        raise ValueError(msg) from error


def _position_limit(model: Any) -> int | None:
    """Tokens that a model reads at once."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    embedded = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedded, "padding_idx", None)
    return positions if padding is None else positions - padding - 1  # RoBERTa's first two are not for tokens


def _within(config: ReaderConfig, model: Any) -> ReaderConfig:
    """Windows of a smaller model's size."""
    limit = _position_limit(model)
    if limit is None or limit >= config.max_length:
        return config
    part = max(1, limit // 4)
    return replace(
        config,
        max_length=limit,
        stride=min(config.stride, part),
        max_query_length=min(config.max_query_length, part),
        max_answer_length=min(config.max_answer_length, part),
    )


def _load(folder: Path) -> Any:
    from transformers import AutoModelForQuestionAnswering

    load_config(folder)
    try:
        model, report = AutoModelForQuestionAnswering.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever a wrong value leads to
        msg = f"the reader in {folder} cannot be read ({error}): it is damaged, incomplete or of another kind"
        raise ValueError(msg) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        msg = (
            f"the model in {folder} lacks {len(missing)} weights ({', '.join(missing[:3])}): it is no trained reader; "
            "train one with `resrank-train reader`"
        )
        raise ValueError(msg)
    return model


def _load_base(folder: Path) -> Any:
    """A backbone with an output layer drawn at random."""
    from transformers import AutoModelForQuestionAnswering

    backbone = load_backbone(folder, dtype=torch.float32, attn_implementation="sdpa")
    model = AutoModelForQuestionAnswering.from_config(backbone.config, attn_implementation="sdpa")
    missing, _ = model.base_model.load_state_dict(backbone.state_dict(), strict=False)  # a pooler has no place in it
    if missing:
        msg = f"{folder}: expected a BERT-type encoder, got one without {', '.join(missing[:3])}"
        raise ValueError(msg)
    return model.eval()  # as transformers hands out models that it loads


def _load_head(model: Any, folder: Path) -> None:
    try:
        model.qa_outputs.load_state_dict(load_file(folder / HEAD))
    except (OSError, RuntimeError, SafetensorError) as error:
        msg = f"the reader in {folder} cannot be read ({error}): it is damaged or incomplete, get it again"
        raise ValueError(msg) from error
