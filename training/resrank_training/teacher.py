# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Fine-tune a cross-encoder on training lists, so that it can label them: `resrank-train teacher`.

An example is a judged positive with negatives drawn from the same list. A killed run goes on from its last checkpoint
and ends with the weights of a run that was never interrupted; the folder is complete when it holds `teacher.json`.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.utils.data import RandomSampler
from transformers import PrinterCallback, TrainerCallback

from resrank.runtime import Runtime
from resrank.sources import resolve
from resrank_evals.environment import weights_hash
from resrank_evals.results import write_whole
from resrank_pipelines.indexing import Progress
from resrank_pipelines.information import package_version

from .checkpoints import check_begun, last_whole, plain_settings
from .lists import ListSet
from .parts import set_dropout

try:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, ListNetLoss
except ImportError:
    message = "training a teacher needs sentence-transformers, datasets and accelerate: pip install 'resrank[training]'"
    raise ImportError(message) from None

Loss = Literal["listwise", "binary"]

DONE = "teacher.json"
LOG = "log.jsonl"
CARD = "README.md"
_BEGUN = "teacher.json.part"
_CHECKPOINTS = "checkpoints"
# ListNet's target is the softmax of the labels: with this much between them it is 1 for the positive and 0 for the
# others, and the loss is softmax cross-entropy over the list. Labels of 1 and 0 would give the positive of 8 just 0.28.
_POSITIVE_LABEL = 100.0
# In memory at the same time: a pair of 256 tokens takes about 90 MB of activations in MiniLM's 6 layers. A step's
# gradient is gathered over as many forward passes as it takes.
_PAIRS = {"cpu": 32, "cuda": 256}
_DTYPES = ("auto", "float32", "bfloat16")
_WARM_UP = 0.1  # of all steps
_WEIGHT_DECAY = 0.01
_LOG_STEPS = 10
_PACKAGES = ("resrank", "torch", "transformers", "sentence-transformers", "datasets", "accelerate")


