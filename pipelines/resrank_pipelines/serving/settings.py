# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a server serves, where it listens, and its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_VARIABLE = "RESRANK_API_KEY"


@dataclass(frozen=True)
class Limits:
    """
    What one request may ask for. More is refused with a message that names the limit and what came.

    :param body_bytes: of a request.
    :param query_characters: of a query, question or chat message.
    :param documents: in a request to rerank.
    :param document_characters: of each of them; what the model cannot read of it is cut and reported.
    :param top_k: results of a search, passages that an answer is looked for in.
    :param timeout_s: seconds until a request is given up (504).
    :param in_flight: requests that are worked on or wait; more are turned away (503).
    :raises ValueError: for a limit that is not positive.
    """

    body_bytes: int = 8 * 1024 * 1024
    query_characters: int = 4_000
    documents: int = 1_000
    document_characters: int = 100_000
    top_k: int = 100
    timeout_s: float = 60.0
    in_flight: int = 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                msg = f"the limit {name} must be positive, got {value}"
                raise ValueError(msg)


@dataclass(frozen=True)
class ServeSettings:
    """
    One server.

    :param model: init parameters of `ResRankModel`.
    :param store: init parameters of the document store.
    :param with_store: `False` serves reranking alone, which needs no store.
    :param server: the store is a Qdrant server's: the definitions `*_server` are loaded.
    :param dense: dense retrieval only, no BM25.
    :param reader: init parameters of `ResRankReader`.
    :param llm: let an LLM answer instead of the reader, and serve OpenAI's chat completions.
    :param mcp: offer the endpoints as MCP tools at `/mcp`.
    :param share_passes: let requests that come at once share forward passes; `None` does so in float32. In bfloat16 and
        float16 a score depends visibly on what shares its pass.
    :param api_key: the bearer token that requests need; `None` needs none.
    :param local_only: refuse requests whose `Host` is not this machine: no web page can reach the server by a name that
        it points here. For servers on the loopback without a token.
    :param limits: of each request.
    """

    model: dict[str, Any] = field(default_factory=lambda: {"model": "resrank-mini"})
    store: dict[str, Any] = field(default_factory=dict)
    with_store: bool = True
    server: bool = False
    dense: bool = False
    reader: dict[str, Any] = field(default_factory=dict)
    llm: bool = False
    mcp: bool = False
    share_passes: bool | None = None
    api_key: str | None = field(default=None, repr=False)
    local_only: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def model_name(self) -> str:
        """
        What clients are told that ranked.

        :returns: the model's name, or the name of its folder.
        """
        name = str(self.model.get("model", "resrank-mini"))
        return Path(name).name or name


def check_address(host: str, api_key: str | None, *, open_to_all: bool) -> bool:
    """
    Refuse to serve other machines without a token.

    :param host: where to listen.
    :param api_key: the token.
    :param open_to_all: the user wants it so.
    :returns: whether the address is this machine's alone.
    :raises ValueError: when other machines could reach a server that asks for no token.
    """
    local = host == "localhost" or _is_loopback(host)
    if not local and api_key is None and not open_to_all:
        msg = (
            f"{host} can be reached from other machines, and no token is set: set {KEY_VARIABLE}, listen on 127.0.0.1 "
            "(the default), or say --without-token when something else keeps strangers out"
        )
        raise ValueError(msg)
    return local


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
