# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Shows outcomes in the terminal and writes them to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from .outcome import Bar, Outcome

FORMAT = 1
RESULTS = Path(__file__).parent / "results"


class Report:
    """
    Collects the outcomes of one run; the file is complete after every one of them.

    :param path: of the JSON file.
    :param environment: of the run.
    :param settings: of the run.
    :param console: where to show.
    """

    def __init__(self, path: Path, environment: dict[str, Any], settings: dict[str, Any], console: Console) -> None:
        self._path = path
        self._console = console
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "environment": environment,
            "settings": settings,
            "benchmarks": {},
            "failed": {},
        }

    def show_environment(self) -> None:
        """Say what the figures belong to."""
        known = self._content["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items() if version)
        self._console.print(
            f"{known['cpu']}, {known['cores']} cores, {known['torch_threads']} torch threads, "
            f"{known.get('gpu', 'no GPU used')}, {known['dtype']}\n{versions}\nload average {known['load_average']}",
            highlight=False,
        )

    def add(self, name: str, outcome: Outcome, seconds: float) -> None:
        """
        Show an outcome and write it.

        :param name: of the benchmark.
        :param outcome: of it.
        :param seconds: it took.
        """
        self._content["benchmarks"][name] = {**outcome.to_dict(), "seconds": seconds}
        self._write()
        self._console.rule(f"[bold]{outcome.title}[/]", align="left")
        for shown in outcome.shown:
            self._console.print(shown)
        for bar in outcome.bars:
            self._console.print(_verdict(bar))
        for note in outcome.notes:
            self._console.print(f"[dim]· {note}[/]", highlight=False)
        self._console.print(f"[dim]{seconds:.0f} s[/]", highlight=False)

    def add_failure(self, name: str, error: Exception) -> None:
        """
        Record that a benchmark crashed.

        :param name: of the benchmark.
        :param error: that it raised.
        """
        self._content["failed"][name] = f"{type(error).__name__}: {error}"
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._content, indent=2) + "\n", encoding="utf-8")


def _verdict(bar: Bar) -> str:
    word = "[green]met[/]" if bar.met else "[red]not met[/]"
    return f"{word}: {bar.name}: {bar.value:.2f} (bar: {bar.relation} {bar.limit:g})"
