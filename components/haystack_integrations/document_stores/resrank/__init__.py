# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .document_store import QdrantEdgeDocumentStore

__all__ = ["QdrantEdgeDocumentStore"]
