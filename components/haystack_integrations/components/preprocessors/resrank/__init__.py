# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .new_passage_filter import NewPassageFilter

__all__ = ["NewPassageFilter"]
