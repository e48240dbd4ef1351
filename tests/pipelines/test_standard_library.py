# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys

from resrank_pipelines.standard_library import harvest


def test_describes_public_functions_classes_methods_and_modules(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text('"""The pack."""\n', encoding="utf-8")
    (tmp_path / "pack" / "mod.py").write_text(
        '"""Module words."""\n'
        "def add(a: int, b: int = 2) -> int:\n"
        '    """Add two numbers."""\n'
        "def silent(): pass\n"
        'def _hidden():\n    """Not public."""\n'
        "class Box(dict):\n"
        '    """Holds things."""\n'
        "    async def open(self):\n"
        '        """Open it."""\n',
        encoding="utf-8",
    )
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t.py").write_text('"""A test."""\n', encoding="utf-8")
    (tmp_path / "_private.py").write_text('"""No."""\n', encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (:\n", encoding="utf-8")
    found = {d.meta["title"]: d for d in harvest(tmp_path)}
    assert list(found) == ["pack", "pack.mod", "pack.mod.Box", "pack.mod.Box.open", "pack.mod.add"]
    assert found["pack.mod.add"].content == "def pack.mod.add(a: int, b: int=2) -> int\nAdd two numbers."
    assert found["pack.mod.Box"].content == "class pack.mod.Box(dict)\nHolds things."
    assert found["pack.mod.Box.open"].content == "async def pack.mod.Box.open(self)\nOpen it."
    assert found["pack.mod.add"].meta["line"] == 2


def test_this_python_has_thousands_of_passages_and_none_is_imported():
    before = set(sys.modules)
    passages = harvest()
    assert len(passages) > 4_000
    assert {"subprocess.run", "datetime.datetime.strptime", "collections.Counter"} & {d.meta["title"] for d in passages}
    assert "turtle" not in set(sys.modules) - before
    assert len({d.id for d in passages}) == len(passages)
