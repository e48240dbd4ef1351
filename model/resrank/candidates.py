# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""One query's candidates: checked, normalised, and on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .encoder import Float32Array
from .evidence import Evidence
from .head import Head, complete_features


class ListTensors:
    """
    One query's candidates on the device.

    :param query: (d,) float32 unit vector.
    :param passages: (n, d) float32 unit vectors.
    :param features: (n, 10) float32 evidence, NaN where unknown.
    :param prior: (n,) float32 first-stage scores.
    :param has_evidence: () bool, whether anything is known of any candidate of the whole list; `None` looks at these.
    """

    def __init__(
        self,
        query: torch.Tensor,
        passages: torch.Tensor,
        features: torch.Tensor,
        prior: torch.Tensor,
        has_evidence: torch.Tensor | None = None,
    ) -> None:
        self.query, self.passages, self.features, self.prior = query, passages, features, prior
        self.has_evidence = (~torch.isnan(features)).any() if has_evidence is None else has_evidence

    def select(self, rows: Any) -> ListTensors:
        """
        Some of the candidates.

        :param rows: their indices.
        :returns: a view in that order.
        """
        index = torch.as_tensor(rows, device=self.passages.device)
        return ListTensors(self.query, self.passages[index], self.features[index], self.prior[index], self.has_evidence)


class CandidateList:
    """
    One query's candidates, checked and normalised.

    :param query: its text.
    :param query_vector: (d,) float32 unit vector.
    :param passages: (n, d) float32 unit vectors.
    :param features: (n, 10) float32 evidence, NaN where unknown.
    """

    def __init__(self, query: str, query_vector: Float32Array, passages: Float32Array, features: Float32Array) -> None:
        self.query, self.query_vector, self.passages, self.features = query, query_vector, passages, features

    @classmethod
    def checked(
        cls, query: str, query_embedding: Any, passage_embeddings: Any, evidence: Evidence | None, dimension: int
    ) -> CandidateList:
        """
        Check what a caller gave.

        :param query: its text.
        :param query_embedding: (d,) array-like.
        :param passage_embeddings: (n, d) array-like.
        :param evidence: of these candidates; `None` is the pure mode.
        :param dimension: the model's d.
        :returns: the list.
        :raises ValueError: for wrong shapes, or vectors that cannot be scored.
        :raises TypeError: when the evidence is of another type.
        """
        if evidence is not None and not isinstance(evidence, Evidence):
            msg = f"evidence must be an Evidence or None, got {type(evidence).__name__}"
            raise TypeError(msg)
        passages = as_vectors(passage_embeddings, dimension, "passage_embeddings")
        query_vector = as_vectors([query_embedding], dimension, "query_embedding")[0]
        found = evidence if evidence is not None else Evidence.unknown(len(passages))
        if len(found.features) != len(passages):
            msg = f"evidence must have one row a candidate: expected {len(passages)}, got {len(found.features)}"
            raise ValueError(msg)
        return cls(query, query_vector, passages, found.features)

    def tensors(self, head: Head, device: torch.device) -> ListTensors:
        """
        Move to the device, with the prior.

        :param head: computes the prior.
        :param device: of the model.
        :returns: tensors.
        """
        query, passages = torch.from_numpy(self.query_vector).to(device), torch.from_numpy(self.passages).to(device)
        features = complete_features(query, passages, torch.from_numpy(self.features).to(device))
        return ListTensors(query, passages, features, head.prior(query, passages, features))


class UnusableVectorsError(ValueError):
    """
    Vectors that are zero or hold NaN or infinite values.

    :param name: of the argument.
    :param rows: which of its vectors.
    :param total: how many vectors it has.
    """

    def __init__(self, name: str, rows: list[int], total: int) -> None:
        self.name = name
        self.rows = rows
        shown = f"{', '.join(map(str, rows[:5]))}{', …' if len(rows) > 5 else ''}"
        super().__init__(
            f"{name}: {len(rows)} of {total} vectors are zero or hold NaN or infinite values (rows {shown}): "
            "encode these texts again"
        )


def as_vectors(values: Any, dimension: int, name: str) -> Float32Array:
    """
    Check vectors and make them unit length.

    :param values: (n, d) array-like.
    :param dimension: the expected d.
    :param name: for the error message.
    :returns: (n, d) float32 unit vectors, a copy.
    :raises ValueError: for a wrong shape.
    :raises UnusableVectorsError: for NaN, infinite or zero vectors; names the rows.
    """
    if isinstance(values, torch.Tensor):  # on any device, of any dtype; numpy has no bfloat16
        values = values.detach().float().cpu().numpy()
    try:
        if len(values) == 0:
            return np.empty((0, dimension), dtype=np.float32)
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be numbers of the shape (n, {dimension}): {error}"
        raise ValueError(msg) from error
    if array.ndim != 2 or array.shape[1] != dimension:
        msg = (
            f"{name} must have the shape (n, {dimension}), got {array.shape}: these vectors are not from this model; "
            "encode the passages again with it"
        )
        raise ValueError(msg)
    norms = np.linalg.norm(array.astype(np.float64), axis=1)
    bad = ~(np.isfinite(norms) & (norms > 1e-12))
    if bad.any():
        raise UnusableVectorsError(name, np.flatnonzero(bad).tolist(), len(array))
    return (array / norms[:, None]).astype(np.float32)
