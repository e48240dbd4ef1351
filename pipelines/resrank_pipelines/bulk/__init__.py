# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Bulk indexing: corpora of any size into one store, in bounded memory, on one process, several, or many machines."""
