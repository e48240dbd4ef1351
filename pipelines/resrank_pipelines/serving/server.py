# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Run a server until it is told to end."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

import uvicorn

from .app import create_app
from .connections import limited_protocol
from .settings import ServeSettings

_GRACE_S = 10  # beyond the longest request


def serve(settings: ServeSettings, host: str, port: int) -> None:
    """
    Listen until SIGTERM or Ctrl-C; then requests that run are finished and the store is closed.

    :param settings: what to serve.
    :param host: where to listen.
    :param port: likewise; 0 takes a free one and logs it.
    :raises Exception: what kept the model or the store from loading.
    """
    _log_to_stderr()
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, on_failure=failed),
        host=host,
        port=port,
        http=limited_protocol(settings.limits.timeout_s),
        log_config=None,
        access_log=False,  # it writes paths as clients sent them
        server_header=False,
        timeout_graceful_shutdown=int(settings.limits.timeout_s) + _GRACE_S,
        lifespan="on",
    )
    server = uvicorn.Server(config)

    def ended(*_: Any) -> None:
        # uvicorn sends itself the signal again when it is done.
        if not server.should_exit:
            raise SystemExit(0)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, ended)
    server.run()
    if failures:
        raise failures[0]
    if not server.started:
        raise SystemExit(1)  # uvicorn has logged why, e.g. that the port is taken


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("resrank.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
