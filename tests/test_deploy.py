# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""deploy/compose.yaml, as far as it can be checked without Docker."""

from __future__ import annotations

import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).parent.parent / "deploy" / "compose.yaml"


@pytest.fixture
def service() -> Any:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["qdrant"]


def test_it_listens_on_the_loopback_and_keeps_what_it_stores(service):
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert [volume.split(":")[1] for volume in service["volumes"]] == ["/qdrant/storage"]
    assert not service["image"].endswith("latest")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_tells_a_ready_server(service, status, code):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kind, *command = service["healthcheck"]["test"]
        port = server.server_port
        if status is None:
            server.shutdown()
            server.server_close()
        command[-1] = command[-1].replace("$$", "$").replace("/6333", f"/{port}")
        done = subprocess.run(command, timeout=20, check=False, capture_output=True)
        server.shutdown()
    assert kind == "CMD"
    assert (done.returncode != 0) == bool(code), done.stderr
