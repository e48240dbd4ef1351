# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The one description of a ResRank model: `config.json` of a checkpoint, read by training, evaluation and serving."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args

Pooling = Literal["mean", "cls", "last"]
Attention = Literal["causal", "order_free"]
Mode = Literal["evidence", "paper"]

FORMAT = 1

_T = TypeVar("_T")


@dataclass(frozen=True)
class EncoderConfig:
    """
    The Encoder-LLM: one vector per text.

    :param source: where the weights come from when the checkpoint has no `encoder/` folder: a folder, a hub id, or the
        name of a pinned base in `resrank.sources`.
    :param revision: the hub revision of `source`.
    :param pooling: `mean`, `cls` or `last` token. `None` takes what the sentence-transformers folder says.
    :param max_length: longest passage in tokens, special tokens included; longer ones are cut, counted and reported.
        `None` takes what the folder says.
    :param max_query_length: longest query in tokens; `None` means `max_length`.
    :param query_prompt: text put before each query; `None` takes the folder's `query` prompt.
    :param passage_prompt: text put before each passage; `None` takes the folder's `document` or `passage` prompt.
    """

    source: str | None = None
    revision: str | None = None
    pooling: Pooling | None = None
    max_length: int | None = None
    max_query_length: int | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("source", "revision", "query_prompt", "passage_prompt"):
            _check_text(f"encoder.{name}", getattr(self, name))
        _check_choice("encoder.pooling", self.pooling, get_args(Pooling), optional=True)
        _check_positive("encoder.max_length", self.max_length, optional=True)
        _check_positive("encoder.max_query_length", self.max_query_length, optional=True)


@dataclass(frozen=True)
class RerankerConfig:
    """
    The Reranker-LLM: reads one position per passage.

    :param source: a folder or hub id when the checkpoint has no `reranker/` folder; `None` starts it from the encoder's
        layers.
    :param revision: the hub revision of `source`.
    :param encoder_layers: which layers of the encoder it starts from, when it does. Their token embeddings are shared.
    :param attention: `order_free` (bidirectional over the passage slots, all at one position: scores do not depend on
        the order of the candidates) or `causal` (the paper's).
    :param query_template: text before the passage slots; `{query}` stands for the query.
    :param closing_template: text after them, followed by the end token; the hidden state there is g.
    :param max_query_length: tokens of the query in each template; longer ones are cut, counted and reported.
    :param max_candidates: most candidates in one forward pass. More are ranked in windows (see `resrank.windows`).
    :param window_anchors: candidates of the first window repeated in each later one, so that scores are comparable.
    """

    source: str | None = None
    revision: str | None = None
    encoder_layers: tuple[int, ...] | None = None
    attention: Attention = "order_free"
    query_template: str = "{query}"
    closing_template: str = "{query}"
    max_query_length: int = 128
    max_candidates: int = 4096
    window_anchors: int = 16

    def __post_init__(self) -> None:
        for name in ("source", "revision"):
            _check_text(f"reranker.{name}", getattr(self, name))
        _check_choice("reranker.attention", self.attention, get_args(Attention))
        _check_positive("reranker.max_query_length", self.max_query_length)
        _check_positive("reranker.max_candidates", self.max_candidates)
        _check_positive("reranker.window_anchors", self.window_anchors)
        for name in ("query_template", "closing_template"):
            template = getattr(self, name)
            if not isinstance(template, str) or template.count("{query}") != 1:
                msg = f"reranker.{name} must hold '{{query}}' exactly once, got {template!r}"
                raise ValueError(msg)
        if self.encoder_layers is not None:
            if not isinstance(self.encoder_layers, list | tuple) or not all(
                type(i) is int for i in self.encoder_layers
            ):
                msg = f"reranker.encoder_layers must be a list of integers, got {self.encoder_layers!r}"
                raise ValueError(msg)
            object.__setattr__(self, "encoder_layers", tuple(self.encoder_layers))


