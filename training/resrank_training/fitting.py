# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Train a model stage by stage.

The output folder holds `settings.yaml`, a folder a stage (`checkpoints/`, `log.jsonl`, `curves.png`, `training.json`,
`model/`) and `model/`, the last stage's. Started again, it goes on: finished stages are kept, an unfinished one resumes
from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.state import AcceleratorState
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from resrank import ResRank, ResRankConfig
from resrank_evals.environment import describe_environment
from resrank_evals.results import write_whole

from .averaging import WeightAverage
from .calibrating import calibrate
from .checkpoints import checkpoints
from .collating import Collator
from .configs import shipped
from .curves import draw_curves
from .dev import DevPools
from .drawing import Schedule, usable_lists
from .gather import is_distributed
from .joint import JointModel, Objective
from .lists import ListSet, read_lists
from .parts import copied_weights, keep_share, merge, prepare, trained_state
from .progress import TrainingProgress
from .settings import ModelSettings, Settings, Stage, expanded, to_dict
from .trainer import JointTrainer, as_evaluation
from .vectors import encode_sets

logger = logging.getLogger(__name__)

MODEL = "model"
_GATHER = "stage3_gather_16bit_weights_on_model_save"
_SETTINGS = "settings.yaml"
_CALIBRATION_LISTS = 4_096  # three weights need no more
_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "logging_steps": 10,
    "save_steps": 100,
    "save_total_limit": 2,
    # One process encodes, measures and saves while the others wait, which may take hours with a large model.
    "ddp_timeout": 12 * 3_600,
    "metric_for_best_model": "ndcg@10",
}

Told = Callable[[str], None]


@dataclass(frozen=True)
class StageResult:
    """
    What a stage did.

    :param name: of the stage.
    :param model: the checkpoint's folder.
    :param steps: optimizer steps.
    :param minutes: wall-clock of training; of the last run alone when the stage was resumed.
    :param dev: nDCG@10 at the end.
    """

    name: str
    model: Path
    steps: int
    minutes: float
    dev: dict[str, float]


def fit(
    settings: Settings, out: Path, told: Told = logger.info, *, vector_folder: Path | None = None
) -> list[StageResult]:
    """
    Train, or go on training.

    :param settings: of the run.
    :param out: the output folder; made if missing.
    :param told: is told what happens.
    :param vector_folder: where the vectors of frozen encoders are kept, by encoder and texts; `None`: in `out`.
    :returns: what each stage did.
    :raises ValueError: when the folder is of a run with other settings.
    """
    _check_arguments(settings)
    out.mkdir(parents=True, exist_ok=True)
    described = yaml.safe_dump(to_dict(settings), sort_keys=False)
    kept = out / _SETTINGS
    if kept.is_file() and kept.read_text(encoding="utf-8") != described:
        msg = f"{out} holds a run with other settings ({kept}): name another folder, or remove it"
        raise ValueError(msg)
    if _is_first_process():
        write_whole(kept, described)
    results = []
    start: Path | None = None
    for stage in settings.stages:
        folder = out / stage.name
        done = folder / "training.json"
        if done.is_file():
            told(f"Stage {stage.name} is complete")
        else:
            _run_stage(
                settings, stage, folder, start, told, out / "vectors" if vector_folder is None else vector_folder
            )
            _wait_for_all()
        report = json.loads(done.read_text(encoding="utf-8"))
        start = folder / MODEL
        results.append(StageResult(stage.name, start, report["steps"], report["minutes"], report["dev"]))
    if start is not None and _is_first_process():
        partial = out / f".{MODEL}.part"
        for folder in (partial, out / MODEL):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, partial)
        partial.rename(out / MODEL)
    return results


def load_start(settings: ModelSettings, start: Path | None = None, device: str | None = None) -> ResRank:
    """
    Load what a stage trains.

    :param settings: where the run starts.
    :param start: the checkpoint of the stage before.
    :param device: of this process.
    :returns: the model with both parts loaded.
    """
    runtime: dict[str, Any] = {
        "device": device,
        "dtype": settings.dtype,
        "attn_implementation": settings.attn_implementation,
    }
    if start is not None or settings.start is not None:
        source = str(start) if start is not None else str(expanded(str(settings.start)))
        return ResRank.from_pretrained(source, **runtime).load()
    described = ResRankConfig().to_dict()
    for key, value in settings.config.items():
        described[key] = {**described[key], **value} if isinstance(value, dict) else value
    config = ResRankConfig.from_dict(described)
    return ResRank.from_backbones(
        str(expanded(str(settings.encoder))),
        None if settings.reranker is None else str(expanded(settings.reranker)),
        mode=config.mode,
        attention=config.reranker.attention,
        config=config,
        **runtime,
    ).load()


