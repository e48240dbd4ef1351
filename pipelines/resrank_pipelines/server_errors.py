# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What clients of a Qdrant server raise, as one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from haystack_integrations.document_stores.qdrant.document_store import QdrantStoreError
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse


def check_url(url: str) -> None:
    """
    Refuse what is no address of a server.

    :param url: as the user gave it.
    :raises ValueError: when it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = f"--qdrant takes the URL of a server, such as http://localhost:6333; got {url!r}"
        raise ValueError(msg)


@contextmanager
def server_errors(url: str) -> Iterator[None]:
    """
    Reword errors of the calls inside.

    :param url: of the server, for the message.
    :raises ConnectionError: when the server does not answer.
    :raises RuntimeError: when it refuses or fails.
    """
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            msg = f"the Qdrant server at {url} refused the key: set QDRANT_API_KEY to one that may write"
        else:
            content = error.content.decode("utf-8", "replace") if error.content else error.reason_phrase
            msg = f"the Qdrant server at {url} answered {error.status_code}: {content:.300}"
        raise RuntimeError(msg) from error
    except ResponseHandlingException as error:
        msg = (
            f"no Qdrant server answers at {url} ({error.source}). Start it or check the URL; what was "
            "written stays, and running the same command again goes on from there."
        )
        raise ConnectionError(msg) from error
    except (ApiException, QdrantStoreError) as error:
        msg = f"the Qdrant server at {url} failed: {error}"
        raise RuntimeError(msg) from error
