# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Whatever the OpenAPI schema allows, and much that it does not: never a 5xx, always an answer that it describes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance  # noqa: E402

from .conftest import listening  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def described(request):
    with listening(request.getfixturevalue("settings")()) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("path", ["/v1/search", "/v1/ask", "/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_no_body_is_a_server_error(described, path, mode):
    statuses = Counter()

    @given(case=described[path]["POST"].as_strategy(generation_mode=mode))
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    def send(case):
        response = case.call()
        statuses[response.status_code] += 1
        case.validate_response(
            response, checks=[not_a_server_error, status_code_conformance, response_schema_conformance]
        )

    send()
    assert sum(statuses.values()) >= 50
    assert set(statuses) <= {200, 400, 422}
    assert 422 in statuses
