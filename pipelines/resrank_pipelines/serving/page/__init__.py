# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The search page: three files, served as they are. It loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

_FOLDER = Path(__file__).parent
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_router() -> APIRouter:
    """
    Routes of the page.

    :returns: a router.
    """
    router = APIRouter()

    def add(path: str, name: str, kind: str) -> None:
        async def send() -> Response:
            return Response((_FOLDER / name).read_bytes(), media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

        router.add_api_route(path, send, methods=["GET"], include_in_schema=False)

    for path, (name, kind) in _FILES.items():
        add(path, name, kind)
    return router
