# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What every component that runs the model does alike: hold it, warm it up, let it go."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, ClassVar

from .model import ResRankModel

if TYPE_CHECKING:
    from resrank import ResRank


class ModelUser:
    """
    Base of components with a `model` parameter.

    :param model: the handle, or its short form.
    """

    model: ResRankModel
    _parts: ClassVar[tuple[str, ...]] = ("encoder",)

    def _init_model(self, model: ResRankModel | str) -> None:
        self.model = ResRankModel.of(model)
        self._engine: ResRank | None = None

    def warm_up(self) -> None:
        """
        Load what this component needs, once. `run` does it when nobody did.
        """
        self._loaded()

    async def warm_up_async(self) -> None:
        """
        Load in a thread, so that a server goes on answering meanwhile.
        """
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """
        Let the model go; it is freed when no other component holds it. A later `run` loads it again.
        """
        engine, self._engine = self._engine, None
        if engine is not None and engine.runtime.device.type == "cuda":
            import torch

            del engine
            gc.collect()
            torch.cuda.empty_cache()  # give what is free now back to the device

    def _loaded(self) -> ResRank:
        engine = self._engine
        if engine is None:
            engine = self.model.load(*self._parts)
            self._engine = engine
        return engine
