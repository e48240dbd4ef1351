# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank serve`: search, answers and reranking over HTTP. Needs the extra `serve`."""