@dataclass(frozen=True)
class TeacherSettings:
    """
    How a teacher is trained.

    :param base: a folder, a pinned base or a hub id: a plain transformer is given a fresh head, a cross-encoder keeps
        its own. Default: the backbone of resrank-mini.
    :param loss: `listwise` is softmax cross-entropy over a positive and its negatives; `binary` judges each pair alone.
    :param negatives: drawn for each positive.
    :param epochs: passes over all examples.
    :param batch_size: examples a step, each with its negatives.
    :param learning_rate: the highest one, after a warm-up over a tenth of the steps; then it falls linearly to 0.
    :param max_length: tokens of query and passage together; the rest is cut.
    :param max_steps: end after these, whatever `epochs` says; `None` for no limit.
    :param save_steps: steps between checkpoints.
    :param dropout: of the base; on a CPU, attention with any takes 2.5 times as long, and one pass needs none.
    :param dtype: of the arithmetic, as in `Runtime.resolve`: `auto`, `float32` or `bfloat16`; weights are float32.
    :param seed: of the head, the negatives, the order of examples and dropout.
    """

    base: str = "all-MiniLM-L6-v2"
    loss: Loss = "listwise"
    negatives: int = 7
    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float = 2e-5
    max_length: int = 256
    max_steps: int | None = None
    save_steps: int = 500
    dropout: float = 0.0
    dtype: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            msg = f"dropout must be at least 0 and below 1, got {self.dropout}"
            raise ValueError(msg)
        if self.dtype not in _DTYPES:
            msg = f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}"
            raise ValueError(msg)
        if self.loss not in get_args(Loss):
            msg = f"loss must be one of {', '.join(get_args(Loss))}, got {self.loss!r}"
            raise ValueError(msg)
        for name in ("negatives", "epochs", "batch_size", "learning_rate", "max_length", "max_steps", "save_steps"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise ValueError(msg)


@dataclass(frozen=True)
class Examples:
    """
    What a teacher learns from.

    :param queries: of each example.
    :param passages: of each example, the positive first.
    :param counts: `examples`; `lists` that gave any, and why others gave none (`without_positive`, `without_negative`);
        examples that are `short` of negatives; candidates with the `same_text` as a positive, which are no negatives.
    """

    queries: list[str] = field(default_factory=list)
    passages: list[list[str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class TeacherReport:
    """
    What was trained.

    :param steps: in all.
    :param resumed_from: the step of the checkpoint that this run went on from; `None` when it began.
    :param counts: of the examples; see `Examples`.
    :param first_loss: of the first step.
    :param last_loss: mean over the last steps that were logged together.
    :param seconds: that this run took.
    """

    steps: int
    resumed_from: int | None
    counts: Mapping[str, int]
    first_loss: float
    last_loss: float
    seconds: float


def draw_examples(sets: Sequence[ListSet], negatives: int, seed: int = 0) -> Examples:
    """
    Make an example of each judged positive.

    Unjudged candidates are negatives. The draw depends on the seed, the data and the example alone.

    :param sets: training lists.
    :param negatives: for each positive.
    :param seed: of the draw.
    :returns: the examples, in the order of the lists.
    """
    found = Examples()
    names = ("lists", "examples", "without_positive", "without_negative", "short", "same_text")
    found.counts.update(dict.fromkeys(names, 0))
    for each_set in sets:
        for each in each_set.lists:
            texts = [each_set.passages[id_].content for id_ in each.passages]
            positives = each.positives
            relevant = {texts[i] for i in positives}
            pool = [i for i, text in enumerate(texts) if text not in relevant]
            found.counts["same_text"] += len(texts) - len(pool) - len(positives)
            if not relevant or not pool:
                found.counts["without_positive" if not relevant else "without_negative"] += 1
                continue
            found.counts["lists"] += 1
            for positive in positives:
                # A string as the seed: the same draw on every machine, whatever else is trained on.
                rng = random.Random(f"{seed} {each_set.digest} {each.query_id} {each.passages[positive]}")  # noqa: S311
                drawn = rng.sample(pool, min(negatives, len(pool)))
                found.queries.append(each.query)
                found.passages.append([texts[positive], *(texts[i] for i in drawn)])
                found.counts["examples"] += 1
                found.counts["short"] += len(drawn) < negatives
    return found


def train_teacher(sets: Sequence[ListSet], out: Path, settings: TeacherSettings, progress: Progress) -> TeacherReport:
    """
    Fine-tune a cross-encoder, or go on with it.

    :param sets: training lists with judged positives.
    :param out: folder to write; a sentence-transformers `CrossEncoder` can be loaded from it afterwards.
    :param settings: how.
    :param progress: told (what, steps done, steps in all).
    :returns: what was trained.
    :raises FileExistsError: when the folder holds a finished teacher.
    :raises FileNotFoundError: when there is no such base.
    :raises RuntimeError: when the loss is no longer a number.
    :raises ValueError: for a folder begun with other settings or data, lists without examples, or an unusable base.
    """
    started = time.monotonic()
    folder = resolve(settings.base)
    described = _describe(sets, settings, folder)
    check_begun(out / DONE, out / _BEGUN, described, what="teacher", inputs="settings, lists or packages")
    examples = draw_examples(sets, settings.negatives, settings.seed)
    if not examples.queries:
        msg = f"no list has a judged positive and a negative beside it ({dict(examples.counts)}): mine other lists"
        raise ValueError(msg)
    model = _open_base(folder, settings)
    set_dropout(model[0].model, settings.dropout)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / _BEGUN, json.dumps(described, indent=2) + "\n")
    trainer = _Trainer(
        model=model,
        args=_arguments(out, settings),
        train_dataset=_dataset(examples, settings.loss),
        loss=_loss(model, settings),
        callbacks=[_Watch(out / LOG, progress)],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for results
    trainer.model_accepts_loss_kwargs = False  # losses are means over a forward pass, to be averaged over a step's
    checkpoint, state = last_whole(out / _CHECKPOINTS)
    if state and state["global_step"] >= state["max_steps"]:  # killed after its last step
        model = CrossEncoder(str(checkpoint), device="cpu", local_files_only=True)
        steps, history = state["global_step"], state["log_history"]
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        model, steps, history = trainer.model, trainer.state.global_step, trainer.state.log_history
    losses = [row["loss"] for row in history if "loss" in row]
    report = TeacherReport(
        steps=steps,
        resumed_from=state.get("global_step"),
        counts=dict(examples.counts),
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=round(time.monotonic() - started, 1),
    )
    model.save_pretrained(str(out), create_model_card=False)
    write_whole(out / CARD, _card(described, report))
    write_whole(out / DONE, json.dumps({**described, **asdict(report)}, indent=2) + "\n")
    (out / _BEGUN).unlink()
    shutil.rmtree(out / _CHECKPOINTS)  # several times the model's size, and of no use any more
    return report


class _Trainer(CrossEncoderTrainer):
    """Without the library's model cards: they quote the training data, and ask the hub about the base."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        self.model.save_pretrained(output_dir or self.args.output_dir, create_model_card=False)


class _SeededBatches(DefaultBatchSampler):
    """
    An order that seed and epoch alone decide.

    The library's goes on drawing from one generator, so that a run that is resumed in its second epoch repeats the
    order of the first.
    """

    def __init__(self, dataset: Any, **options: Any) -> None:
        self._own = torch.Generator()
        super().__init__(RandomSampler(dataset, generator=self._own), **options)

    def __iter__(self) -> Iterator[list[int]]:
        self._own.manual_seed(self.seed + 1_000_003 * self.epoch)
        return super().__iter__()


class _Watch(TrainerCallback):
    """Tells the progress, keeps the log on disk, and ends a run whose loss is lost."""

    def __init__(self, log: Path, progress: Progress) -> None:
        self._log = log
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        rows = [row for row in state.log_history if "loss" in row]
        write_whole(self._log, "".join(json.dumps(row) + "\n" for row in rows))
        if rows and not math.isfinite(rows[-1]["loss"]):
            msg = f"the loss is {rows[-1]['loss']} at step {state.global_step}: try a lower --learning-rate"
            raise RuntimeError(msg)
        self._progress("Training", state.global_step, state.max_steps)


def _open_base(folder: Path, settings: TeacherSettings) -> CrossEncoder:
    torch.manual_seed(settings.seed)  # of the fresh head
    try:
        model = CrossEncoder(
            str(folder),
            num_labels=1,
            max_length=settings.max_length,
            device="cpu",  # the trainer moves it
            trust_remote_code=False,
            local_files_only=True,
            # Scores of a list mean nothing one by one: no sigmoid, which would make ties of high ones.
            activation_fn=torch.nn.Identity() if settings.loss == "listwise" else torch.nn.Sigmoid(),
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
        positions = getattr(model[0].model.config, "max_position_embeddings", None)
        if positions is not None and settings.max_length > positions:
            msg = f"it reads {positions} tokens, lower --max-length"
            raise ValueError(msg)
        # Now rather than in the middle of the training: a batch with padding, and a pair as long as they come.
        model.predict([("a", "b"), ("a " * settings.max_length, "b " * settings.max_length)], show_progress_bar=False)
    except Exception as error:  # the libraries raise many kinds; all mean that it is no base
        msg = f"base {settings.base!r} cannot be trained as a cross-encoder of {settings.max_length} tokens: {error}"
        raise ValueError(msg) from None  # a command shows the cause where there is one, and it names no base
    return model


def _dataset(examples: Examples, loss: Loss) -> Dataset:
    if loss == "listwise":
        labels = [[_POSITIVE_LABEL] + [0.0] * (len(each) - 1) for each in examples.passages]
        return Dataset.from_dict({"query": examples.queries, "passages": examples.passages, "labels": labels})
    rows = list(zip(examples.queries, examples.passages, strict=True))
    return Dataset.from_dict(
        {
            "query": [query for query, texts in rows for _ in texts],
            "passage": [text for _, texts in rows for text in texts],
            "label": [float(place == 0) for _, texts in rows for place in range(len(texts))],
        }
    )


def _loss(model: CrossEncoder, settings: TeacherSettings) -> torch.nn.Module:
    if settings.loss == "listwise":
        return ListNetLoss(model, mini_batch_size=-1)  # all of them: the batches are small enough
    # Positives weigh as much as all negatives together.
    return BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(float(settings.negatives)))


def _arguments(out: Path, settings: TeacherSettings) -> CrossEncoderTrainingArguments:
    runtime = Runtime.resolve(None, settings.dtype, "sdpa")
    cuda = runtime.device.type == "cuda"
    size, pairs = settings.batch_size, 1 + settings.negatives
    most = max(1, _PAIRS["cuda" if cuda else "cpu"] // pairs)
    at_once = max(n for n in range(1, min(size, most) + 1) if size % n == 0)
    return CrossEncoderTrainingArguments(
        output_dir=str(out / _CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=at_once * (1 if settings.loss == "listwise" else pairs),
        gradient_accumulation_steps=size // at_once,
        learning_rate=settings.learning_rate,
        warmup_steps=_WARM_UP,
        weight_decay=_WEIGHT_DECAY,
        seed=settings.seed,
        bf16=runtime.dtype == torch.bfloat16,
        use_cpu=runtime.device.type == "cpu",
        dataloader_pin_memory=cuda,
        batch_sampler=_SeededBatches,
        # A divisor, so that a resumed run logs means over the same steps.
        logging_steps=math.gcd(settings.save_steps, _LOG_STEPS),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )


def _describe(sets: Sequence[ListSet], settings: TeacherSettings, folder: Path) -> dict[str, Any]:
    """Everything that decides the weights; no path of this machine."""
    return {
        "settings": {
            **plain_settings(settings, folder),
            "dtype": Runtime.resolve(None, settings.dtype, "sdpa").dtype_name,
        },
        "base_weights": weights_hash(str(folder)),
        "lists": [{"name": each.name, "digest": each.digest, "lists": len(each.lists)} for each in sets],
        "versions": {package: package_version(package) for package in _PACKAGES},
    }


def _card(described: Mapping[str, Any], report: TeacherReport) -> str:
    lists = {f"lists of {each['name']}": f"{each['lists']}, digest {each['digest']}" for each in described["lists"]}
    facts = {**lists, **report.counts, **described["settings"], "base weights": described["base_weights"]}
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**facts, **described["versions"]}.items())
    return f"""---
library_name: sentence-transformers
pipeline_tag: text-ranking
tags: [cross-encoder, reranker]
---

# Cross-encoder teacher

Made by `resrank-train teacher` to label training lists. It reads a query and a passage together; a higher score means
more relevant. Load it with `sentence_transformers.CrossEncoder`.

{report.steps} steps; loss {report.first_loss:.4f} at the first, {report.last_loss:.4f} at the end (`{LOG}`).

| what | value |
| --- | --- |
{rows}
"""