def _run_stage(  # noqa: PLR0917
    settings: Settings, stage: Stage, folder: Path, start: Path | None, told: Told, vector_folder: Path
) -> None:
    set_seed(settings.seed)
    sets = _read_sets([source.path for source in stage.lists])
    if not stage.added:
        sets = [replace(of, lists=tuple(each.served() for each in of.lists)) for of in sets]
    dev_sets = _read_sets(settings.dev.lists)
    arguments = _arguments(settings, stage, folder)
    # Models load whole, and onto this process's device, before DeepSpeed spreads them.
    unset_hf_deepspeed_config()
    model = load_start(settings.model, start, str(arguments.device))
    if getattr(arguments, "hf_deepspeed_config", None) is not None:
        set_hf_deepspeed_config(arguments.hf_deepspeed_config)
    frozen = stage.encoder == "frozen"
    _check_zero(stage, arguments)
    pools = DevPools(dev_sets, candidates=settings.dev.candidates, queries=settings.dev.queries)
    with arguments.main_process_first(desc="encoding"):
        vectors = encode_sets(model, sets, vector_folder) if frozen else None
    schedule = _schedule(settings, stage, sets, arguments, model.config.rrf_k)
    _check_data(folder, sets, len(schedule))
    left_out = sum(len(of.lists) for of in sets) - sum(map(len, schedule.usable))
    if left_out:
        told(f"Stage {stage.name}: {left_out} lists have nothing to learn from and are left out")
    _begin(model, stage, schedule, told)
    before = copied_weights(model) if stage.keep < 1 and _is_first_process() else None
    prepare(model, stage)
    objective = Objective(stage.losses, stage.temperatures, stage.pair_weights)
    joint = JointModel(model.encoder, model.reranker, model.head, objective, recompute=stage.recompute)
    average = WeightAverage(joint, stage.average_from)
    told(
        f"Stage {stage.name}: {len(schedule)} lists, {sum(p.numel() for p in trained_state(joint).values()):,} weights"
    )
    trainer = JointTrainer(
        model=joint,
        args=arguments,
        train_dataset=schedule,
        eval_dataset=schedule,
        data_collator=Collator(sets, model.encoder, model.reranker.prompt, stage.tokens_per_chunk, vectors),
        callbacks=[average, TrainingProgress(stage.name)],
        learning_rates=stage.learning_rates,
        measure=lambda: pools.measure(model, vector_folder, encoder_is_frozen=frozen),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(Path(str(arguments.output_dir)), average)
    if last is not None:
        told(f"Stage {stage.name} goes on from {last.name}")
    outcome = trainer.train(resume_from_checkpoint=None if last is None else str(last))
    averaged = average.apply()
    if averaged:
        told(f"Stage {stage.name}: the weights are the mean of the last {averaged} steps")
    state = _whole_state(trainer)
    # A process has one DeepSpeed configuration at a time: the next stage brings its own. Until then models load whole.
    AcceleratorState._reset_state()
    unset_hf_deepspeed_config()
    if not _is_first_process():
        return
    if state is not None:
        model = _rebuilt(settings, stage, start, objective, state, str(arguments.device))
    _end(model, stage, before)
    finished = pools.measure(model, vector_folder, encoder_is_frozen=True)
    model.save_pretrained(folder / MODEL)
    history = [*trainer.state.log_history, {"step": trainer.state.global_step, **as_evaluation(finished)}]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    first_stage = pools.first_stage()
    draw_curves(history, first_stage, folder / "curves.png", f"{folder.parent.name}: {stage.name}")
    report = {
        "stage": stage.name,
        "settings": to_dict(settings),
        "seed": settings.seed,
        "steps": trainer.state.global_step,
        "lists_seen": len(schedule),
        "averaged_steps": averaged,
        "minutes": round(float(outcome.metrics.get("train_runtime", math.nan)) / 60, 2),
        "data": {of.name: {"digest": of.digest, "lists": len(of.lists), "made": dict(of.info)} for of in sets},
        "dev_data": {of.name: of.digest for of in dev_sets},
        "first_stage": first_stage,
        "dev": finished,
        "environment": describe_environment(None),
        "fingerprint": model.fingerprint,
    }
    # Last: a stage with this file is complete.
    write_whole(folder / "training.json", json.dumps(report, indent=2) + "\n")


def _begin(model: ResRank, stage: Stage, schedule: Schedule, told: Told) -> None:
    if stage.calibrate and stage.ranks and model.head.is_safe_start:
        found = calibrate(model.head, schedule.whole_lists(_CALIBRATION_LISTS), stage.match_share)
        told(f"Stage {stage.name}: {found}")
    if stage.evidence_share is not None:
        model.set_evidence_share(1.0)


def _end(model: ResRank, stage: Stage, before: dict[str, torch.Tensor] | None) -> None:
    merge(model)
    if before is not None:
        keep_share(model, before, stage.keep)
    if stage.evidence_share is not None:
        model.set_evidence_share(stage.evidence_share)


def _check_arguments(settings: Settings) -> None:
    known = {each.name for each in fields(TrainingArguments)}
    for stage in settings.stages:
        unknown = sorted(set(stage.arguments) - known)
        if unknown:
            msg = f"stage {stage.name!r}: TrainingArguments has no {', '.join(unknown)}: see the Transformers docs"
            raise ValueError(msg)


def _check_zero(stage: Stage, arguments: TrainingArguments) -> None:
    plugin = arguments.deepspeed_plugin
    if plugin is None or plugin.zero_stage != 3:
        return
    if stage.average_from < 1:
        msg = f"stage {stage.name!r}: average_from needs whole weights, which ZeRO-3 spreads: set it to 1"
        raise ValueError(msg)
    if not plugin.deepspeed_config["zero_optimization"].get(_GATHER):
        msg = f"stage {stage.name!r}: the DeepSpeed file needs zero_optimization.{_GATHER}: true, to save the model"
        raise ValueError(msg)


def _read_sets(paths: Sequence[str]) -> list[ListSet]:
    sets = [read_lists(expanded(path)) for path in paths]
    names = [of.name for of in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"list folders need different names, got {', '.join(twice)} more than once: rename one"
        raise ValueError(msg)
    return sets


def _check_data(folder: Path, sets: Sequence[ListSet], total: int) -> None:
    """A stage that was begun goes on with the same lists in the same order, or not at all."""
    described = json.dumps({"lists": total, "digests": {of.name: of.digest for of in sets}}, indent=2) + "\n"
    kept = folder / "data.json"
    if kept.is_file() and kept.read_text(encoding="utf-8") != described:
        msg = (
            f"{folder} was begun with other lists, or another number of lists a step ({kept}): go on with the same "
            "ones and as many processes, or name another output folder"
        )
        raise ValueError(msg)
    if _is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(kept, described)


def _last_checkpoint(folder: Path, average: WeightAverage) -> Path | None:
    """The newest one that was written to its end, with the mean of the weights if that had begun."""
    for path, state in checkpoints(folder):
        if state is not None and average.is_kept(path, int(state["global_step"]), int(state["max_steps"])):
            return path
    return None


def _arguments(settings: Settings, stage: Stage, folder: Path) -> TrainingArguments:
    values = {**_DEFAULTS, **stage.arguments}
    if settings.dev.lists and "eval_steps" in values:
        values.setdefault("eval_strategy", "steps")
    deepspeed = values.get("deepspeed")
    if isinstance(deepspeed, str):
        own = shipped(deepspeed, ".json")
        values["deepspeed"] = str(own if own is not None else expanded(deepspeed))
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        seed=settings.seed,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # the schedule is shuffled already, and knows its order after a resume
        report_to=["tensorboard"] if _has_tensorboard() else [],
        num_train_epochs=1,
        ddp_find_unused_parameters=False,
        label_names=[],
        **values,
    )


def _schedule(
    settings: Settings, stage: Stage, sets: list[ListSet], arguments: TrainingArguments, rrf_k: int
) -> Schedule:
    at_once = (
        int(arguments.per_device_train_batch_size)
        * int(arguments.gradient_accumulation_steps)
        * int(arguments.world_size)
    )
    if stage.passes is None:
        total = int(arguments.max_steps) * at_once
    else:
        total = max(1, round(stage.passes * sum(len(usable_lists(of, stage)) for of in sets) / at_once)) * at_once
    return Schedule(sets, stage, total, settings.seed, rrf_k)


def _whole_state(trainer: JointTrainer) -> dict[str, torch.Tensor] | None:
    """The weights that DeepSpeed spread over the processes; all of them must ask. `None` when they are whole."""
    if not trainer.is_deepspeed_enabled:
        return None
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return state


@torch.no_grad()
def _rebuilt(  # noqa: PLR0917
    settings: Settings,
    stage: Stage,
    start: Path | None,
    objective: Objective,
    state: dict[str, torch.Tensor],
    device: str,
) -> ResRank:
    """The trained model, free of what DeepSpeed hung on its modules."""
    model = load_start(settings.model, start, device)
    prepare(model, stage)
    joint = JointModel(model.encoder, model.reranker, model.head, objective)
    for name, weight in trained_state(joint).items():
        weight.copy_(state[name])
    return model


def _is_first_process() -> bool:
    """Also before the processes know of each other."""
    return os.environ.get("RANK", "0") == "0"


def _wait_for_all() -> None:
    """The first process writes the stage's model; the others go on when it is there."""
    if is_distributed():
        torch.distributed.barrier()


def _has_tensorboard() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboard") is not None
