# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .ranker import ResRankRanker

__all__ = ["ResRankRanker"]
