# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .collection import Collection, Passage
from .results import SystemResult

__all__ = ["Collection", "Passage", "SystemResult"]
