# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a server answers instead of a result."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from traceback import extract_tb
from typing import Any


class ServingError(Exception):
    """
    A request that is refused or cannot be answered.

    :param status: of HTTP.
    :param message: what was expected, what came, what to do; for the client. It holds no passage and no query.
    :param retry_after_s: when the client may try again.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


class AbandonedError(Exception):
    """Work that nobody waits for any more."""


def error_body(status: int, message: str) -> dict[str, Any]:
    """
    The body of every error.

    :param status: of HTTP.
    :param message: for the client.
    :returns: in the shape of OpenAI's API, which its clients show.
    """
    try:
        kind = HTTPStatus(status).phrase.lower().replace(" ", "_")
    except ValueError:
        kind = "error"
    return {"error": {"message": message, "type": kind, "code": status}}


def validation_message(errors: Any) -> str:
    """
    The first thing that is wrong with a body.

    :param errors: of pydantic.
    :returns: where, what was expected, and how many more there are; not what came, which may be a text.
    """
    first, more = errors[0], len(errors) - 1
    if first["type"] == "json_invalid":
        return "the body: expected JSON"
    if tuple(first["loc"]) == ("body",):
        return "the body: expected a JSON object, with the header Content-Type: application/json"
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    what = "there is no such field" if first["type"] == "extra_forbidden" else str(first["msg"])
    what = what.removeprefix("Value error, ")
    return f"{where or 'the body'}: {what[:1].lower()}{what[1:]}" + (f" (and {more} more)" if more else "")


def place(error: BaseException) -> str:
    """
    Tell an error apart without its message, which may quote a text.

    :param error: any.
    :returns: its kind and where it came up, likewise of its causes.
    """
    frames = extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    cause = error.__cause__
    return f"{type(error).__name__}{where}" + (f", because of {place(cause)}" if cause is not None else "")
