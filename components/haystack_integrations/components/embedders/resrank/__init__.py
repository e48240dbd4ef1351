# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .document_embedder import ResRankDocumentEmbedder
from .text_embedder import ResRankTextEmbedder

__all__ = ["ResRankDocumentEmbedder", "ResRankTextEmbedder"]
