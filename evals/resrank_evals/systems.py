# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Names of systems.

`bm25`, `dense`, `rrf`               the first stages; `dense:model=MY-CHECKPOINT` with another model than the run's
`resrank:pool=bm25,evidence=off`     ResRank on a first stage's candidates
`cross-encoder:MODEL,pool=rrf`       a sentence-transformers cross-encoder on their texts
`pe-rank:MODEL,window=none`          PE-Rank on their stored vectors
`e2rank:MODEL,k=20`                  E2Rank on their texts
`run:FILE`                           someone else's results, a TREC run
`FILE.yaml`                          any Haystack pipeline that takes a query and returns documents
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Pool = Literal["bm25", "dense", "rrf"]
Order = Literal["given", "shuffled"]

POOLS: tuple[Pool, ...] = get_args(Pool)
_SWITCH = {"on": True, "off": False}
# Rerankers of a model that is named with them, and their options.
_PEERS = {
    "cross-encoder": ("pool", "depth"),
    "pe-rank": ("pool", "depth", "window"),
    "e2rank": ("pool", "depth", "k", "length", "prompt", "query"),
}


@dataclass(frozen=True)
class FirstStageSystem:
    """
    A first stage alone.

    :param pool: which.
    :param model: another checkpoint than the run's; its encoder embeds the collection anew.
    """

    pool: Pool
    model: str | None = None

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: the pool's name, with what differs from the default.
        """
        return self.pool if self.model is None else f"{self.pool}:model={self.model}"


@dataclass(frozen=True)
class ResRankSystem:
    """
    `ResRankRanker` on a first stage's candidates.

    :param pool: whose candidates.
    :param evidence: use the first stage's evidence; without it, vectors only.
    :param attention: `causal` or `order_free`; `None` as the checkpoint says.
    :param order: of the candidates: as the first stage gave them, or shuffled with a seed.
    :param model: another checkpoint than the run's; its encoder embeds the collection anew, for its first stage too.
    """

    pool: Pool = "rrf"
    evidence: bool = True
    attention: Literal["causal", "order_free"] | None = None
    order: Order = "given"
    model: str | None = None

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: `resrank`, with what differs from the default.
        """
        options = {
            "pool": None if self.pool == "rrf" else self.pool,
            "evidence": None if self.evidence else "off",
            "attention": self.attention,
            "order": None if self.order == "given" else self.order,
            "model": self.model,
        }
        shown = ",".join(f"{name}={value}" for name, value in options.items() if value is not None)
        return f"resrank:{shown}" if shown else "resrank"


@dataclass(frozen=True)
class CrossEncoderSystem:
    """
    A cross-encoder that reads query and passage together.

    :param model: name or folder of a sentence-transformers CrossEncoder.
    :param pool: whose candidates.
    :param depth: how many of them it reads; the others follow in the pool's order. `None` is all.
    """

    model: str
    pool: Pool = "rrf"
    depth: int | None = None

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: model and pool.
        """
        return _named("cross-encoder", self.model, pool=(self.pool, "rrf"), depth=(_or(self.depth, "all"), "all"))


@dataclass(frozen=True)
class PERankSystem:
    """
    PE-Rank on the candidates' stored vectors.

    :param model: folder of a model that was trained on vectors of the run's encoder.
    :param pool: whose candidates.
    :param depth: how many of them it reads; the others follow in the pool's order. `None` is all.
    :param window: passages in one prompt, moved to the front by half of it; `None` takes all at once.
    """

    model: str
    pool: Pool = "rrf"
    depth: int | None = None
    window: int | None = 20

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: model, and what differs from the default.
        """
        return _named(
            "pe-rank",
            self.model,
            pool=(self.pool, "rrf"),
            depth=(_or(self.depth, "all"), "all"),
            window=(_or(self.window, "none"), "20"),
        )


@dataclass(frozen=True)
class E2RankSystem:
    """
    E2Rank on the candidates' texts.

    :param model: name or folder of an E2Rank model.
    :param pool: whose candidates.
    :param depth: how many of them it reads; the others follow in the pool's order. `None` is all.
    :param k: how many of them the prompt holds.
    :param length: tokens of a passage's text.
    :param prompt: tokens of it in the prompt; `None` is `length`.
    :param query: tokens of the query in the prompt; `None` cuts nothing.
    """

    model: str
    pool: Pool = "rrf"
    depth: int | None = None
    k: int = 20
    length: int = 1024
    prompt: int | None = None
    query: int | None = None

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: model, and what differs from the default.
        """
        return _named(
            "e2rank",
            self.model,
            pool=(self.pool, "rrf"),
            depth=(_or(self.depth, "all"), "all"),
            k=(str(self.k), "20"),
            length=(str(self.length), "1024"),
            prompt=(_or(self.prompt, "length"), "length"),
            query=(_or(self.query, "none"), "none"),
        )


@dataclass(frozen=True)
class RunSystem:
    """
    Results that were made elsewhere.

    :param path: the TREC run; `{collection}` in it stands for the collection's name.
    """

    path: str

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: the file as it was named.
        """
        return f"run:{self.path}"

    def file(self, collection: str) -> Path:
        """
        Where the results on a collection are.

        :param collection: its name.
        :returns: the file.
        """
        return Path(self.path.replace("{collection}", collection))


