# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A TCP proxy on the loopback that can be told to fail."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "refuse", "cut", "stall", "hang up"]


class Proxy:
    """
    Stands before a server.

    `pass`: hands everything on; `refuse`: nobody listens; `cut`: resets the connection in the middle of a response;
    `stall`: takes requests and never answers; `hang up`: closes each connection once a request has come.

    :param target: host and port of the server.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._mode: Mode = "pass"
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, mode: Mode) -> None:
        """Behave so from now on; connections that are open are reset."""
        self._mode = mode
        if mode == "refuse":
            self._close_listener()
        elif self._listener is None:
            self._listen()
        with self._guard:
            for each in self._open:
                _reset(each)

    def close(self) -> None:
        """End."""
        self.fail("refuse")

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):  # wakes the thread that accepts
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, self._mode), daemon=True).start()

    def _serve(self, client: socket.socket, mode: Mode) -> None:
        with self._guard:
            self._open.add(client)
        try:
            if mode in ("stall", "hang up"):
                with suppress(OSError):
                    while client.recv(65_536) and mode == "stall":
                        pass
                return
            with suppress(OSError), socket.create_connection(self._target) as server:
                threading.Thread(target=_hand_on, args=(client, server), daemon=True).start()
                while part := server.recv(65_536):
                    if mode == "cut":
                        client.sendall(part[: len(part) // 2])
                        _reset(client)
                        return
                    client.sendall(part)
        finally:
            with self._guard:
                self._open.discard(client)
            client.close()


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _reset(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connected.shutdown(socket.SHUT_RDWR)
