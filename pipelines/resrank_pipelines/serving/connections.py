# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Limits on connections that uvicorn has none for.

Clients that send their headers slowly or without end, and clients that do not read their response, would hold a
connection and the response's memory as long as they like. Slow bodies are the matter of `guards.BodyLimit`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_BYTES = 65_536
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

_Protocol: Any = AutoHTTPProtocol


class LimitedProtocol(_Protocol):
    """
    One connection.
    """

    timeout_s = 60.0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """
        Begin to wait for headers.

        :param transport: of asyncio.
        """
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """
        Take in a piece of a request.

        :param data: bytes.
        """
        if self._head_timer is None and not self._in_request():
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_request():
            self._end_head()
        elif self._head_timer is not None and self._head_bytes > HEADER_BYTES:
            self._hang_up(_TOO_LARGE)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Forget the connection.

        :param exc: why.
        """
        self._end_head()
        self._end_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """
        Begin to wait for the client to read.
        """
        super().pause_writing()
        self._end_reading()
        self._read_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """
        The client has read.
        """
        self._end_reading()
        super().resume_writing()

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.timeout_s, self._hang_up, _TOO_SLOW)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_reading(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _hang_up(self, answer: bytes) -> None:
        self._end_head()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def limited_protocol(timeout_s: float) -> type[LimitedProtocol]:
    """
    uvicorn's HTTP protocol with limits.

    :param timeout_s: seconds until a request's headers must all have come, and in which a client must read something.
    :returns: what `uvicorn.Config(http=…)` takes.
    """
    return type("LimitedProtocol", (LimitedProtocol,), {"timeout_s": timeout_s})
