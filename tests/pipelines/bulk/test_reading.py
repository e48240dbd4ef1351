# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What a corpus is read as: files, rows, fields, ids, and what is wrong with them."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from resrank_pipelines import lines
from resrank_pipelines.bulk.batches import SHOWN_PROBLEMS, Batch, BatchReader
from resrank_pipelines.bulk.fields import Fields
from resrank_pipelines.bulk.rows import Position
from resrank_pipelines.bulk.seen import Place, SeenIds
from resrank_pipelines.bulk.sources import corpus_files

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def reader(sources: list[Path], tmp_path: Path, **settings: Any) -> BatchReader:
    size, fields = settings.pop("size", 8), settings.pop("fields", Fields())
    return BatchReader(corpus_files(sources), fields, size, tmp_path / f"seen-{os.urandom(4).hex()}", **settings)


def documents(batches: list[Batch]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(d.id, d.content or "", d.meta) for batch in batches for d in batch.documents]


def expected(rows: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """What evals index of a passage: title and text, a line each."""
    made = []
    for row in rows:
        title = row.get("title")
        text = f"{title}\n{row['text']}" if title else row["text"]
        made.append((row["_id"], text, {"title": title} if title else {}))
    return made


def write_parquet(path: Path, rows: list[dict[str, Any]], group: int = 7) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    parquet.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path, row_group_size=group)
    return path


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "beir", "beir.gz", "shards"])
def test_every_kind_of_source_gives_the_same_passages(kind, rows, write, tmp_path):
    made = rows(50)
    folder = tmp_path / "folder"
    (folder / "qrels").mkdir(parents=True)
    if kind == "parquet":
        sources = [write_parquet(tmp_path / "c.parquet", made)]
    elif kind == "shards":
        write(made[:20], "folder/a.jsonl")
        write_parquet(folder / "b.parquet", made[20:])
        sources = [folder]
    else:
        plain = write(made, "folder/corpus.jsonl" if "beir" in kind else "c.jsonl")
        if kind.endswith("gz"):
            packed = plain.with_name(plain.name + ".gz")
            packed.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
            plain = packed
        write([{"_id": "q1", "text": "not a passage"}], "folder/queries.jsonl")
        sources = [folder if "beir" in kind else plain]
    batches = list(reader(sources, tmp_path))
    assert documents(batches) == expected(made)
    assert [len(batch.documents) for batch in batches] == [8] * 6 + [2]
    assert [batch.number for batch in batches] == list(range(7))
    assert sum(batch.tally.rows for batch in batches) == 50
    assert batches[-1].end.consumed == sum(file.size for file in corpus_files(sources))


