# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A checkpoint to publish: small where it can be, with a model card that says how it was made and what it reaches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from resrank import ResRank
from resrank.adapter import save_adapter
from resrank.checkpoint import read_config
from resrank.encoder import Encoder
from resrank_evals.results import SystemResult, read_results

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CONFIG = "config.json"
_NEGLIGIBLE = 1e-6  # relative, of what an adapter leaves out


def export(
    source: str | Path,
    out: Path,
    *,
    dtype: str = "float32",
    adapter_base: str | None = None,
    adapter_rank: int | None = None,
    encoder_from: Path | None = None,
) -> ResRank:
    """
    Write a checkpoint.

    :param source: a ResRank checkpoint.
    :param out: the folder; must not hold one yet.
    :param dtype: of the written weights. They are computed with in whatever dtype the model is loaded in.
    :param adapter_base: write the encoder as an update of this base: a name that users' machines resolve.
    :param adapter_rank: of the update; `None` takes the smallest that holds all of it. A smaller one is a truncated
        singular value decomposition.
    :param encoder_from: take the encoder's files from this checkpoint, whose vectors are the same: the one that the
        lists were mined with. An adapter then stays as it was when passages were indexed, to the last bit.
    :returns: what was written, loaded again.
    :raises FileExistsError: when `out` holds a checkpoint.
    :raises ValueError: when the encoder is no low-rank update of the base, or not that of `encoder_from`, or a value is
        wrong.
    """
    if dtype not in DTYPES:
        msg = f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
        raise ValueError(msg)
    if (out / _CONFIG).exists():
        msg = f"{out} holds a checkpoint already: name another folder"
        raise FileExistsError(msg)
    if adapter_base is not None and encoder_from is not None:
        msg = "adapter_base makes an adapter, encoder_from takes the files of another checkpoint: name one of them"
        raise ValueError(msg)
    model = ResRank.from_pretrained(source, device="cpu", dtype="float32").load()
    other = None if encoder_from is None else ResRank.from_pretrained(encoder_from, device="cpu", dtype="float32")
    if other is not None and other.fingerprint != model.fingerprint:
        msg = (
            f"expected a checkpoint whose encoder gives the same vectors as {source} ({model.fingerprint}), got "
            f"{encoder_from} ({other.fingerprint}): name the one that the reranker was trained on"
        )
        raise ValueError(msg)
    model.save_pretrained(out)
    _cast(out, DTYPES[dtype])
    if encoder_from is not None:
        shutil.rmtree(out / "encoder")
        if (encoder_from / "encoder").is_dir():
            shutil.copytree(encoder_from / "encoder", out / "encoder")
        _name_source(out, json.loads((encoder_from / _CONFIG).read_text(encoding="utf-8"))["encoder"]["source"])
    if adapter_base is not None:
        base = ResRank.from_backbones(adapter_base, config=model.config, device="cpu", dtype="float32").encoder
        factors = factorise(base, model.encoder, adapter_rank)
        shutil.rmtree(out / "encoder")
        (out / "encoder").mkdir()
        save_adapter(out / "encoder", factors, adapter_base, DTYPES[dtype])
        _name_source(out, adapter_base)
    return ResRank.from_pretrained(out, device="cpu", dtype="float32").load()


@torch.no_grad()
def factorise(base: Encoder, tuned: Encoder, rank: int | None = None) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """
    Write what training changed as low-rank factors.

    :param base: the encoder before.
    :param tuned: the encoder after.
    :param rank: of the factors; `None` takes the smallest that holds every change.
    :returns: (A, B) in float32 by the name of the module: its weight is the base's plus B A.
    :raises ValueError: when something else than matrices changed, or nothing.
    """
    before = dict(base.backbone.named_parameters())
    decomposed = {}
    for name, weight in tuned.backbone.named_parameters():
        if name not in before or before[name].shape != weight.shape:
            msg = f"the encoder is no update of this base: {name} differs in shape or is new"
            raise ValueError(msg)
        change = (weight - before[name]).double()
        if not bool(change.any()):
            continue
        if weight.dim() != 2 or not name.endswith(".weight") or "embeddings" in name:
            msg = f"the encoder is no low-rank update of this base: {name} changed, too; export it without adapter_base"
            raise ValueError(msg)
        decomposed[name.removesuffix(".weight")] = torch.linalg.svd(change, full_matrices=False)
    if not decomposed:
        msg = "the encoder is the base itself: nothing was trained, export it without adapter_base"
        raise ValueError(msg)
    if rank is not None and rank < 1:
        msg = f"expected a rank of at least 1, got {rank}"
        raise ValueError(msg)
    full = max(_rank(values) for _, values, _ in decomposed.values())
    wanted = full if rank is None else min(rank, full)
    factors = {}
    for name, (left, values, right) in decomposed.items():
        root = values[:wanted].sqrt()
        missing = wanted - len(root)  # PEFT wants one rank for all, also for matrices that are smaller
        down = nn.functional.pad(root[:, None] * right[:wanted], (0, 0, 0, missing))
        factors[name] = (down.float(), nn.functional.pad(left[:, :wanted] * root, (0, missing)).float())
    return factors


