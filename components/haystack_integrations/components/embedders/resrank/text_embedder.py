# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from haystack import component

from haystack_integrations.common.resrank.documents import check_query
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser


@component
class ResRankTextEmbedder(ModelUser):
    """
    Embeds a query with ResRank's Encoder-LLM, for any dense retriever.

    ```python
    from haystack_integrations.components.embedders.resrank import ResRankTextEmbedder

    embedder = ResRankTextEmbedder()
    print(len(embedder.run(text="how do I parse a date?")["embedding"]))  # 384
    ```
    """

    def __init__(self, *, model: ResRankModel | str = "resrank-mini") -> None:
        """
        Create the embedder; nothing loads yet.

        :param model: a `ResRankModel`, or a name, folder or hub id.
        """
        self._init_model(model)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """
        Embed one query. Prompt and length limit come from the checkpoint; a cut query is logged.

        :param text: the query.
        :returns: `embedding`: d floats of unit length.
        :raises TypeError: when `text` is not a string.
        :raises ValueError: when it is blank.
        """
        return {"embedding": self._loaded().encode_queries([check_query(text)])[0].tolist()}
