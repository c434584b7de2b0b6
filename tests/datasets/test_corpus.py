import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from ldarts_lib.datasets import corpus
from ldarts_lib.datasets.catalogue import status
from ldarts_lib.datasets.corpus import Corpus, Reader, columns_of, load_text
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing, ProtocolError

CIVICS = Path(str(files("ldarts_data"))) / "texts" / "civics"


def write(folder, train="a b a\nb c\n", valid="a d\n", test="c\n", prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in {"train": train, "valid": valid, "test": test}.items():
        (folder / f"{prefix}{part}.txt").write_text(text, encoding="utf-8")
    return folder


def words(text, part="train"):
    return [text.vocabulary[number] for number in getattr(text, part)]


@pytest.mark.parametrize("prefix", ["", "ptb."])
def test_a_folder_is_read_word_by_word(tmp_path, prefix):
    text = load_text(str(write(tmp_path, prefix=prefix)))
    assert words(text) == ["a", "b", "a", "<eos>", "b", "c", "<eos>"]
    assert words(text, "valid") == ["a", "<unk>", "<eos>"]
    assert words(text, "test") == ["c", "<eos>"]
    assert text.vocabulary == ("a", "b", "<eos>", "c", "<unk>")
    assert text.train.dtype == torch.int64


def test_a_byte_order_mark_is_no_word(tmp_path):
    plain = load_text(str(write(tmp_path / "a")))
    marked = load_text(str(write(tmp_path / "b", train="\ufeffa b a\nb c\n")))
    assert marked.vocabulary == plain.vocabulary and torch.equal(marked.train, plain.train)


def test_rare_words_are_unknown(tmp_path):
    text = load_text(str(write(tmp_path)), min_count=2)
    assert words(text) == ["a", "b", "a", "<eos>", "b", "<unk>", "<eos>"]
    assert set(text.vocabulary) == {"a", "b", "<eos>", "<unk>"}


def test_a_text_that_has_unknown_words_already_keeps_one_number_for_them(tmp_path):
    text = load_text(str(write(tmp_path, train="a <unk> b\n")))
    assert sorted(text.vocabulary) == ["<eos>", "<unk>", "a", "b"]


def test_the_embedded_text_is_what_its_provenance_says():
    told = json.loads((CIVICS / "provenance.json").read_text())["files"]
    total = 0
    for name, facts in told.items():
        content = (CIVICS / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
        assert len(content.split()) == facts["words"] and content.count(b"\n") == facts["lines"]
        assert re.fullmatch(r"([a-z']+( [a-z']+)*\n)+", content.decode())
        total += facts["words"]
    assert 6000 < total < 7000
    text = load_text("civics")
    assert [len(words(text, part)) for part in corpus.PARTS] == [
        told[f"{part}.txt"]["words"] + told[f"{part}.txt"]["lines"] for part in corpus.PARTS
    ]
    assert len(load_text("civics", min_count=2).vocabulary) < len(text.vocabulary) / 2


def test_known_sentences_are_in_the_embedded_text():
    lines = "".join((CIVICS / f"{part}.txt").read_text() for part in corpus.PARTS)
    for sentence in (
        "we hold these truths to be self evident that all men are created equal",
        "government of the people by the people for the people shall not perish from the earth",
        "congress shall make no law respecting an establishment of religion",
    ):
        assert sentence in lines


@pytest.mark.parametrize("missing", ["train", "valid", "test"])
def test_a_missing_file_is_named(tmp_path, missing):
    (write(tmp_path) / f"{missing}.txt").unlink()
    with pytest.raises(DatasetMissing, match=rf"{missing}.txt is missing; a text is the files train.txt"):
        load_text(str(tmp_path))


def test_an_unknown_text_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(DatasetMissing, match="'civic' is no text: choose one of civics, ptb, or a folder"):
        load_text("civic")


def test_a_missing_treebank_says_what_belongs_where(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    with pytest.raises(DatasetMissing) as error:
        load_text("ptb")
    for told in (
        "train.txt is missing",
        "ptb.train.txt, ptb.valid.txt",
        str(tmp_path / "ptb"),
        "6 MB",
        "licence",
    ):
        assert told in str(error.value)


def test_another_text_under_the_name_of_the_treebank_is_refused(tmp_path):
    write(tmp_path / "ptb", prefix="ptb.")
    with pytest.raises(DatasetCorrupt, match=r"'train': 7.*expected.*929589.*10000.*name its folder"):
        load_text("ptb", root=tmp_path)


def test_the_usual_treebank_is_accepted(tmp_path, monkeypatch):
    write(tmp_path / "ptb", prefix="ptb.")
    monkeypatch.setattr(corpus, "PTB_WORDS", {"train": 7, "valid": 3, "test": 2})
    monkeypatch.setattr(corpus, "PTB_VOCABULARY", 5)
    assert load_text("ptb", root=tmp_path).name == "ptb"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n\n", "valid.txt is empty"),
        (b"a \xff b\n", "valid.txt is not UTF-8.*byte 2"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (write(tmp_path) / "valid.txt").write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=message):
        load_text(str(tmp_path))


def test_the_status_names_both_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    civics, ptb = status()[-2:]
    assert (civics.name, civics.present) == ("civics", True)
    assert (ptb.name, ptb.present, ptb.megabytes) == ("ptb", False, 6)
    assert "licence" in ptb.how and ptb.location == str(tmp_path / "ptb")
    write(tmp_path / "ptb")
    assert status()[-1].present


def numbers(count):
    part = torch.arange(count)
    return Corpus("numbers", tuple(map(str, part.tolist())), part, part, part)


def test_columns_are_consecutive_and_the_rest_is_dropped():
    columns = columns_of(numbers(11), "train", 3)
    assert columns.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_too_many_columns_are_refused():
    message = "6 columns need at least 12 words, but the valid part of numbers has 11"
    with pytest.raises(ProtocolError, match=message):
        columns_of(numbers(11), "valid", 6)


def test_windows_cover_a_text_once_and_predict_the_next_words():
    text = columns_of(numbers(20), "train", 2)
    reader = Reader(text, torch.zeros(2, 2, 4))
    seen, targets = [], []
    while reader.left:
        words, hidden, following = reader.read(4)
        seen += words[:, 0].tolist()
        targets += following.view(-1, 2)[:, 1].tolist()
        reader.hidden = reader.hidden + 1
        assert (hidden == len(seen) // 4 - (1 if len(seen) % 4 == 0 else 0)).all()
    assert seen == list(range(9))
    assert targets == list(range(11, 20))


def test_after_the_end_comes_the_beginning_with_the_first_hidden_state():
    reader = Reader(columns_of(numbers(12), "train", 2), torch.zeros(1, 2, 3))
    first, _, following = reader.read(4)
    reader.hidden = torch.ones(1, 2, 3)
    words, hidden, _ = reader.read(4)
    assert words.shape == (1, 2) and hidden.all()
    words, hidden, targets = reader.read(4)
    assert torch.equal(words, first) and torch.equal(targets, following) and not hidden.any()
