# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A stand-in for a Qdrant server, in a process of its own: Qdrant's local mode behind the REST calls that writing takes.

Several processes can write to it at once, as to a server; the real client is on the other end. It counts how often each
point was written: `GET /writes` gives `{"points": ..., "writes": ...}`. Run it, and read its URL from stdout.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import qdrant_client
from qdrant_client import models

client = qdrant_client.QdrantClient(location=":memory:")
lock = threading.Lock()
writes: Counter[str] = Counter()


def answer(method: str, path: str, body: Any) -> Any:
    if path == "/writes":
        return {"points": len(writes), "writes": sum(writes.values())}
    matched = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
    assert matched, path
    name, rest = matched[1], matched[2] or ""
    if (method, rest) == ("GET", "/exists"):
        return {"exists": client.collection_exists(name)}
    if (method, rest) == ("GET", ""):
        return client.get_collection(name)
    if (method, rest) == ("DELETE", ""):
        return client.delete_collection(name)
    if (method, rest) == ("PUT", ""):
        wanted = models.CreateCollection.model_validate(body)
        return client.create_collection(
            name, vectors_config=wanted.vectors, sparse_vectors_config=wanted.sparse_vectors
        )
    if (method, rest) == ("PUT", "/points"):
        points = models.PointsList.model_validate(body).points
        client.upsert(name, points)
        writes.update(str(point.id) for point in points)
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
    if (method, rest) == ("POST", "/points"):
        asked = models.PointRequest.model_validate(body)
        return client.retrieve(name, asked.ids, asked.with_payload, asked.with_vector or False)
    if (method, rest) == ("POST", "/points/count"):
        return client.count(name, models.CountRequest.model_validate(body).filter)
    if (method, rest) == ("POST", "/points/scroll"):
        asked = models.ScrollRequest.model_validate(body)
        records, offset = client.scroll(
            name, asked.filter, asked.limit or 10, offset=asked.offset, with_vectors=asked.with_vector or False
        )
        return models.ScrollResult(points=records, next_page_offset=offset)
    msg = f"not among the calls that the stand-in knows: {method} {path}"
    raise NotImplementedError(msg)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with lock:
                result = answer(self.command, urlsplit(self.path).path, json.loads(content) if content else None)
                status, answered = 200, {"result": plain(result), "status": "ok", "time": 0.0}
        except Exception as error:
            status, answered = 500, {"status": {"error": f"{type(error).__name__}: {error}"}, "time": 0.0}
        payload = json.dumps(answered).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
