# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The `resrank-train` command: each step reads files and writes files, and goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from resrank_evals.command_line import DEFAULT_STORES, Duplicates, named_sources
from resrank_pipelines.command import AsJson, Device, Dtype, Model, command, make_app

from .peers.commands import app as peer

app = make_app("resrank-train", "Train ResRank models: mine, label, teacher, fit, export; and readers and peers.")
app.add_typer(peer, name="peer")

Out = Annotated[Path, typer.Option("--out", help="Folder to write; made if missing.")]


@app.command()
@command
def mine(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Collections with judgments: a BEIR folder, a folder of such folders, irds:ID, or "
            "trec:topics=FILE,qrels=FILE,corpus=FILE.",
        ),
    ],
    *,
    out: Out,
    split: Annotated[str, typer.Option("--split", help="Of the qrels.")] = "train",
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, help="Seeded sample of queries a collection; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Of the first stage, a list.")] = 100,
    max_score_ratio: Annotated[
        float | None,
        typer.Option(
            "--max-score-ratio",
            help="Leave out unjudged candidates whose cosine is above this ratio of the best relevant passage's, "
            "e.g. 0.95; default: keep all.",
        ),
    ] = None,
    query_form: Annotated[
        Literal["as-is", "keywords"],
        typer.Option("--query-form", help="keywords: reduce questions to their content words (English)."),
    ] = "as-is",
    derived: Annotated[
        Literal["sentences", "titles"] | None,
        typer.Option(
            "--derive",
            help="Other queries, made from the relevant passages: a sentence for the passage that it is taken out of, "
            "or a title for all passages under it. Default: the collection's own.",
        ),
    ] = None,
    model: Model = "resrank-mini",
    stores: Annotated[
        Path, typer.Option("--stores", help="Where collections are indexed, once a model; shared with resrank-eval.")
    ] = Path(DEFAULT_STORES),
    duplicate_ids: Annotated[
        Literal["error", "first"],
        typer.Option("--duplicate-ids", help="Different passages or queries under one id: stop, or read the first."),
    ] = "error",
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Make training lists: each judged query with the candidates and the evidence that retrieval gives it.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from resrank_evals.loading import collection_sources
    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json, progress_display

    from .deriving import derive
    from .list_maker import MiningSettings
    from .mining import check_names, mining_table
    from .mining import mine as mine_collection

    settings = MiningSettings(
        candidates=candidates, queries=queries, seed=seed, max_score_ratio=max_score_ratio, query_form=query_form
    )
    # Relevant passages that a collection lacks are counted and shown.
    sources = [
        source
        for spec in data
        for source in collection_sources(spec, split=split, missing_passages="keep", duplicate_ids=duplicate_ids)
    ]
    check_names(sources)
    handle = ResRankModel(model, device=device, dtype=dtype)
    engine = handle.load("encoder")  # held: handles alone let it go between collections
    mined = []
    with progress_display(keep=False) as progress:
        for source in sources:
            progress(f"Reading {source.name}", 0, 0)
            collection = source.load() if derived is None else derive(source.load(), derived, seed)
            mined.append(mine_collection(collection, handle, settings, out=out, stores=stores, progress=progress))
    del engine
    if as_json:
        print_json({"out": str(out), "collections": [each.to_json() for each in mined]})
    else:
        screen.print(mining_table(mined))
        for each in mined:
            if each.counts.not_found:
                screen.print(
                    f"{each.collection}: {each.counts.not_found:,} judged passages are not there or blank; "
                    f"{each.counts.without_positive:,} queries without another are left out.",
                    markup=False,
                    soft_wrap=True,
                )
        screen.print(f"Lists: [cyan]{escape(str(out))}[/]", soft_wrap=True)
    return 0


@app.command()
@command
def convert(
    file: Annotated[Path, typer.Argument(help="JSONL, plain or gzip.")],
    *,
    form: Annotated[
        Literal["pe-rank", "e2rank", "jsonl"],
        typer.Option("--format", help="jsonl: query, passages, and optionally positives or grades, ranking, evidence."),
    ],
    out: Out,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the folder in --out.", show_default="the file's name")
    ] = None,
    bad_rows: Annotated[
        Literal["error", "skip"], typer.Option("--bad-rows", help="Lines that are not in the format: stop, or skip.")
    ] = "error",
    as_json: AsJson = False,
) -> int:
    """
    Make training lists of a file of another project, or of your own.
    """
    from resrank_pipelines.display import err, print_json, progress_display
    from resrank_pipelines.display import out as screen

    from .conversion import convert as convert_file

    with progress_display(keep=False) as progress:
        made = convert_file(file, form, out=out, name=name, bad_rows=bad_rows, progress=progress)
    for reason in made.bad_rows:
        err.print(f"left out: {reason}", style="dim", markup=False, soft_wrap=True)
    if as_json:
        print_json(made.to_json())
    else:
        screen.print(
            f"{made.lists:,} lists of {made.passages:,} passages{' were there already' if made.kept else ''}; "
            f"{made.merged:,} passages that occurred twice in a list were merged, {made.bad:,} lines left out."
        )
        screen.print(f"Lists: [cyan]{escape(str(made.folder))}[/]", soft_wrap=True)
    return 0


