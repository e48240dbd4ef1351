# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A cross-encoder as a teacher: it reads query and passage together and scores each pair by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from resrank.runtime import Runtime
from resrank.sources import resolve
from resrank_evals.environment import weights_hash
from resrank_pipelines.indexing import Progress

from .labelling import Candidates, Order

# Without a head of its own a folder would be given a random one, and its labels would be noise.
_WITH_HEAD = ("ForSequenceClassification", "ForCausalLM")
_NO_LIMIT = 1_000_000  # what tokenizers say that know none


class CrossEncoderTeacher:
    """
    Orders candidates by the scores of a sentence-transformers `CrossEncoder`; ties in the order of the pool.

    Counts `pairs`, `cut` (pairs longer than the model reads) and `ties` (candidates with the score of another: many of
    them mean that the dtype is too coarse).

    :param model: a folder or a hub id; safetensors only, and none of its code is run.
    :param device: `cpu`, `cuda`, …; `None` takes the best one present.
    :param dtype: `auto`, `float32`, `bfloat16` or `float16`.
    :param batch_size: pairs in a forward pass.
    :raises FileNotFoundError: when there is no such model.
    :raises ImportError: when sentence-transformers is not installed.
    :raises ValueError: when it is no cross-encoder, or gives more than one score.
    """

    def __init__(self, model: str, *, device: str | None = None, dtype: str = "auto", batch_size: int = 32) -> None:
        runtime = Runtime.resolve(device, dtype)
        folder = resolve(model)
        self._model = open_cross_encoder(folder, model, runtime)
        self._batch_size = batch_size
        self._lengths: dict[str, int] = {}
        limit = self._model.max_seq_length
        self._limit = limit if limit is not None and limit < _NO_LIMIT else None
        self._weights = weights_hash(str(folder))
        # A folder's name alone: paths are of this machine.
        self._called = f"{folder.name} {str(self._weights)[:8]}" if Path(model).expanduser().is_dir() else model

    @property
    def name(self) -> str:
        """
        What tables call it.

        :returns: the hub id, or the folder's name with a hash of its weights.
        """
        return f"cross-encoder:{self._called}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """
        What decides its orders.

        :returns: name, hash of the weights, and tokens that it reads.
        """
        return {
            "kind": "cross-encoder",
            "model": self._called,
            "weights": self._weights,
            "max_length": self._limit,
        }

    def order(self, lists: Sequence[Candidates], progress: Progress) -> list[Order]:  # noqa: ARG002
        """
        Order lists; batches are made over all of them, of pairs of similar length.

        :param lists: any number.
        :param progress: not needed.
        :returns: an order for each.
        :raises ValueError: when a score is not a finite number.
        """
        pairs = [(each.query, text) for each in lists for text in each.texts]
        # Raw scores: a sigmoid turns high ones into ties. `predict` sorts by length itself.
        scores = np.asarray(
            self._model.predict(
                pairs, batch_size=self._batch_size, activation_fn=nn.Identity(), show_progress_bar=False
            ),
            dtype=np.float64,
        )
        orders = []
        start = 0
        for each in lists:
            mine = scores[start : start + len(each.texts)]
            start += len(each.texts)
            if not np.isfinite(mine).all():
                msg = f"{self.name} gave a score that is not a number for query {each.query_id!r}: try --dtype float32"
                raise ValueError(msg)
            ranking = np.argsort(-mine, kind="stable")
            counts = {"pairs": len(mine), "cut": self._cut(each), "ties": len(mine) - len(np.unique(mine))}
            orders.append(Order(tuple(int(i) for i in ranking), counts))
        return orders

    def _cut(self, each: Candidates) -> int:
        if self._limit is None:
            return 0
        self._measure([each.query, *each.texts])
        room = self._limit - self._model.tokenizer.num_special_tokens_to_add(pair=True) - self._lengths[each.query]
        return sum(self._lengths[text] > room for text in each.texts)

    def _measure(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._lengths]
        if new:
            ids = self._model.tokenizer(new, add_special_tokens=False, verbose=False)["input_ids"]
            self._lengths.update(zip(new, map(len, ids), strict=True))


def open_cross_encoder(folder: Path, name: str, runtime: Runtime) -> Any:
    """
    Load a trained cross-encoder.

    :param folder: of the model.
    :param name: as the user wrote it, for messages.
    :param runtime: where and how it runs.
    :returns: a sentence-transformers `CrossEncoder`.
    :raises ImportError: when sentence-transformers is not installed.
    :raises ValueError: when it is no cross-encoder, or gives more than one score.
    """
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        msg = "cross-encoder teachers need sentence-transformers: pip install 'resrank[training]'"
        raise ImportError(msg) from None
    without = _without_head(folder)
    if without is not None:
        msg = (
            f"{name}: expected a cross-encoder with a trained head, got {without}, which would be given a random one; "
            "train one with resrank-train teacher"
        )
        raise ValueError(msg)
    try:
        model = CrossEncoder(
            str(folder),
            device=str(runtime.device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": runtime.dtype, "use_safetensors": True},
        )
    except Exception as error:  # the libraries raise many kinds; all mean that it cannot be loaded
        msg = f"{name} cannot be loaded as a cross-encoder: {error}"
        raise ValueError(msg) from None  # a command shows the cause where there is one, and it names no model
    if model.num_labels != 1:
        msg = (
            f"{name}: expected a cross-encoder with one score a pair, got {model.num_labels}; a classifier cannot rank"
        )
        raise ValueError(msg)
    return model.eval()


def _without_head(folder: Path) -> str | None:
    """What is there instead of a cross-encoder; read as sentence-transformers reads folders."""
    if (folder / "modules.json").is_file():
        kind = _json(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
        return None if kind == "CrossEncoder" else f"a {kind}"
    architecture = str((_json(folder / "config.json").get("architectures") or ["no transformers model"])[0])
    return None if architecture.endswith(_WITH_HEAD) else architecture


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        msg = f"{path} is damaged ({error}): get the model again"
        raise ValueError(msg) from error
    return found if isinstance(found, dict) else {}
