# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .embedding import StoredEmbedding
from .model import ResRankModel, loaded_models

__all__ = ["ResRankModel", "StoredEmbedding", "loaded_models"]
