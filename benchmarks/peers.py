# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What ResRank is compared with: a cross-encoder and a sentence encoder on the very same backbone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resrank import sources
from resrank.runtime import Runtime

from .timing import milliseconds

BASE = "all-MiniLM-L6-v2"
_BATCH_SIZES = (8, 32, 100)

FullTextReranker = Callable[[str, Sequence[str]], Any]


def sentence_transformer(runtime: Runtime, weights: Mapping[str, Any] | None = None) -> Any:
    """
    The encoder of resrank-mini as sentence-transformers runs it.

    :param runtime: where and in which dtype.
    :param weights: of the trained backbone; `None` leaves those of the base model.
    :returns: a `SentenceTransformer`.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(sources.resolve(BASE)),
        device=str(runtime.device),
        model_kwargs={"dtype": runtime.dtype, "attn_implementation": "sdpa"},
        local_files_only=True,
    )
    if weights is not None:
        model[0].auto_model.load_state_dict(weights)
    return model


def cross_encoder(runtime: Runtime) -> Any:
    """
    A cross-encoder of MiniLM-L6's size.

    :param runtime: where and in which dtype.
    :returns: a sentence-transformers `CrossEncoder`.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_cross_encoder(Path(folder))
        return load_cross_encoder(Path(folder), runtime)


def save_cross_encoder(folder: Path) -> None:
    """
    Write MiniLM-L6's weights under a random classification head: speed and memory are all that counts.

    :param folder: made if missing.
    """
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    base = sources.resolve(BASE)
    torch.manual_seed(0)
    BertForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def load_cross_encoder(folder: Path, runtime: Runtime) -> Any:
    """
    Load what `save_cross_encoder` wrote.

    :param folder: of the model.
    :param runtime: where and in which dtype.
    :returns: a sentence-transformers `CrossEncoder`.
    """
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(folder),
        num_labels=1,
        max_length=512,
        device=str(runtime.device),
        model_kwargs={"dtype": runtime.dtype, "attn_implementation": "sdpa"},
        local_files_only=True,
    )


def fastest_batches(model: Any, query: str, texts: Sequence[str]) -> tuple[FullTextReranker, int]:
    """
    Give the cross-encoder the batch size that suits this machine best.

    :param model: a `CrossEncoder`.
    :param query: to try with.
    :param texts: to try with.
    :returns: a function of query and texts, and the batch size it uses.
    """

    def score(query: str, texts: Sequence[str], batch_size: int) -> Any:
        return model.predict([(query, text) for text in texts], batch_size=batch_size, show_progress_bar=False)

    score(query, texts[:2], 2)
    sizes = [size for size in _BATCH_SIZES if size <= len(texts)] or [len(texts)]
    took = {size: milliseconds(lambda size=size: score(query, texts, size)) for size in sizes}
    best = min(took, key=lambda size: took[size])
    return lambda query, texts: score(query, texts, best), best
