# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The serialisable handle that ResRank components share."""

from __future__ import annotations

import gc
import inspect
import json
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret

if TYPE_CHECKING:
    from resrank import ResRank
    from resrank.config import Attention

_T = TypeVar("_T")
_LOADED: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_GUARD = threading.Lock()


class ResRankModel:
    """
    Names a model and how to run it; cheap to build, nothing loads until `load`.

    Handles that mean the same share **one** loaded model per process, however many components and pipelines hold them,
    also when they warm up at once from many threads. It is freed when the last component that uses it is closed.

    ```python
    from haystack_integrations.common.resrank import ResRankModel
    from haystack_integrations.components.rankers.resrank import ResRankRanker

    ranker = ResRankRanker(model=ResRankModel("resrank-mini", dtype="float32"))
    ```

    :param model: `resrank-mini` (default), another shipped name, a checkpoint folder, or a hub id.
    :param device: a `ComponentDevice` or a torch device string; `None` takes the best one when loading, so that the
        same YAML runs on a laptop and on a GPU host.
    :param dtype: `auto`, `float32`, `bfloat16` or `float16`.
    :param attn_implementation: `auto`, `sdpa`, `eager` or `flash_attention_2`.
    :param attention: run the reranker `causal` or `order_free`; `None` as it was trained.
    :param revision: of a hub id.
    :param token: for private hub repositories; resolved when loading.
    :param local_files_only: never download.
    :raises TypeError: when `model` is not a string.
    :raises ValueError: for another `attention`.
    """

    def __init__(
        self,
        model: str = "resrank-mini",
        *,
        device: ComponentDevice | str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "auto",
        attention: Attention | None = None,
        revision: str | None = None,
        token: Secret | None = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),  # noqa: B008
        local_files_only: bool = False,
    ) -> None:
        if not isinstance(model, str):
            msg = f"model must be a name, a folder or a hub id, got {type(model).__name__}"
            raise TypeError(msg)
        self.model = model
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        if attention not in (None, "causal", "order_free"):
            msg = f"attention must be 'causal', 'order_free' or None, got {attention!r}"
            raise ValueError(msg)
        self.attention = attention
        self.revision = revision
        self.token = token
        self.local_files_only = local_files_only

    @classmethod
    def of(cls, model: ResRankModel | str) -> ResRankModel:
        """
        Accept the short form that components take.

        :param model: a handle, or what its `model` parameter takes.
        :returns: a handle.
        """
        return model if isinstance(model, ResRankModel) else cls(model)

    def load(self, *parts: str) -> ResRank:
        """
        Get the loaded model, the same object for every handle that means the same.

        Whoever calls keeps a reference for as long as it needs the model; dropping it frees the memory.

        :param parts: `encoder`, `reranker`; only these are loaded. None loads nothing yet.
        :returns: the model.
        :raises FileNotFoundError: when there is no such model.
        :raises ValueError: when it cannot run as asked.
        """
        from resrank import ResRank
        from resrank.runtime import Runtime
        from resrank.sources import identity

        device = None if self.device is None else self.device.to_torch_str()
        runtime = Runtime.resolve(device, self.dtype, self.attn_implementation)
        key = json.dumps([identity(self.model), self.revision, self.attention, str(runtime)])
        engine = shared(
            key,
            lambda: ResRank.from_pretrained(
                self.model,
                device=device,
                dtype=self.dtype,
                attn_implementation=self.attn_implementation,
                attention=self.attention,
                revision=self.revision,
                token=None if self.token is None else self.token.resolve_value(),
                local_files_only=self.local_files_only,
            ),
        )
        return engine.load(*parts) if parts else engine

    def changed(self, **parameters: Any) -> ResRankModel:
        """
        A handle like this one with other parameters.

        :param parameters: of the constructor.
        :returns: the other handle.
        """
        own = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return type(self)(**{**own, **parameters})

    def to_dict(self) -> dict[str, Any]:
        """
        Serialise.

        :returns: the dictionary form; devices and tokens stay unresolved.
        """
        return default_to_dict(
            self,
            model=self.model,
            device=self.device,
            dtype=self.dtype,
            attn_implementation=self.attn_implementation,
            attention=self.attention,
            revision=self.revision,
            token=self.token,
            local_files_only=self.local_files_only,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResRankModel:
        """
        Deserialise.

        :param data: what `to_dict` gave.
        :returns: an equal handle.
        """
        return default_from_dict(cls, data)


def shared(key: str, load: Callable[[], _T]) -> _T:
    """
    Get what one key stands for, loaded once per process for as long as somebody holds it.

    :param key: says everything that loading depends on.
    :param load: makes it; one thread at a time.
    :returns: the same object for everybody who asks meanwhile.
    """
    with _GUARD:
        found: _T | None = _LOADED.get(key)
        if found is None:
            found = load()
            _LOADED[key] = found
        return found


def loaded_models() -> int:
    """
    How many models, readers among them, this process holds in memory.

    :returns: a count; unreachable ones are collected first.
    """
    gc.collect()
    return len(_LOADED)
