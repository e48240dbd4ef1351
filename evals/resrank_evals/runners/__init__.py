# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""How each kind of system ranks the queries of a collection: through Haystack components, timed a query at a time."""

from .cross_encoder import rank_by_cross_encoder
from .e2rank import rank_by_e2rank
from .pe_rank import rank_by_pe_rank
from .pipeline import rank_by_pipeline, read_definition
from .ranking import Ranking
from .resrank import rank_by_resrank
from .trec_run import read_ranking

__all__ = [
    "Ranking",
    "rank_by_cross_encoder",
    "rank_by_e2rank",
    "rank_by_pe_rank",
    "rank_by_pipeline",
    "rank_by_resrank",
    "read_definition",
    "read_ranking",
]
