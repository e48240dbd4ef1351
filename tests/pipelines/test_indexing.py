# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from resrank_pipelines import indexing
from resrank_pipelines.indexing import Indexer


def contents(indexer: Indexer) -> dict[str, str]:
    return {d.id: d.content for d in indexer.store.filter_documents()}


def test_first_run_writes_second_run_writes_nothing(indexer, source_folder):
    first = indexer.run([source_folder])
    assert (first.files, first.passages, first.written, first.total) == (3, 3, 3, 3)
    second = indexer.run([source_folder])
    assert (second.written, second.unchanged, second.total) == (0, 3, 3)


def test_documents_are_whole(indexer, source_folder):
    indexer.run([source_folder])
    for document in indexer.store.filter_documents():
        assert len(document.embedding) == 32
        assert document.sparse_embedding.indices
        assert document.meta["resrank"]["fingerprint"] == indexer.model.load().fingerprint
        assert Path(document.meta["file_path"]).is_absolute()


def test_an_edit_writes_only_what_changed_and_leaves_the_old_passage_until_pruned(indexer, source_folder):
    indexer.run([source_folder])
    (source_folder / "france.txt").write_text("Lyon is a city too.", encoding="utf-8")
    edited = indexer.run([source_folder])
    assert (edited.written, edited.unchanged, edited.stale, edited.total) == (1, 2, 1, 4)
    pruned = indexer.run([source_folder], prune=True)
    assert (pruned.written, pruned.pruned, pruned.stale, pruned.total) == (0, 1, 0, 3)
    assert "Lyon is a city too." in contents(indexer).values()
    assert not any("Paris" in text for text in contents(indexer).values())


def test_a_deleted_file_is_pruned_only_under_the_roots_of_this_run(indexer, source_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "cats.txt").write_text("Cats sleep a lot.", encoding="utf-8")
    indexer.run([source_folder, other])
    (source_folder / "dates.txt").unlink()
    (other / "cats.txt").unlink()
    (other / "dogs.txt").write_text("Dogs bark.", encoding="utf-8")
    report = indexer.run([source_folder], prune=True)
    assert report.pruned == 1
    assert any("Cats" in text for text in contents(indexer).values())


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_nothing_is_pruned_under_a_root_that_is_missing_or_empty(indexer, source_folder, damage):
    indexer.run([source_folder])
    for name in list(source_folder.iterdir()):
        name.unlink()
    if damage == "missing":
        source_folder.rmdir()
    report = indexer.run([source_folder], prune=True)
    assert (report.pruned, report.total) == (0, 3)


def test_a_bad_file_is_reported_the_rest_goes_on_and_its_passages_stay(indexer, source_folder):
    indexer.run([source_folder])
    (source_folder / "dates.txt").write_bytes(b"\xff\xfe\x00\xd8broken \x80\x81")
    (source_folder / "new.txt").write_text("Something new.", encoding="utf-8")
    report = indexer.run([source_folder], prune=True)
    assert [Path(path).name for path, _ in report.failures] == ["dates.txt"]
    assert "codec" in report.failures[0][1] or "convert" in report.failures[0][1]
    assert (report.written, report.pruned, report.total) == (1, 0, 4)


