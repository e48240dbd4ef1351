# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Results as Haystack's own evaluation sees them: its evaluators in a pipeline, and its `EvaluationRunResult`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from haystack import Document, Pipeline
from haystack.evaluation import EvaluationRunResult

from .collection import Collection
from .trec import Run

DEFINITION = Path(__file__).parent / "definitions" / "eval.yaml"


def evaluate_with_haystack(name: str, collection: Collection, run: Run) -> EvaluationRunResult:
    """
    Evaluate a run with Haystack's document evaluators.

    They look at whole lists: where measures need a cutoff, cut the run first. Their nDCG takes every relevant document
    into the ideal ranking, also beyond such a cutoff; the harness's measures, by trec_eval, are the ones to publish.

    ```python
    from resrank_evals.beir import load_beir
    from resrank_evals.haystack_native import evaluate_with_haystack
    from resrank_evals.trec import read_run

    result = evaluate_with_haystack("bm25", load_beir("scifact"), read_run("results/scifact/bm25/run.trec"))
    print(result.aggregated_report())
    ```

    :param name: of the run.
    :param collection: its queries and qrels.
    :param run: (passage id, score) by query id, best first; a query that it lacks has no results.
    :returns: Haystack's result, for its `aggregated_report`, `detailed_report` and `comparative_detailed_report`.
    :raises ValueError: when the collection has no query with a relevant passage. Queries without one are left out, as
        Haystack's evaluators cannot take them.
    """
    relevant = {
        query_id: [Document(id=id_, score=float(grade)) for id_, grade in grades.items() if grade > 0]
        for query_id, grades in collection.qrels.items()
    }
    ids = [query_id for query_id in collection.queries if relevant[query_id]]
    if not ids:
        msg = f"collection {collection.name!r} has no query with a relevant passage: there is nothing to evaluate"
        raise ValueError(msg)
    truth = [relevant[query_id] for query_id in ids]
    retrieved = [[Document(id=id_, score=score) for id_, score in run.get(query_id, [])] for query_id in ids]
    with DEFINITION.open(encoding="utf-8") as file:
        pipeline = Pipeline.load(file)
    results = pipeline.run({"ground_truth_documents": truth, "retrieved_documents": retrieved})
    queries = [collection.queries[query_id] for query_id in ids]
    inputs: dict[str, list[Any]] = {"query_id": ids, "query": queries, "relevant": truth, "retrieved": retrieved}
    return EvaluationRunResult(name, inputs, results)
