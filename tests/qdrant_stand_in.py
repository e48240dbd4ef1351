# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A stand-in for a Qdrant server, in a process of its own: the client's local mode behind the REST routes that we use.

Several processes can write to it at once, as to a server; it counts how often points were written (`GET /writes`). That
results are a real server's, only a real server can show (`QDRANT_URL`). Run it, and read its URL from stdout.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import qdrant_client
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.encoders import jsonable_encoder
from qdrant_client import models


def stand_in() -> FastAPI:
    """The server's app, with no collection."""
    app, local, lock = FastAPI(), qdrant_client.QdrantClient(location=":memory:"), threading.Lock()
    writes: Counter[str] = Counter()

    def answer(work: Callable[[], Any]) -> dict[str, Any]:
        with lock:
            try:
                return {"result": jsonable_encoder(work()), "status": "ok", "time": 0.0}
            except ValueError as error:  # the local mode's word for what is not there
                raise HTTPException(404, str(error)) from error

    @app.get("/")
    def about() -> dict[str, str]:
        return {"title": "a stand-in", "version": version("qdrant-client")}

    @app.get("/writes")
    def written() -> dict[str, int]:
        return {"points": len(writes), "writes": writes.total()}

    @app.get("/collections/{name}/exists")
    def exists(name: str) -> Any:
        return answer(lambda: {"exists": local.collection_exists(name)})

    @app.get("/collections/{name}")
    def get(name: str) -> Any:
        return answer(lambda: local.get_collection(name))

    @app.put("/collections/{name}")
    def create(name: str, body: dict[str, Any]) -> Any:
        asked = models.CreateCollection.model_validate(body)
        return answer(
            lambda: local.create_collection(
                name, vectors_config=asked.vectors, sparse_vectors_config=asked.sparse_vectors
            )
        )

    @app.delete("/collections/{name}")
    def drop(name: str) -> Any:
        return answer(lambda: local.delete_collection(name))

    @app.put("/collections/{name}/index")
    def create_index(name: str) -> Any:
        return answer(lambda: {"operation_id": 0, "status": "completed"})

    @app.put("/collections/{name}/points")
    def upsert(name: str, body: dict[str, Any]) -> Any:
        points: Any
        if "batch" in body:
            points = models.PointsBatch.model_validate(body).batch
            ids = points.ids
        else:
            points = models.PointsList.model_validate(body).points
            ids = [point.id for point in points]

        def work() -> Any:
            done = local.upsert(name, points)
            writes.update(str(point_id) for point_id in ids)
            return done

        return answer(work)

    @app.post("/collections/{name}/points")
    def retrieve(name: str, body: dict[str, Any]) -> Any:
        asked = models.PointRequest.model_validate(body)
        return answer(
            lambda: local.retrieve(name, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector)
        )

    @app.post("/collections/{name}/points/scroll")
    def scroll(name: str, body: dict[str, Any]) -> Any:
        asked = models.ScrollRequest.model_validate(body)

        def work() -> Any:
            points, following = local.scroll(
                name,
                scroll_filter=asked.filter,
                limit=asked.limit or 10,
                offset=asked.offset,
                with_payload=asked.with_payload,
                with_vectors=asked.with_vector or False,
            )
            return {"points": points, "next_page_offset": following}

        return answer(work)

    @app.post("/collections/{name}/points/count")
    def count(name: str, body: dict[str, Any]) -> Any:
        asked = models.CountRequest.model_validate(body)
        return answer(lambda: local.count(name, count_filter=asked.filter))

    @app.post("/collections/{name}/points/query")
    def query(name: str, body: dict[str, Any]) -> Any:
        asked = models.QueryRequest.model_validate(body)
        return answer(
            lambda: local.query_points(
                name,
                query=asked.query,
                using=asked.using,
                query_filter=asked.filter,
                limit=asked.limit or 10,
                with_payload=asked.with_payload,
                with_vectors=asked.with_vector or False,
                score_threshold=asked.score_threshold,
            )
        )

    @app.post("/collections/{name}/points/delete")
    def delete(name: str, body: dict[str, Any]) -> Any:
        selector = models.PointIdsList.model_validate(body) if "points" in body else models.FilterSelector(**body)
        return answer(lambda: local.delete(name, selector))

    return app


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(stand_in(), log_config=None, access_log=False)).run(sockets=[listening])
