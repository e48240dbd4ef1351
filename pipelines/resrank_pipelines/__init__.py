# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Ready-made Haystack pipelines for ResRank, and the `resrank` command."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loader import definition_path, definitions, load_pipeline, read_definition

__all__ = ["definition_path", "definitions", "load_pipeline", "read_definition"]


def __getattr__(name: str) -> Any:
    # Haystack decides about telemetry while it is imported: the command must be able to speak first.
    if name in __all__:
        from . import loader

        return getattr(loader, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
