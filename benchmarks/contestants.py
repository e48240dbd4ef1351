# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The models under test, each with the full-text reranker that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from resrank import ResRank
from resrank.config import Attention

from .peers import FullTextReranker
from .settings import Settings


@dataclass(frozen=True)
class Contestant:
    """
    A model, and a cross-encoder of the same size and dtype.

    :param name: attention of the reranker, and its kernels.
    :param model: loaded.
    :param full_text: scores a query's texts, reading each one whole.
    :param notes: what is random, which batch size, ….
    """

    name: str
    model: ResRank
    full_text: FullTextReranker
    notes: tuple[str, ...] = ()


def contestants(settings: Settings, query: str, texts: list[str]) -> list[Contestant]:
    """
    Load what `rerank` compares.

    :param settings: of the run.
    :param query: to try batch sizes with.
    :param texts: likewise.
    :returns: one, or one for each kind of attention of a twin.
    """
    if settings.twin is not None:
        from .twins import twin_contestants

        return twin_contestants(settings)
    from .peers import cross_encoder, fastest_batches

    model = mini(settings)
    full_text, batch_size = fastest_batches(cross_encoder(settings.runtime()), query, texts)
    notes = (
        f"cross-encoder: MiniLM-L6 weights, random head, best of batch sizes: {batch_size}",
        *untrained(model),
    )
    return [Contestant(attention(model), model, full_text, notes)]


def growing_models(settings: Settings) -> dict[str, ResRank]:
    """
    Load what `growth` compares.

    :param settings: of the run.
    :returns: models by attention and kernels.
    """
    if settings.twin is not None:
        from .twins import twin_contestants

        return {contestant.name: contestant.model for contestant in twin_contestants(settings)}
    models = [mini(settings), mini(settings, "causal")]
    return {attention(model): model for model in models}


@cache
def mini(settings: Settings, reranker_attention: Attention = "order_free") -> ResRank:
    """
    Load resrank-mini, once in a run.

    :param settings: of the run.
    :param reranker_attention: `order_free`, its own, or `causal` with the same weights.
    :returns: the model.
    """
    from resrank.checkpoint import Checkpoint, read_config
    from resrank.sources import DEFAULT_MODEL, resolve

    runtime = settings.runtime()
    folder = resolve(DEFAULT_MODEL)
    config = read_config(folder).with_reranker(attention=reranker_attention)
    model = ResRank(Checkpoint(config, folder, lambda source, revision: resolve(source, revision=revision)), runtime)
    return model.load()


def attention(model: ResRank) -> str:
    """
    Attention of a model's reranker.

    :param model: loaded.
    :returns: e.g. `order_free, sdpa`.
    """
    kernels = model.reranker.backbone.config._attn_implementation
    return f"{model.config.reranker.attention}, {kernels}"


def untrained(model: ResRank) -> tuple[str, ...]:
    """
    Say when the weights are not trained yet.

    :param model: in `evidence` mode.
    :returns: a note, or nothing.
    """
    if bool(model.head.query_out.weight.any()):
        return ()
    return ("the reranker is at safe start (not trained): its speed is the same, its ranking is the first stage's",)
