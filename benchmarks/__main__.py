# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`python -m benchmarks`, from the root of the repository."""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .architectures import TWINS
from .settings import Settings

BENCHMARKS = ("rerank", "indexing", "pipeline", "growth", "memory", "serving")
OF_TWINS = ("rerank", "growth")
ON_REQUEST = ("million",)  # half an hour or more, and gigabytes of disk

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(BENCHMARKS + ON_REQUEST)}, separated by commas.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that it runs.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ….")] = "cpu",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16; also of the peers.")] = "auto",
    twin: Annotated[
        str | None,
        typer.Option(help="The paper's size with random weights: qwen3-0.6b, qwen3-4b, or tiny to see that it runs."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; default in benchmarks/results/.")] = None,
) -> None:
    """
    Measure ResRank against its peers in one run. Missing a bar is reported; the exit code is 1 only after a crash.
    """
    settings = Settings(quick, device, dtype, twin)
    names = _chosen(only, twin)
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything that is measured is on this machine
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    _silence()
    from .environment import describe
    from .report import RESULTS, Report

    subject = "-".join([twin or "resrank-mini", device.replace(":", ""), *(["quick"] if quick else [])])
    path = out if out is not None else RESULTS / f"{subject}.json"
    console = Console(width=None if sys.stdout.isatty() else 120)
    report = Report(path, describe(settings), {**asdict(settings), "benchmarks": names}, console)
    report.show_environment()
    failed = False
    for name in names:
        started = time.perf_counter()
        try:
            outcome = import_module(f".{name}", __package__).run(settings)
        except Exception as error:
            failed = True
            report.add_failure(name, error)
            traceback.print_exc()
            continue
        report.add(name, outcome, time.perf_counter() - started)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _chosen(only: str, twin: str | None) -> list[str]:
    if twin is not None and twin not in TWINS:
        msg = f"no twin {twin!r}: there are {', '.join(TWINS)}"
        raise typer.BadParameter(msg, param_hint="--twin")
    from_all = BENCHMARKS if twin is None else OF_TWINS
    names = [name.strip() for name in only.split(",") if name.strip()] or list(from_all)
    from_all += ON_REQUEST if twin is None else ()
    unknown = [name for name in names if name not in from_all]
    if unknown:
        of_what = "" if twin is None else " of a twin"
        msg = f"no benchmark{of_what} {', '.join(map(repr, unknown))}: there are {', '.join(from_all)}"
        raise typer.BadParameter(msg, param_hint="--only")
    return names


def _silence() -> None:
    """Loading and cut texts are not news here."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("resrank", "haystack_integrations", "haystack", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
