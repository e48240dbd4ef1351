# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Real passages that every machine has: the functions, classes and modules of the installed Python standard library.

Sources are read and parsed, never imported, so nothing runs.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from haystack import Document

# Tests and vendored or generated code say nothing about how to use Python.
_LEFT_OUT = frozenset({
    "__pycache__", "ensurepip", "idle_test", "idlelib", "lib2to3", "lib-dynload", "pydoc_data", "site-packages",
    "dist-packages", "test", "tests", "turtledemo", "config",
})  # fmt: skip


def standard_library() -> Path:
    """
    Where the standard library of this Python is.

    :returns: its folder.
    """
    return Path(sysconfig.get_paths()["stdlib"])


def harvest(root: Path | None = None) -> list[Document]:
    """
    Collect passages: signature and docstring of every public function, class, method and module that has one.

    :param root: the standard library's folder; `None` takes this Python's.
    :returns: documents with `title` (qualified name), `file_path` and `line` in their meta, ordered by name.
    """
    folder = root if root is not None else standard_library()
    passages: dict[str, Document] = {}
    for path in _sources(folder):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for title, text, line in _described(path, module):
            meta = {"title": title, "file_path": str(path), "line": line}
            passages.setdefault(title, Document(content=text, meta=meta))
    return [passages[title] for title in sorted(passages)]


def _sources(folder: Path) -> list[Path]:
    found: list[Path] = []
    for directory, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT and not _private(name)]
        public = [name for name in files if name.endswith(".py") and (name == "__init__.py" or not _private(name))]
        found.extend(Path(directory) / name for name in public)
    return sorted(found)


def _described(path: Path, module: str) -> Iterator[tuple[str, str, int]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # deliberately broken files exist in some distributions
    docstring = ast.get_docstring(tree)
    if docstring and module:
        yield module, f"module {module}\n{docstring}", 1
    yield from _members(tree, module)


def _members(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str, int]]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _private(child.name):
            continue
        title = f"{prefix}.{child.name}"
        docstring = ast.get_docstring(child)
        if docstring:
            yield title, f"{_signature(child, title)}\n{docstring}", child.lineno
        if isinstance(child, ast.ClassDef):
            yield from _members(child, title)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, title: str) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {title}({bases})" if bases else f"class {title}"
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{keyword} {title}({ast.unparse(node.args)}){returns}"


def _private(name: str) -> bool:
    return name.startswith("_")
