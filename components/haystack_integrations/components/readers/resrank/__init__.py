# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .reader import ResRankReader

__all__ = ["ResRankReader"]
