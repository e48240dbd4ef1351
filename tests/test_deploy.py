# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The files of deploy/, as far as they can be checked without Docker."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from resrank_pipelines.loader import read_definition

DEPLOY = Path(__file__).parent.parent / "deploy"
NODES = ("qdrant-1", "qdrant-2", "qdrant-3")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.fixture(params=["compose.yaml qdrant", *(f"cluster.yaml {node}" for node in NODES)])
def service(request) -> Any:
    name, node = request.param.split()
    return read(name)["services"][node]


def test_it_listens_on_the_loopback_and_keeps_what_it_stores(service):
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert [volume.split(":")[1] for volume in service["volumes"]] == ["/qdrant/storage"]
    assert not service["image"].endswith("latest")


def test_all_nodes_are_alike_but_for_their_names_ports_and_volumes():
    single, cluster = read("compose.yaml"), read("cluster.yaml")
    assert list(cluster["services"]) == list(NODES)
    for node in cluster["services"].values():
        for name in ("image", "restart", "healthcheck"):
            assert node[name] == single["services"]["qdrant"][name]
        assert node["environment"].items() >= single["services"]["qdrant"]["environment"].items()
        assert node["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
    published = [port for node in cluster["services"].values() for port in node["ports"]]
    assert len({port.rsplit(":", 1)[0] for port in published}) == len(NODES)
    assert {port.rsplit(":", 1)[1] for port in published} == {"6333"}  # never 6335, which asks for no key
    assert [node["volumes"] for node in cluster["services"].values()] == [[f"{n}:/qdrant/storage"] for n in NODES]
    assert list(cluster["volumes"]) == list(NODES)
    assert cluster["name"] != single["name"]


def test_one_node_founds_the_cluster_and_the_others_join_it():
    first, *others = read("cluster.yaml")["services"].values()
    assert first["command"] == ["./qdrant", "--uri", "http://qdrant-1:6335"]
    assert "depends_on" not in first
    for name, node in zip(NODES[1:], others, strict=True):
        assert node["command"] == ["./qdrant", "--bootstrap", "http://qdrant-1:6335", "--uri", f"http://{name}:6335"]
        assert node["depends_on"] == {"qdrant-1": {"condition": "service_healthy"}}


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


def store_in(node: Any) -> dict[str, Any] | None:
    """The first document store of a definition."""
    if not isinstance(node, dict):
        return None
    if str(node.get("type")).endswith(".QdrantDocumentStore"):
        return node
    return next((found for value in node.values() if (found := store_in(value)) is not None), None)


@pytest.fixture
def requests() -> Any:
    """What an empty server was asked; it answers as Qdrant's REST API does."""
    asked: list[tuple[str, str, Any]] = []

    class Server(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, json.loads(body) if body else None))
            result: Any = {"exists": False} if self.path.endswith("/exists") else True
            if self.path.endswith("/count"):
                result = {"count": 0}
            content = json.dumps({"result": result, "status": "ok", "time": 0, "version": "1.19.1"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("name", ["index_server", "search_server", "search_dense_server", "search_trio_server"])
def test_the_collection_is_made_as_its_file_says(requests, name):
    url, asked = requests
    settings = yaml.safe_load((DEPLOY / "collection.yaml").read_text(encoding="utf-8"))
    definition = read_definition(name, store={**settings, "url": url})
    store = QdrantDocumentStore.from_dict(store_in(definition))
    assert store.count_documents() == 0
    store.close()
    (made,) = [body for method, path, body in asked if (method, path) == ("PUT", f"/collections/{settings['index']}")]
    vectors = made.pop("vectors")["text-dense"]
    assert (vectors["size"], vectors["distance"], vectors["on_disk"]) == (384, "Dot", True)
    assert made.pop("sparse_vectors")["text-sparse"]["modifier"] == "idf"
    expected = {key: value for key, value in settings.items() if key not in ("url", "index", "on_disk")}
    assert {key: value for key, value in made.items() if value is not None} == expected
