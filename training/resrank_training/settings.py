# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
What a training run is: the YAML file that `resrank-train fit` takes.

Everything that Hugging Face's `TrainingArguments` decides (learning rate, batch size, schedule, precision, DeepSpeed)
is under `arguments` with its own names; the rest is here.
"""

from __future__ import annotations

import os
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .losses import LOSSES, PairWeights

_KNOWN_KEYS_ONLY = ConfigDict(extra="forbid")

Trained = Literal["full", "lora", "frozen"]
Targets = Literal["grades", "ranking"]

# Of TrainingArguments: what the run sets itself.
_DECIDED = frozenset(
    {
        *("output_dir", "seed", "data_seed", "remove_unused_columns", "report_to", "num_train_epochs"),
        *("train_sampling_strategy", "ddp_find_unused_parameters", "label_names"),
    }
)


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class Lora:
    """
    Low-rank adapters (peft).

    :param rank: of the update.
    :param alpha: the update is scaled by alpha / rank.
    :param dropout: on the adapter's input.
    :param target_modules: names of the layers, or `all-linear`.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class ModelSettings:
    """
    Where training starts. Give `start`, or `encoder` with or without `reranker`.

    :param start: a ResRank checkpoint (name, folder, hub id).
    :param encoder: a sentence-transformers or Hugging Face folder, or a hub id.
    :param reranker: likewise; `None` starts it from the encoder's layers.
    :param config: values of the checkpoint's config that differ, e.g. `{mode: paper, reranker: {attention: causal}}`.
    :param dtype: of the weights: `float32`, or `bfloat16` for full-parameter training of large models.
    :param attn_implementation: as in `ResRank.from_pretrained`.
    """

    start: str | None = None
    encoder: str | None = None
    reranker: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    attn_implementation: str = "auto"

    def __post_init__(self) -> None:
        if (self.start is None) is (self.encoder is None) or (self.start is not None and self.reranker is not None):
            msg = (
                "model: expected either `start` (a ResRank checkpoint) or `encoder` with or without `reranker`, got "
                f"start={self.start!r}, encoder={self.encoder!r}, reranker={self.reranker!r}"
            )
            raise ValueError(msg)
        if self.start is not None and self.config:
            msg = "model: a checkpoint brings its own config: leave out `config`, or give `encoder` instead of `start`"
            raise ValueError(msg)


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class ListSource:
    """
    Training lists of a stage.

    :param path: a folder that `mine`, `convert` or `label` wrote; `$NAME` is read from the environment.
    :param share: how many of the stage's lists come from it, relative to the other sources; `None`: as many as it has.
    :param calibrate: whether the prior is fitted to its lists; those of other kinds of queries can be left to the rest.
    """

    path: str
    share: float | None = None
    calibrate: bool = True

    def __post_init__(self) -> None:
        if self.share is not None and not self.share > 0:
            msg = f"lists: share must be positive, got {self.share} for {self.path}"
            raise ValueError(msg)


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class EvidenceDropout:
    """
    What the reranker is not told in training, so that it also ranks without it.

    :param number: probability that a single known number of a candidate is unknown.
    :param whole_list: probability that a list has no evidence, and the dense list's candidates alone: the pure mode.
    :param lexical_only: probability that only the lexical list is known to have run, as in a BM25 pool.
    :param dense_only: probability that only the dense list is known to have run.
    :param first_stage: probability that no first stage is known to have run, as for candidates from elsewhere.
    :param matches: probability that the texts of a list are not known, so that nothing matches its words.
    """

    number: float = 0.15
    whole_list: float = 0.15
    lexical_only: float = 0.1
    dense_only: float = 0.1
    first_stage: float = 0.05
    matches: float = 0.05

    @property
    def of_lists(self) -> dict[str, float]:
        """
        What happens to whole lists; one of these at most.

        :returns: probabilities by name.
        """
        return {name: value for name, value in asdict(self).items() if name != "number"}

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                msg = f"evidence_dropout.{name} must be between 0 and 1, got {value}"
                raise ValueError(msg)
        if sum(self.of_lists.values()) > 1:
            msg = f"evidence_dropout: {', '.join(self.of_lists)} together must not exceed 1"
            raise ValueError(msg)


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class Stage:
    """
    One stage of training.

    :param name: of its folder in the output.
    :param lists: where its lists come from.
    :param passes: how often each list is seen, on average; the number of steps follows from it and the batch size.
        `None` when `arguments.max_steps` says how long the stage is.
    :param list_length: candidates of a list, its positives among them; the others are drawn anew each time.
    :param hard_share: share of the other candidates that come from the top of the pool; the rest is drawn from all of
        it. 1.0 takes the pool's best.
    :param positives: most positives of a list that has several; the others are left out of it.
    :param added: whether lists hold the relevant passages that the first stage missed. Without them they are as in use,
        and those that have no other are left out.
    :param targets: what the ranking loss wants: judged `grades`, or a teacher's `ranking`.
    :param losses: weights by name: `info_nce`, `rank_net`, `list_mle`, `list_softmax`. METHOD: 1 and 2 (rank_net).
    :param temperatures: by name. Defaults: info_nce 0.03; the others 1.0 in evidence mode (logits), 0.1 in paper mode
        (cosines).
    :param pair_weights: of rank_net.
    :param encoder: which of its weights are trained. `frozen` encodes every passage once, before the first step.
    :param reranker: which of its weights are trained. The head is trained whenever there is a ranking loss.
    :param calibrate: fit the weights of the prior's scores to the stage's lists before the first step, when the model
        still ranks as its first stage does. For evidence mode.
    :param match_share: how far calibration goes from the best weights without the words' matches to the best with them.
        All of the way gains most on queries like those of the lists, and loses on longer ones.
    :param lora: of the parts that are trained by LoRA.
    :param learning_rates: of `encoder`, `reranker`, `head`; what is missing takes `arguments.learning_rate`.
    :param dropout: of both backbones; `None` leaves what they have.
    :param evidence_dropout: see there.
    :param tokens_per_chunk: passages are encoded in chunks of so many padded tokens.
    :param recompute: whether activations of chunks are computed again in the backward pass: memory then does not grow
        with the list length, for a third more time.
    :param average_from: share of the stage after which the weights of all steps are averaged; 1.0 takes the last ones.
    :param keep: share of the change that is kept at the end: the weights are the mean of those before and after the
        stage, which often generalises better (WiSE-FT, arXiv 2109.01903). 1.0 keeps all of it.
    :param evidence_share: what the model's `evidence_share` is afterwards: how much of what the reranker adds counts
        where there is evidence. The stage itself trains with all of it: one trained with a share makes up
        for it. `None` leaves it as it is.
    :param arguments: of Hugging Face's `TrainingArguments`.
    """

    name: str
    lists: list[ListSource]
    passes: float | None = None
    list_length: int = 24
    hard_share: float = 0.5
    positives: int = 4
    added: bool = True
    targets: Targets = "grades"
    losses: dict[str, float] = field(default_factory=lambda: {"info_nce": 1.0, "rank_net": 2.0})
    temperatures: dict[str, float] = field(default_factory=dict)
    pair_weights: PairWeights = "equal"
    encoder: Trained = "lora"
    reranker: Trained = "full"
    calibrate: bool = True
    match_share: float = 1.0
    lora: Lora = field(default_factory=Lora)
    learning_rates: dict[str, float] = field(default_factory=dict)
    dropout: float | None = None
    evidence_dropout: EvidenceDropout = field(default_factory=EvidenceDropout)
    tokens_per_chunk: int = 4096
    recompute: bool = True
    average_from: float = 1.0
    keep: float = 1.0
    evidence_share: float | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def ranks(self) -> bool:
        """
        Whether a loss reads the reranker's scores.

        :returns: false when only the encoder is trained.
        """
        return bool(set(self.losses) - {"info_nce"})

    def __post_init__(self) -> None:
        for fault in (self._length_fault(), self._names_fault(), self._weights_fault()):
            if fault is not None:
                msg = f"stage {self.name!r}: {fault}"
                raise ValueError(msg)

    def _length_fault(self) -> str | None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            return "expected a name that can be a folder"
        if not self.lists:
            return "expected at least one folder under `lists`, got none"
        if (self.passes is None) is ("max_steps" not in self.arguments):
            return "give either `passes` or `arguments.max_steps`"
        if self.passes is not None and not self.passes > 0:
            return f"passes must be positive, got {self.passes}"
        if self.list_length < 2 or not 1 <= self.positives < self.list_length:
            return (
                "a list needs 2 candidates at least and room for others than its positives, got list_length "
                f"{self.list_length}, positives {self.positives}"
            )
        return None

    def _names_fault(self) -> str | None:
        parts = ("encoder", "reranker", "head")
        for name, known in (("losses", LOSSES), ("temperatures", LOSSES), ("learning_rates", parts)):
            unknown = sorted(set(getattr(self, name)) - set(known))
            if unknown:
                return f"{name} knows {', '.join(known)}, got {', '.join(unknown)}"
        own = sorted(_DECIDED & set(self.arguments))
        if own:
            return f"arguments must not set {', '.join(own)}: the run decides them"
        return None

    def _weights_fault(self) -> str | None:
        if not self.losses or any(not weight > 0 for weight in self.losses.values()):
            return f"every loss needs a positive weight (leave out what is not wanted), got {self.losses}"
        if "info_nce" in self.losses and self.encoder == "frozen":
            return "info_nce trains the encoder, which is frozen: leave it out of `losses`, or train the encoder"
        if not self.ranks and self.reranker != "frozen":
            return "info_nce does not train the reranker: name a ranking loss, or freeze the reranker"
        if self.average_from < 1 and self.arguments.get("load_best_model_at_end"):
            return "the mean of weights and the best weights exclude each other: average_from: 1, or no load_best_model"
        for name in ("hard_share", "match_share", "average_from", "keep", "evidence_share"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                return f"{name} must be between 0 and 1, got {getattr(self, name)}"
        return None


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class Dev:
    """
    What is measured while training: nDCG@10 of the reranked pool.

    :param lists: folders that `mine --split dev` wrote.
    :param queries: of each, the first so many; `None` takes all.
    :param candidates: of each list, the pool's first so many.
    """

    lists: list[str] = field(default_factory=list)
    queries: int | None = 50
    candidates: int = 100


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class Settings:
    """
    A run.

    :param model: where it starts.
    :param stages: one after the other.
    :param dev: what is measured meanwhile.
    :param seed: of everything that is drawn.
    """

    model: ModelSettings
    stages: list[Stage]
    dev: Dev = field(default_factory=Dev)
    seed: int = 0

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            msg = f"expected stages with different names, got {names}"
            raise ValueError(msg)


def read_settings(path: Path) -> Settings:
    """
    Read a YAML file.

    :param path: the file.
    :returns: the checked settings.
    :raises ValueError: for an unknown key, a wrong type or a wrong value, with the place.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path} is not YAML: {error}"
        raise ValueError(msg) from error
    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in error.errors()]
        msg = f"{path}: {'; '.join(faults)}"
        raise ValueError(msg) from error


def to_dict(settings: Settings) -> dict[str, Any]:
    """
    Plain values.

    :param settings: of a run.
    :returns: what YAML or JSON can hold.
    """
    return asdict(settings)


def expanded(path: str) -> Path:
    """
    A path of the settings with `~` and `$NAME` filled in.

    :param path: as written.
    :returns: the path.
    :raises ValueError: when a variable is not set.
    """
    found = os.path.expandvars(path)
    if "$" in found:
        msg = f"{path}: the environment variable is not set"
        raise ValueError(msg)
    return Path(found).expanduser()
