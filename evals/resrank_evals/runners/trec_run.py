# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from resrank_evals.collection import Collection
from resrank_evals.systems import RunSystem
from resrank_evals.trec import read_run

from .ranking import Ranking, check_ids


def read_ranking(system: RunSystem, collection: Collection) -> Ranking:
    """
    Read results that were made elsewhere.

    :param system: names the file.
    :param collection: they must belong to.
    :returns: the ranking, of the evaluated queries only.
    :raises FileNotFoundError: when there is no such file.
    :raises ValueError: for a damaged line, passages that the collection does not have, or no query in common.
    """
    path = system.file(collection.name)
    run = read_run(path)
    evaluated = {query_id: hits for query_id, hits in run.items() if query_id in collection.queries}
    if not evaluated:
        msg = f"{path} has no query of {collection.name}: expected ids like {next(iter(collection.queries))!r}, " + (
            f"got {next(iter(run))!r}" if run else "got none"
        )
        raise ValueError(msg)
    check_ids(evaluated, collection, str(path))
    return Ranking(evaluated)