@app.command()
@command
def fit(
    settings: Annotated[str, typer.Argument(help="YAML of the run, or a shipped one: mini, qwen3_0.6b, …")],
    *,
    out: Out,
    as_json: AsJson = False,
) -> None:
    """
    Train encoder and reranker together, stage by stage. Started again, it goes on.
    """
    from dataclasses import asdict

    from resrank_pipelines.display import err, print_json

    from .configs import settings_file
    from .fitting import MODEL
    from .fitting import fit as run
    from .settings import read_settings

    results = run(read_settings(settings_file(settings)), out, err.print)
    if as_json:
        print_json({"model": str(out / MODEL), "stages": [{**asdict(r), "model": str(r.model)} for r in results]})
        return
    for result in results:
        dev = f", dev nDCG@10 {result.dev['ndcg@10']:.3f}" if "ndcg@10" in result.dev else ""
        err.print(f"{result.name}: {result.steps} steps in {result.minutes:.1f} minutes{dev}")
    err.print(f"Model: {out / MODEL}", soft_wrap=True)


@app.command()
@command
def new(
    *,
    encoder: Annotated[
        str, typer.Option("--encoder", help="Sentence-transformers or Hugging Face folder, or a hub id.")
    ],
    reranker: Annotated[
        str | None, typer.Option("--reranker", help="Likewise; default: it starts from the encoder's last layers.")
    ] = None,
    mode: Annotated[Literal["evidence", "paper"], typer.Option("--mode", help="How it scores.")] = "evidence",
    attention: Annotated[Literal["order_free", "causal"], typer.Option("--attention", help="Of the reranker.")] = (
        "order_free"
    ),
    out: Out,
) -> None:
    """
    Put an untrained model together from its backbones, to mine with.
    """
    from resrank import ResRank
    from resrank_pipelines.display import err

    if (out / "config.json").exists():
        msg = f"{out} holds a checkpoint already: name another folder"
        raise FileExistsError(msg)
    ResRank.from_backbones(encoder, reranker, mode=mode, attention=attention, dtype="float32").save_pretrained(out)
    err.print(f"Model: {out}", soft_wrap=True)


@app.command()
@command
def ablate(
    settings: Annotated[str, typer.Argument(help="YAML of the whole run, or a shipped one.")],
    *,
    out: Out,
    row: Annotated[list[str], typer.Option("--row", help="Only these rows; give it several times.")] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many runs a row.")] = 1,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Of each stage.")] = None,
    as_json: AsJson = False,
) -> None:
    """
    Train again without each part of the method, and compare on the dev lists.
    """
    from dataclasses import asdict

    from resrank_pipelines.display import err, print_json
    from resrank_pipelines.display import out as screen

    from .ablations import ROWS, ablation_table
    from .ablations import ablate as run
    from .configs import settings_file
    from .settings import read_settings

    whole = read_settings(settings_file(settings))
    chosen = range(whole.seed, whole.seed + seeds)
    rows = run(whole, out, rows=row or ROWS, seeds=list(chosen), max_steps=max_steps, told=err.print)
    if as_json:
        print_json([asdict(each) for each in rows])
        return
    screen.print(ablation_table(rows))


