# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .edge_retriever import QdrantEdgeEmbeddingRetriever
from .retriever import ResRankRetriever

__all__ = ["QdrantEdgeEmbeddingRetriever", "ResRankRetriever"]
