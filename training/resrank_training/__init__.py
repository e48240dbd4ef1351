# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Dual-stage joint optimisation of encoder and reranker; the command is `resrank-train`."""
