# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What all commands of the project do alike: common options, errors in one line, exit codes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

# Before Haystack is imported: a command line that works offline sends nothing anywhere.
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import typer

DEFAULT_STORE = ".resrank/store"

Store = Annotated[
    Path, typer.Option("--store", envvar="RESRANK_STORE", help="Folder of the embedded store.", show_default=True)
]
Qdrant = Annotated[
    str | None,
    typer.Option("--qdrant", envvar="RESRANK_QDRANT_URL", help="URL of a Qdrant server, in place of --store."),
]
Collection = Annotated[str, typer.Option("--collection", help="Of the Qdrant server.")]
Model = Annotated[str, typer.Option("--model", envvar="RESRANK_MODEL", help="Model name, checkpoint folder or hub id.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps, …; default: the best one present.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]


def make_app(name: str, help_text: str) -> typer.Typer:
    """
    Make a command that has commands.

    :param name: of the command.
    :param help_text: what it is for.
    :returns: the application.
    """
    return typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """
    Decorate a command: what users can mend becomes one line and an exit code; a bug keeps its traceback.

    :param function: the command; returns its exit code, or `None` for 0.
    :returns: what typer runs. Exit codes: 1 for errors, 130 when interrupted.
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        from haystack.core.errors import DeserializationError, PipelineError, PipelineRuntimeError

        from .display import err, fail

        haystack_errors = (DeserializationError, PipelineError, PipelineRuntimeError)
        quiet_libraries()
        try:
            code = function(*args, **kwargs)
        except KeyboardInterrupt:
            err.print("interrupted; what was written stays, and running the same command again goes on from there")
            raise typer.Exit(130) from None
        except (OSError, ValueError, RuntimeError, ImportError, *haystack_errors) as error:
            if os.environ.get("RESRANK_DEBUG"):
                raise
            fail(_reason(error, haystack_errors))
            raise typer.Exit(1) from None
        raise typer.Exit(code or 0)

    return run


def _reason(error: BaseException, wrappers: tuple[type[Exception], ...]) -> str:
    # Haystack wraps what a component raised into several lines; the component's own text says what to do.
    while isinstance(error, wrappers) and isinstance(
        error.__cause__, OSError | ValueError | RuntimeError | ImportError | TypeError
    ):
        error = error.__cause__
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += ": the disk is full; free some space, then run the same command again"
    return reason


def model_parameters(model: str, device: str | None, dtype: str) -> dict[str, Any]:
    """
    Init parameters of a `ResRankModel` from the common options.

    :param model: `--model`.
    :param device: `--device`.
    :param dtype: `--dtype`.
    :returns: as YAML holds them.
    """
    parameters: dict[str, Any] = {"model": model, "dtype": dtype}
    if device is not None:
        parameters["device"] = {"type": "single", "device": device}
    return parameters


def quiet_libraries() -> None:
    """
    Keep what libraries log out of what a command shows.
    """
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("haystack").setLevel(logging.ERROR)
    logging.getLogger("haystack_integrations").setLevel(logging.WARNING)
    # The command counts cut passages itself, once for all batches.
    logging.getLogger("haystack_integrations.components.embedders.resrank").setLevel(logging.ERROR)
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
