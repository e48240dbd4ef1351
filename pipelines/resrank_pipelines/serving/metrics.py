# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a server counts, for Prometheus. Labels are routes, methods and kinds: no text of a request becomes one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """
    The counters of one server, in a registry of their own.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "resrank_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "resrank_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.in_flight = Gauge("resrank_requests_in_flight", "Requests that are worked on.", registry=self.registry)
        self.candidates = Counter(
            "resrank_candidates", "Passages that were ranked, by what asked for it.", ["kind"], registry=self.registry
        )
        self.tokens = Counter(
            "resrank_encoded_tokens", "Tokens that the encoder read.", ["kind"], registry=self.registry
        )
        self.pass_requests = Histogram(
            "resrank_requests_per_pass",
            "How many requests shared a forward pass.",
            ["lane"],
            buckets=_REQUESTS,
            registry=self.registry,
        )
        self.ready = Gauge("resrank_ready", "1 when the model is loaded and the store is open.", registry=self.registry)

    def observe_pass(self, lane: str, items: int, requests: int) -> None:  # noqa: ARG002 - the worker tells all
        """
        Count a shared pass.

        :param lane: its kind.
        :param items: texts or lists in it.
        :param requests: that shared it.
        """
        self.pass_requests.labels(lane).observe(requests)

    def count_tokens(self, kind: str, tokens: int) -> None:
        """
        Count what the encoder read.

        :param kind: `query` or `passage`.
        :param tokens: how many.
        """
        self.tokens.labels(kind).inc(tokens)

    def text(self) -> bytes:
        """
        What Prometheus fetches.

        :returns: in its text format.
        """
        return generate_latest(self.registry)