def write_model_card(
    folder: Path,
    *,
    title: str,
    stages: Sequence[Mapping[str, Any]] = (),
    results: Path | None = None,
    notes: str = "",
    measure: str = "nDCG@10",
) -> None:
    """
    Write the card of a checkpoint.

    :param folder: of the checkpoint.
    :param title: first heading.
    :param stages: each stage's `training.json`.
    :param results: a results folder of `resrank-eval ir`, for the table of figures.
    :param notes: Markdown put before the recipe: what it is for, data, licences, limits.
    :param measure: of the table.
    """
    config = read_config(folder)
    model = ResRank.from_pretrained(folder, device="cpu").load("encoder")
    parts = [
        "---\nlibrary_name: resrank\npipeline_tag: text-ranking\nlicense: apache-2.0\n---\n",
        f"# {title}\n",
        (
            f"Mode `{config.mode}`, {config.reranker.attention} attention; {model.dimension} dimensions, passages of "
            f"up to {model.encoder.max_length} tokens; fingerprint of its vectors: `{model.fingerprint}`.\n"
        ),
        notes.strip() + "\n" if notes.strip() else "",
    ]
    if stages:
        parts.append(_recipe(stages))
    if results is not None:
        parts.append(_figures(results, measure))
    (folder / "README.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _recipe(stages: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "## Recipe\n",
        "| stage | lists seen | steps | data | encoder | reranker | losses | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in stages:
        stage = next(s for s in report["settings"]["stages"] if s["name"] == report["stage"])
        data = ", ".join(f"{name} ({of['lists']:,} lists)" for name, of in report["data"].items())
        losses = ", ".join(f"{weight:g} {name}" for name, weight in stage["losses"].items())
        lines.append(
            f"| {report['stage']} | {report['lists_seen']:,} | {report['steps']:,} | {data} | {stage['encoder']} | "
            f"{stage['reranker']} | {losses} | {report['minutes']:.0f} |"
        )
    lines.append(f"\nSeed {stages[0]['seed']}. All settings, versions and data hashes are in the run's folder.\n")
    return "\n".join(lines)


def _figures(folder: Path, measure: str) -> str:
    cards, results = read_results(folder)
    systems = list(dict.fromkeys(result.system for result in results))
    by_place: dict[tuple[str, str], SystemResult] = {(r.collection, r.system): r for r in results}
    lines = [
        f"## Figures\n\n{measure}, measured by `resrank-eval ir`:\n",
        f"| collection | queries | {' | '.join(systems)} |",
        f"|---|---|{'---|' * len(systems)}",
    ]
    for name, card in cards.items():
        cells = [by_place.get((name, system)) for system in systems]
        shown = ["-" if cell is None else f"{cell.means[measure]:.3f}" for cell in cells]
        lines.append(f"| {name} | {len(card.queries)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _name_source(folder: Path, source: str | None) -> None:
    described = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    described["encoder"]["source"] = source
    (folder / _CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _cast(folder: Path, dtype: torch.dtype) -> None:
    if dtype == torch.float32:
        return
    for file in folder.rglob("*.safetensors"):
        state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in load_file(file).items()}
        save_file(state, file, metadata={"format": "pt"})


def _rank(values: torch.Tensor) -> int:
    return max(1, int((values > values[0] * _NEGLIGIBLE).sum()))
