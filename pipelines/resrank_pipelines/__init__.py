# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Ready-made Haystack pipelines for ResRank, and the `resrank` command."""

from .loader import definition_path, definitions, load_pipeline, read_definition

__all__ = ["definition_path", "definitions", "load_pipeline", "read_definition"]