@dataclass(frozen=True)
class PipelineSystem:
    """
    A Haystack pipeline.

    :param path: of its YAML. Stores of the type `QdrantEdgeDocumentStore` in it are pointed at the collection.
    """

    path: str

    @property
    def name(self) -> str:
        """
        For tables.

        :returns: the file as it was named.
        """
        return self.path


Reranker = ResRankSystem | CrossEncoderSystem | PERankSystem | E2RankSystem
System = FirstStageSystem | Reranker | RunSystem | PipelineSystem


def parse_system(text: str) -> System:
    """
    Understand the name of a system.

    :param text: see the module.
    :returns: the system.
    :raises ValueError: for another form, an unknown option or a bad value, saying which are there.
    :raises FileNotFoundError: for a run or pipeline that is not there.
    """
    kind, _, rest = text.strip().partition(":")
    if kind in POOLS:
        return FirstStageSystem(kind, _options(text, rest, ("model",)).get("model"))
    if kind == "resrank":
        options = _options(text, rest, ("pool", "evidence", "attention", "order", "model"))
        attention = _choice(text, "attention", options.get("attention"), ("causal", "order_free"))
        return ResRankSystem(
            pool=_choice(text, "pool", options.get("pool"), POOLS) or "rrf",
            evidence=_SWITCH[_choice(text, "evidence", options.get("evidence"), tuple(_SWITCH)) or "on"],
            attention=attention,
            order=_choice(text, "order", options.get("order"), get_args(Order)) or "given",
            model=options.get("model"),
        )
    if kind in _PEERS and rest:
        model, _, more = rest.partition(",")
        options = _options(text, more, _PEERS[kind])
        pool: Pool = _choice(text, "pool", options.get("pool"), POOLS) or "rrf"
        depth = _whole_or(text, "depth", options, "all", 1)
        if kind == "cross-encoder":
            return CrossEncoderSystem(model, pool=pool, depth=depth)
        if kind == "e2rank":
            return E2RankSystem(
                model,
                pool=pool,
                depth=depth,
                k=_whole(text, "k", options.get("k", "20"), 1),
                length=_whole(text, "length", options.get("length", "1024"), 1),
                prompt=_whole_or(text, "prompt", options, "length", 1),
                query=_whole_or(text, "query", options, "none", 1),
            )
        options.setdefault("window", "20")
        return PERankSystem(model, pool=pool, depth=depth, window=_whole_or(text, "window", options, "none", 2))
    if kind == "run" and rest:
        if "{collection}" not in rest and not Path(rest).is_file():
            msg = f"system {text!r}: there is no file {rest}"
            raise FileNotFoundError(msg)
        return RunSystem(rest)
    if text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            msg = f"system {text!r}: there is no file {text}"
            raise FileNotFoundError(msg)
        return PipelineSystem(text)
    msg = (
        f"unknown system {text!r}: expected bm25, dense, rrf, resrank[:pool=…,evidence=on|off,attention=…,order=…,"
        "model=…], cross-encoder:MODEL[,pool=…,depth=all], "
        "pe-rank:MODEL[,pool=…,depth=all,window=20|none], "
        "e2rank:MODEL[,pool=…,depth=all,k=20,length=1024,prompt=length,query=none], "
        "run:FILE, or a pipeline's FILE.yaml"
    )
    raise ValueError(msg)


def describe(system: System) -> dict[str, Any]:
    """
    A system as plain values.

    :param system: the system.
    :returns: its kind and options, for `settings`.
    """
    return {"kind": type(system).__name__, **asdict(system)}


def _named(kind: str, model: str, **options: tuple[str, str]) -> str:
    """`options` are (value, default) by name."""
    shown = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
    return ",".join([f"{kind}:{model}", *shown])


def _or(value: int | None, word: str) -> str:
    return word if value is None else str(value)


def _whole_or(text: str, name: str, options: dict[str, str], word: str, least: int) -> int | None:
    """A number, or nothing for the word, which is also what is meant without the option."""
    value = options.get(name, word)
    return None if value == word else _whole(text, name, value, least)


def _whole(text: str, name: str, value: str, least: int) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < least:
        msg = f"system {text!r}: {name} must be a number from {least} on, got {value!r}"
        raise ValueError(msg)
    return int(value)


def _options(text: str, rest: str, known: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in known or not value or name in options:
            msg = (
                f"system {text!r}: expected options {', '.join(f'{each}=…' for each in known)}, each once, got {part!r}"
            )
            raise ValueError(msg)
        options[name] = value
    return options


def _choice(text: str, name: str, value: str | None, choices: tuple[str, ...]) -> Any:
    if value is not None and value not in choices:
        msg = f"system {text!r}: {name} must be {' or '.join(choices)}, got {value!r}"
        raise ValueError(msg)
    return value