@dataclass(frozen=True)
class LexicalConfig:
    """
    BM25, computed by Qdrant's own tokeniser so that the embedded store and a server rank alike.

    :param language: stemmer and stop words.
    :param k: term-frequency saturation.
    :param b: length normalisation, 0 to 1.
    :param avg_len: expected passage length in terms, stop words not counted, for the length normalisation. 64 did as
        well as each collection's own average on nine collections whose averages are 13 to 85.
    """

    language: str = "english"
    k: float = 1.2
    b: float = 0.75
    avg_len: float = 64.0

    def __post_init__(self) -> None:
        if not isinstance(self.language, str):
            msg = f"lexical.language must be a name, got {self.language!r}"
            raise ValueError(msg)
        for name in ("k", "b", "avg_len"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                msg = f"lexical.{name} must be a number, got {value!r}"
                raise ValueError(msg)
        if self.k < 0 or not 0 <= self.b <= 1 or self.avg_len <= 0:
            msg = (
                f"lexical needs k >= 0, 0 <= b <= 1 and avg_len > 0, got k={self.k}, b={self.b}, avg_len={self.avg_len}"
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class ResRankConfig:
    """
    A whole model.

    :param mode: `evidence` (safe start, first-stage evidence; what `resrank-mini` uses) or `paper` (ResRank as
        published).
    :param residual: whether scores see the passage vectors themselves beside what the reranker makes of them; `False`
        is for ablations.
    :param rrf_k: the constant of reciprocal rank fusion; 60 as in Cormack et al. 2009.
    :param evidence_share: how much of what the reranker adds to the score of the evidence counts, from 0 to 1. In lists
        without evidence all of it counts.
    """

    mode: Mode = "evidence"
    residual: bool = True
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    reranker: RerankerConfig = field(default_factory=RerankerConfig)
    lexical: LexicalConfig = field(default_factory=LexicalConfig)
    rrf_k: int = 60
    evidence_share: float = 1.0

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, get_args(Mode))
        _check_positive("rrf_k", self.rrf_k)
        if not isinstance(self.residual, bool):
            msg = f"residual must be true or false, got {self.residual!r}"
            raise ValueError(msg)
        share = self.evidence_share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            msg = f"evidence_share must be a number from 0 to 1, got {share!r}"
            raise ValueError(msg)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ResRankConfig:
        """
        Read what `to_dict` wrote.

        :param values: the parsed `config.json`.
        :returns: the validated config.
        :raises ValueError: when it is not a ResRank config, is of another format, or holds an unknown or wrong value.
        """
        values = dict(values)
        kind = values.pop("model_type", None)
        if kind == "resrank-reader":
            msg = "the folder holds a reader, which finds answers in passages and does not rank: load it by SpanReader"
            raise ValueError(msg)
        if kind != "resrank":
            msg = (
                "expected a ResRank config.json (model_type 'resrank'); got another kind of model. "
                "Start a ResRank model from plain backbones with ResRank.from_backbones(encoder=…)"
            )
            raise ValueError(msg)
        found = values.pop("format", None)
        if found != FORMAT:
            msg = f"this version of resrank reads checkpoint format {FORMAT}, got {found!r}: install a matching resrank"
            raise ValueError(msg)
        parts = {"encoder": EncoderConfig, "reranker": RerankerConfig, "lexical": LexicalConfig}
        for name, part in parts.items():
            if name in values:
                values[name] = _build(part, values[name], name)
        return _build(cls, values, "config")

    def to_dict(self) -> dict[str, Any]:
        """
        The JSON form.

        :returns: plain values only; `from_dict` reads it.
        """
        values = asdict(self)
        layers = self.reranker.encoder_layers
        values["reranker"]["encoder_layers"] = None if layers is None else list(layers)
        return {"model_type": "resrank", "format": FORMAT, **values}

    def with_encoder(self, **changes: Any) -> ResRankConfig:
        """
        A copy with other encoder values.

        :param changes: fields of `EncoderConfig`.
        :returns: the changed copy.
        """
        return replace(self, encoder=replace(self.encoder, **changes))

    def with_reranker(self, **changes: Any) -> ResRankConfig:
        """
        A copy with other reranker values.

        :param changes: fields of `RerankerConfig`.
        :returns: the changed copy.
        """
        return replace(self, reranker=replace(self.reranker, **changes))


def _build(cls: type[_T], values: Any, where: str) -> _T:
    if not isinstance(values, dict):
        msg = f"{where}: expected an object, got {type(values).__name__}"
        raise ValueError(msg)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        msg = f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        raise ValueError(msg)
    return cls(**values)


def _check_choice(name: str, value: Any, allowed: tuple[str, ...], *, optional: bool = False) -> None:
    if (value is None and optional) or value in allowed:
        return
    msg = f"{name} must be one of {', '.join(allowed)}, got {value!r}"
    raise ValueError(msg)


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        msg = f"{name} must be a text or null, got {value!r}"
        raise ValueError(msg)


def _check_positive(name: str, value: Any, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        msg = f"{name} must be a positive integer, got {value!r}"
        raise ValueError(msg)