def test_a_source_must_be_there_and_of_a_known_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(
        ValueError, match=r"expected a corpus \(.jsonl, .*got a file of another kind; .*`resrank index`"
    ):
        corpus_files([tmp_path / "notes.txt"])
    with pytest.raises(ValueError, match=r"expected corpus.jsonl, or files named .*, got none of them"):
        corpus_files([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder"):
        corpus_files([tmp_path / "nowhere"])
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ValueError, match=r"expected a regular file or a folder, got neither"):
        corpus_files([tmp_path / "pipe.jsonl"])


def test_a_folder_with_two_corpora_is_refused_and_a_file_counts_once(write, tmp_path):
    path = write([{"_id": "a", "text": "b"}])
    assert [file.path for file in corpus_files([path, tmp_path, path])] == [path]
    write(["x"], "corpus.jsonl.gz")
    with pytest.raises(ValueError, match="got both"):
        corpus_files([tmp_path])


def test_parquet_without_pyarrow_says_what_to_install(rows, tmp_path):
    path = write_parquet(tmp_path / "c.parquet", rows(3))
    script = (
        "import sys\nfrom pathlib import Path\nsys.modules['pyarrow'] = None\n"
        "from resrank_pipelines.bulk.rows import Position, rows\n"
        "from resrank_pipelines.bulk.sources import corpus_files\n"
        "try:\n    list(rows(corpus_files([Path(sys.argv[1])]), ('text',), Position()))\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "reading c.parquet needs pyarrow: pip install 'resrank[parquet]'"


# -------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_reading_goes_on_after_any_batch(kind, cut, rows, write, tmp_path):
    made = rows(50)
    first = write(made[:30], "a.jsonl")
    if kind == "parquet":
        second = write_parquet(tmp_path / "b.parquet", made[30:])
    else:
        second = write(made[30:], "b.jsonl")
        if kind.endswith("gz"):
            second = tmp_path / "b.jsonl.gz"
            second.write_bytes(gzip.compress((tmp_path / "b.jsonl").read_bytes()))
    whole = list(reader([first, second], tmp_path))
    rest = list(reader([first, second], tmp_path, start=whole[cut - 1].end))
    assert documents(rest) == documents(whole)[cut * 8 :]
    assert [batch.end for batch in rest] == [batch.end for batch in whole[cut:]]


def test_rows_read_again_are_not_duplicates_of_themselves(rows, write, tmp_path):
    path = write([*rows(20), *rows(3)])
    seen = reader([path], tmp_path)
    whole = list(seen)
    again = list(BatchReader(seen.files, seen.fields, 8, seen.seen, start=whole[0].end))
    assert documents(again) == documents(whole)[8:]
    assert sum(batch.tally.duplicates for batch in again) == 3


def test_ids_survive_a_reader_that_is_gone_and_belong_to_one_at_a_time(tmp_path):
    path = tmp_path / "state" / "seen.sqlite"
    first = SeenIds(path)
    assert first.add("a", "text", Place(0, 1)) is None
    first.commit()
    assert first.add("b", "text", Place(0, 2)) is None
    with pytest.raises(RuntimeError, match="another process is indexing this corpus into this store"):
        SeenIds(path)
    first.close()
    second = SeenIds(path)
    assert second.add("a", "text", Place(0, 1)) is None
    assert second.add("a", "text", Place(1, 9)) == ((0, 1), True)
    assert second.add("a", "other", Place(1, 9)) == ((0, 1), False)
    assert second.add("b", "text", Place(0, 2)) is None
    second.close()


# ------------------------------------------------------------------------------------------------------------ fields


def test_names_of_fields_prefix_and_meta(write, tmp_path):
    path = write([{"key": 7, "body": "words", "head": "Title", "url": "u", "tags": ["a"], "_id": "other"}])
    fields = Fields(id=("key",), text=("body",), title=("head",), meta=("url", "tags", "none"), prefix="wiki/")
    found = documents(list(reader([path], tmp_path, fields=fields)))
    assert found == [("wiki/7", "Title\nwords", {"title": "Title", "url": "u", "tags": ["a"]})]


def test_parquet_values_become_plain_ones(tmp_path):
    rows = [{"id": 1, "text": "a", "day": dt.date(2026, 1, 2), "title": None, "left_out": b"\xff"}]
    path = write_parquet(tmp_path / "c.parquet", rows)
    found = documents(list(reader([path], tmp_path, fields=Fields(meta=("day",)))))
    assert found == [("1", "a", {"day": "2026-01-02"})]
    with pytest.raises(ValueError, match=r"c.parquet:1: expected a text, .* as `left_out`, got b'\\xff' \(bytes\)"):
        list(reader([path], tmp_path, fields=Fields(meta=("left_out",))))


# ---------------------------------------------------------------------------------------------------- damage, problems

DAMAGED = {
    "no json": ('{"_id": "x", "text": ', r"expected a JSON object, got '{\"_id\""),
    "a list": ('["x"]', r"expected a JSON object, got \['x'\]"),
    "no id": (
        '{"text": "words"}',
        r"expected an id, .* as `_id` or `id` or `docid`, got the fields `text`; .*--id-field",
    ),
    "blank id": ('{"_id": " ", "text": "words"}', r"expected an id, .*got ' '"),
    "bool id": ('{"_id": true, "text": "words"}', r"expected an id, .*got True"),
    "no text": (
        '{"_id": "x", "body": "words"}',
        r"expected the field `text` or `contents`, got the fields `_id`, `body`",
    ),
    "text of another kind": ('{"_id": "x", "text": 3}', r"expected a text as `text`, got 3 \(int\)"),
    "half a surrogate pair": (r'{"_id": "x", "text": "\ud83d"}', r"expected valid Unicode, got half of a surrogate"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_row_stops_with_its_line_or_is_counted(kind, rows, write, tmp_path):
    line, message = DAMAGED[kind]
    path = write([*rows(10), line, *rows(12)[10:]])
    batches = []
    with pytest.raises(ValueError, match=rf"corpus.jsonl:11: {message}.*, or leave such rows out with --skip-damaged$"):
        batches.extend(reader([path], tmp_path))
    skipping = list(reader([path], tmp_path, skip_damaged=True))
    assert documents(skipping) == expected(rows(12))
    tally = [asdict(batch.tally) for batch in skipping]
    assert (sum(t["rows"] for t in tally), sum(t["damaged"] for t in tally)) == (13, 1)
    problems = [problem for batch in skipping for problem in batch.problems]
    assert [(problem.kind, problem.where) for problem in problems] == [("damaged", f"{path}:11")]
    assert not problems[0].what.startswith(str(path))


def test_bytes_that_are_no_utf8_and_lines_without_an_end(rows, write, tmp_path, monkeypatch):
    path = write(rows(3))
    path.write_bytes(path.read_bytes() + b'{"_id": "\xff", "text": "a"}\n' + b'{"_id": "z", "text": "last"}')
    with pytest.raises(ValueError, match=r"corpus.jsonl:4: expected UTF-8, got the byte 0xff"):
        list(reader([path], tmp_path))
    found = list(reader([path], tmp_path, skip_damaged=True))
    assert documents(found)[-1][:2] == ("z", "last")
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    long = write([*rows(2), {"_id": "long", "text": "word " * 100}, *rows(3)[2:]])
    found = list(reader([long], tmp_path, skip_damaged=True))
    assert documents(found) == expected(rows(3))
    assert "expected lines of at most 100 bytes, got a longer one" in found[0].problems[0].what


@pytest.mark.parametrize("kind", ["jsonl.gz", "parquet"])
def test_a_damaged_file_is_an_error_even_where_damaged_rows_are_not(kind, rows, write, tmp_path):
    path = tmp_path / f"c.{kind}"
    if kind == "parquet":
        write_parquet(path, rows(50))
    else:
        path.write_bytes(gzip.compress(write(rows(5_000)).read_bytes()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"c.{kind}.*: expected a whole .* file, got a damaged one"):
        list(reader([path], tmp_path, skip_damaged=True))


def test_blank_rows_duplicates_and_conflicts_are_left_out_and_told_with_their_lines(rows, write, tmp_path):
    made = rows(3)
    path = write([*made, made[1], {"_id": "d2", "text": "other"}, "", {"_id": "e", "text": " ", "title": ""}, made[0]])
    (batch,) = reader([path], tmp_path)
    assert documents([batch]) == expected(made)
    assert (batch.tally.rows, batch.tally.passages) == (7, 3)
    assert [(problem.kind, problem.where, problem.what) for problem in batch.problems] == [
        ("duplicates", f"{path}:4", f"'d1' after {path}:2, with the same text"),
        ("conflicts", f"{path}:5", f"'d2' after {path}:3, with another text or meta; the first counts"),
        ("blank", f"{path}:7", "'e' has no text"),
        ("duplicates", f"{path}:8", f"'d0' after {path}:1, with the same text"),
    ]


def test_all_problems_are_counted_and_the_first_ones_named(write, tmp_path):
    path = write([{"_id": str(n), "text": ""} for n in range(100)])
    (batch,) = reader([path], tmp_path)
    assert batch.tally.blank == 100
    assert len(batch.problems) == SHOWN_PROBLEMS


def test_a_position_is_plain_values():
    position = Position(1, 2, 3, 4)
    assert Position(**json.loads(json.dumps(asdict(position)))) == position