def test_a_damaged_pdf_and_an_empty_text_are_reported(indexer, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 this is no pdf")
    (folder / "blank.txt").write_text(" \n\n ", encoding="utf-8")
    (folder / "good.txt").write_text("Words.", encoding="utf-8")
    report = indexer.run([folder])
    assert [Path(path).name for path, _ in report.failures] == ["broken.pdf"]
    assert [Path(path).name for path in report.without_text] == ["blank.txt"]
    assert report.written == 1


def test_a_broken_link_is_reported(indexer, source_folder):
    os.symlink(source_folder / "nowhere.txt", source_folder / "link.txt")
    report = indexer.run([source_folder])
    assert [Path(path).name for path, _ in report.failures] == ["link.txt"]
    assert report.written == 3


def test_a_changed_model_embeds_the_stored_texts_again(parameters, source_folder, tiny_mini, tmp_path):
    first = Indexer(**parameters)
    first.run([source_folder])
    first.close()
    other = tiny_mini().load()
    with torch.no_grad():
        for parameter in other.encoder.backbone.parameters():
            parameter.mul_(1.1)
    other.save_pretrained(tmp_path / "other-model")
    second = Indexer(model={"model": str(tmp_path / "other-model")}, store=parameters["store"])
    try:
        report = second.run([source_folder])
        fingerprint = second.model.load().fingerprint
        assert (report.reembedded, report.written, report.unchanged, report.total) == (3, 0, 3, 3)
        assert {d.meta["resrank"]["fingerprint"] for d in second.store.filter_documents()} == {fingerprint}
        assert second.run([source_folder]).reembedded == 0
    finally:
        second.close()


def test_changed_bm25_settings_embed_the_stored_texts_again(parameters, source_folder, tiny_safe_checkpoint, tmp_path):
    first = Indexer(**parameters)
    first.run([source_folder])
    before = {d.id: d.sparse_embedding for d in first.store.filter_documents()}
    first.close()
    changed = shutil.copytree(tiny_safe_checkpoint, tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text())
    config["lexical"] = {**config.get("lexical", {}), "avg_len": 10.0}
    (changed / "config.json").write_text(json.dumps(config))
    second = Indexer(model={"model": str(changed)}, store=parameters["store"])
    try:
        report = second.run([source_folder])
        assert (report.reembedded, report.written, report.unchanged, report.total) == (3, 0, 3, 3)
        after = {d.id: d.sparse_embedding for d in second.store.filter_documents()}
        assert all(after[id_].indices == before[id_].indices for id_ in before)
        assert all(after[id_].values != before[id_].values for id_ in before)
        assert second.run([source_folder]).reembedded == 0
    finally:
        second.close()


def test_filter_and_embedder_must_agree(parameters, monkeypatch):
    whole = indexing.read_definition(
        "index", **parameters, components={"embedder": {"meta_fields_to_embed": ["title"]}}
    )
    monkeypatch.setattr(indexing, "read_definition", lambda *_, **__: whole)
    with pytest.raises(ValueError, match=r"same meta_fields_to_embed, got None and \['title'\]"):
        Indexer(**parameters)


def test_long_files_are_split_and_numbered(indexer, tmp_path):
    paragraphs = "\n\n".join(f"Paragraph {n} " + "word " * 100 for n in range(5))
    (tmp_path / "long.txt").write_text(paragraphs, encoding="utf-8")
    report = indexer.run([tmp_path / "long.txt"])
    assert report.written == report.passages >= 4
    assert {d.meta["split_id"] for d in indexer.store.filter_documents()} == set(range(report.passages))
    assert report.truncated == report.passages  # the tiny model reads 48 tokens


def test_one_changed_paragraph_of_a_long_file_writes_one_passage(indexer, tmp_path):
    path = tmp_path / "long.txt"
    paragraphs = [f"Paragraph {n} " + "word " * 120 for n in range(5)]
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    indexer.run([path])
    paragraphs[2] = "Another paragraph " + "word " * 120
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    assert indexer.run([path]).written == 1


def test_a_named_pipe_is_reported_and_does_not_hang(indexer, source_folder):
    os.mkfifo(source_folder / "pipe.txt")
    report = indexer.run([source_folder])
    assert [(Path(path).name, reason) for path, reason in report.failures] == [("pipe.txt", "not a regular file")]
    assert report.written == 3


def test_a_name_that_is_no_unicode_is_reported_and_the_rest_goes_on(indexer, source_folder):
    with open(os.path.join(os.fsencode(source_folder), b"bad-\xff.txt"), "wb") as file:
        file.write(b"Words.")
    report = indexer.run([source_folder])
    assert [reason for _, reason in report.failures] == ["its name is not valid Unicode: rename it"]
    assert report.written == 3
