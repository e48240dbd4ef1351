# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Which files an indexing run covers, and which stored passages it may call stale."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset({".txt", ".md", ".markdown", ".html", ".htm", ".pdf"})


@dataclass
class SourceFiles:
    """
    What the given roots hold.

    :param files: absolute paths, sorted, each once.
    :param skipped: files of kinds that are not indexed.
    :param failures: (path, reason) of what could not be read.
    :param safe_roots: roots that were there, not empty and read to the last folder: only under these may anything be
        pruned.
    """

    files: list[Path] = field(default_factory=list)
    skipped: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    safe_roots: list[Path] = field(default_factory=list)

    @classmethod
    def find(cls, roots: list[Path]) -> SourceFiles:
        """
        Walk files and folders. Hidden folders and links to folders are not entered.

        :param roots: as the user gave them.
        :returns: what was found; nothing raises, problems are in `failures`.
        """
        found = cls()
        files: set[Path] = set()
        for root in roots:
            # os.path answers "no" where pathlib raises: below a folder that may not be searched, for an unknown ~user.
            path = Path(os.path.abspath(os.path.expanduser(root)))
            if os.path.isfile(path):
                found._add_file(path, files)
            elif os.path.isdir(path):
                found._add_folder(path, files)
            else:
                found.failures.append((path, "no such file or folder, or it may not be read"))
        found.files = sorted(files)
        return found

    def may_prune(self, path: str) -> bool:
        """
        Whether a stored passage of this file is in the care of this run.

        :param path: the `file_path` in its meta.
        :returns: true under a safe root.
        """
        return any(Path(path) == root or root in Path(path).parents for root in self.safe_roots)

    def _add_file(self, path: Path, files: set[Path]) -> None:
        if path.suffix.lower() not in SUFFIXES:
            kinds = ", ".join(sorted(SUFFIXES))
            self.failures.append((path, f"not a kind of file that is indexed ({kinds})"))
        else:
            files.add(path)
            self.safe_roots.append(path)

    def _add_folder(self, root: Path, files: set[Path]) -> None:
        errors: list[OSError] = []
        inside: list[Path] = []
        for folder, subfolders, names in os.walk(root, onerror=errors.append):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in names:
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    inside.append(Path(folder) / name)
                else:
                    self.skipped += 1
        self.failures.extend((Path(str(error.filename)), error.strerror or str(error)) for error in errors)
        files.update(inside)
        if inside and not errors:
            self.safe_roots.append(root)