@app.command()
@command
def export(
    model: Annotated[str, typer.Argument(help="A ResRank checkpoint, e.g. the folder model/ of a run.")],
    *,
    out: Out,
    weights: Annotated[str, typer.Option("--weights", help="float32, bfloat16 or float16: of the written weights.")] = (
        "float32"
    ),
    adapter_base: Annotated[
        str | None, typer.Option("--adapter-base", help="Write the encoder as a low-rank update of this base.")
    ] = None,
    adapter_rank: Annotated[
        int | None, typer.Option("--adapter-rank", min=1, help="Of that update; default: as much as it needs.")
    ] = None,
    encoder_from: Annotated[
        Path | None,
        typer.Option(
            "--encoder-from", help="Take the encoder's files from this checkpoint, whose vectors are the same."
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Of the model card.")] = "A ResRank model",
    run: Annotated[
        list[Path],
        typer.Option(
            "--run", help="Output folder of `fit`, for the card's recipe; give it once a run, in their order."
        ),
    ] = [],  # noqa: B006
    results: Annotated[
        Path | None, typer.Option("--results", help="Results of `resrank-eval ir`, for the card's figures.")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option("--notes", help="Markdown for the card: data, licences, limits.")
    ] = None,
) -> None:
    """
    Write a checkpoint to publish, with its model card.
    """
    import json

    from resrank_pipelines.display import err

    from .exporting import export as write
    from .exporting import write_model_card

    texts = "" if notes is None else notes.read_text(encoding="utf-8")
    stages = []
    for folder in run:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/training.json")]
        if not found:
            msg = f"expected the output folder of a finished `resrank-train fit`, got {folder}"
            raise ValueError(msg)
        order = [stage["name"] for stage in found[0]["settings"]["stages"]]
        stages += sorted(found, key=lambda each: order.index(each["stage"]))
    write(model, out, dtype=weights, adapter_base=adapter_base, adapter_rank=adapter_rank, encoder_from=encoder_from)
    write_model_card(out, title=title, stages=stages, results=results, notes=texts)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    err.print(f"{out}: {size / 1e6:.1f} MB", soft_wrap=True)


@app.command()
@command
def label(
    lists: Annotated[Path, typer.Argument(help="A folder of training lists.")],
    *,
    out: Out,
    teacher: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            "-t",
            help="cross-encoder:NAME_OR_PATH, llm:MODEL (at OPENAI_BASE_URL, with OPENAI_API_KEY), llm:MODEL@URL, or "
            "grades. Several are joined by reciprocal rank fusion.",
        ),
    ],
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, help="Order this many candidates and all judged positives; default: all."),
    ] = None,
    positives_first: Annotated[
        bool, typer.Option("--positives-first/--no-positives-first", help="Judged positives go to the top.")
    ] = True,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pairs a forward pass.")] = 32,
    passage_words: Annotated[
        int, typer.Option("--passage-words", min=1, help="Words of a passage that a language model reads.")
    ] = 300,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Requests to a language model at the same time.")
    ] = 4,
    max_failures: Annotated[
        float,
        typer.Option("--max-failures", min=0, max=1, help="Share of a language model's answers that may be unusable."),
    ] = 0.05,
    device: Device = None,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> int:
    """
    Let teachers order the candidates of training lists. A killed run goes on; no answer is paid for twice.
    """
    from resrank_pipelines.display import err, print_json, progress_display
    from resrank_pipelines.display import out as screen

    from .labelling import LOG, label_table, make_teacher
    from .labelling import label as label_lists
    from .lists import read_lists

    found = read_lists(lists)
    answers = out.resolve().with_name(f"{out.resolve().name}.answers.jsonl")
    teachers = [
        make_teacher(
            spec,
            answers=answers,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            passage_words=passage_words,
            concurrency=concurrency,
        )
        for spec in teacher
    ]
    with progress_display(keep=False) as progress:
        report = label_lists(
            found,
            out,
            teachers,
            depth=depth,
            positives_first=positives_first,
            max_failures=max_failures,
            progress=progress,
        )
    for query_id, name, failure in report.failures:
        err.print(f"{query_id}: {name}: {failure}", style="dim", markup=False, emoji=False, soft_wrap=True)
    if as_json:
        print_json({**report.to_json(), "out": str(out)})
    else:
        screen.print(label_table(report))
    if not report.complete:
        msg = (
            f"{report.failed_share:.1%} of a teacher's answers failed, more than --max-failures {max_failures}: {out} "
            f"is left unfinished. Look at {out / LOG}; then use another model and folder, or raise --max-failures"
        )
        raise ValueError(msg)
    if not as_json:
        screen.print(f"Lists: [cyan]{escape(str(out))}[/]", soft_wrap=True)
    return 0


@app.command()
@command
def teacher(
    lists: Annotated[list[Path], typer.Argument(help="Folders of training lists with judged positives.")],
    *,
    out: Out,
    base: Annotated[
        str, typer.Option("--base", help="Model that is fine-tuned: a folder, a hub id, or all-MiniLM-L6-v2.")
    ] = "all-MiniLM-L6-v2",
    loss: Annotated[
        Literal["listwise", "binary"],
        typer.Option("--loss", help="Softmax over a positive and its negatives, or each pair by itself."),
    ] = "listwise",
    negatives: Annotated[int, typer.Option("--negatives", min=1, help="Drawn for each positive.")] = 7,
    epochs: Annotated[float, typer.Option("--epochs", help="Passes over the examples.")] = 1.0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Positives a step, each with its negatives.")
    ] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest one.")] = 2e-5,
    max_length: Annotated[int, typer.Option("--max-length", min=8, help="Tokens of query and passage together.")] = 256,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="End after these.")] = None,
    save_steps: Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")] = 500,
    dropout: Annotated[float, typer.Option("--dropout", help="Of the base; any slows a CPU down.")] = 0.0,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the arithmetic: auto, float32 or bfloat16.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of head, negatives, order and dropout.")] = 0,
    as_json: AsJson = False,
) -> int:
    """
    Fine-tune a cross-encoder that can label lists. A killed run goes on from its last checkpoint.
    """
    from dataclasses import asdict

    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json, progress_display

    from .lists import read_lists
    from .teacher import TeacherSettings, train_teacher

    settings = TeacherSettings(
        base,
        loss,
        negatives,
        epochs,
        batch_size,
        learning_rate,
        max_length,
        max_steps,
        save_steps,
        dropout,
        dtype,
        seed,
    )
    with progress_display() as progress:
        report = train_teacher([read_lists(folder) for folder in lists], out, settings, progress)
    if as_json:
        print_json({**asdict(report), "out": str(out)})
    else:
        screen.print(
            f"{report.steps:,} steps on {report.counts['examples']:,} examples of {report.counts['lists']:,} lists; "
            f"{report.counts['without_positive']:,} lists without a positive and "
            f"{report.counts['without_negative']:,} without a negative were left out. Loss {report.first_loss:.3f}, at "
            f"the end {report.last_loss:.3f}."
        )
        screen.print(f"Teacher: [cyan]{escape(str(out))}[/]", soft_wrap=True)
    return 0


@app.command()
@command
def reader(
    data: Annotated[
        list[str], typer.Argument(help="Collections with answers: BEIR folders with answers.jsonl, or folders of them.")
    ],
    *,
    out: Out,
    split: Annotated[str, typer.Option("--split", help="To train on.")] = "train",
    dev: Annotated[
        str | None, typer.Option("--dev", help="Split to measure on at the end, given the relevant passage.")
    ] = None,
    lists: Annotated[
        list[Path],
        typer.Option("--lists", help="Lists mined for the same questions, for passages without an answer; several."),
    ] = [],  # noqa: B006
    base: Annotated[
        str, typer.Option("--base", help="Model that is fine-tuned: a folder, a hub id, or all-MiniLM-L6-v2.")
    ] = "all-MiniLM-L6-v2",
    rank: Annotated[int, typer.Option("--rank", min=0, help="Of the adapter; 0 trains all weights.")] = 16,
    max_length: Annotated[int, typer.Option("--max-length", help="Tokens of question and passage together.")] = 384,
    epochs: Annotated[float, typer.Option("--epochs", help="Passes over the examples.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="End after these.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pieces of passages a step.")] = 32,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest one.")] = 1e-3,
    unanswerable: Annotated[
        float, typer.Option("--unanswerable", help="Share of the questions that also get a passage without an answer.")
    ] = 0.25,
    save_steps: Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of output layer, draw and order.")] = 0,
    duplicate_ids: Duplicates = "error",
    as_json: AsJson = False,
) -> int:
    """
    Fine-tune a span reader for `resrank ask`. A killed run goes on from its last checkpoint.
    """
    from resrank_evals.gold_answers import read_gold_answers
    from resrank_pipelines.display import out as screen
    from resrank_pipelines.display import print_json, progress_display

    from .lists import read_lists
    from .reader import READER, Answered, ReaderSettings, train_reader

    settings = ReaderSettings(
        base=base,
        rank=rank,
        max_length=max_length,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        unanswerable=unanswerable,
        save_steps=save_steps,
        seed=seed,
    )

    def answered(of: str) -> list[Answered]:
        found: list[Answered] = []
        for source in named_sources(data, split=of, duplicate_ids=duplicate_ids):
            gold = read_gold_answers(source.folder, source.label, duplicate_ids=duplicate_ids)
            found.append((source.load(), gold.by_query))
        return found

    with progress_display() as progress:
        progress("Reading", 0, 0)
        report = train_reader(
            answered(split),
            [read_lists(folder) for folder in lists],
            out,
            settings,
            progress,
            dev=[] if dev is None else answered(dev),
        )
    if as_json:
        print_json({**report, "out": str(out / READER)})
        return 0
    counts = report["counts"]
    screen.print(
        f"{report['steps']:,} steps in {report['train_minutes']:.1f} minutes on {counts['answered']:,} of "
        f"{counts['questions']:,} questions ({counts['without_answer']:,} have no answer, the answers of "
        f"{counts['without_span']:,} do not stand in their passage) and {counts['unanswerable']:,} passages without an "
        f"answer. Loss {report['first_loss']:.3f}, at the end {report['last_loss']:.3f}."
    )
    for name, measured in report["dev"].items():
        screen.print(
            f"{name}, given the relevant passage: EM {measured['EM']:.3f}, F1 {measured['F1']:.3f} "
            f"({measured['questions']:,} questions)",
            markup=False,
        )
    screen.print(f"Reader: [cyan]{escape(str(out / READER))}[/]", soft_wrap=True)
    return 0


def main() -> None:
    """
    Entry point of the installed command.
    """
    app()
