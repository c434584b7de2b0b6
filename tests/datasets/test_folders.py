"""Folders of pictures: what is found, decoded and kept, and what is refused by name."""

import multiprocessing
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from classfolders import class_folders, class_of, flat, write_pictures
from ldarts_lib.datasets import decoded as decoding
from ldarts_lib.datasets import folders
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.folders import pictures_in, read_folder
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing, ProtocolError, UnknownName


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    return tmp_path / "data/cache"


def decoded(folder, **how):
    """The arrays by their names, and notes and class names as lists."""
    found = decoding.decoded(folder, **how)
    found |= {name: found[name].tolist() for name in ("notes", "class_names", "fingerprint")}
    return SimpleNamespace(**found)


def labelled_by_colour(found):
    pairs = [(found.search_images, found.search_labels), (found.test_images, found.test_labels)]
    both = [(x, y) for images, labels in pairs for x, y in zip(images, labels, strict=True)]
    return all(class_of(x) == found.class_names[y] for x, y in both)


def test_a_fifth_of_each_class_is_kept_for_the_test(tmp_path):
    found = decoded(class_folders(tmp_path / "mine"), pixels=8)
    assert found.search_images.shape == (24, 3, 8, 8) and found.search_images.dtype == np.uint8
    assert found.class_names == ["a", "b", "c"] and labelled_by_colour(found)
    counts = [np.bincount(labels).tolist() for labels in (found.search_labels, found.test_labels)]
    assert counts == [[8] * 3, [2] * 3]
    assert sorted(found.search_labels) != found.search_labels.tolist(), "the first images are of all classes"
    assert "no test part; 6 of 30 pictures, a fifth of each class and always the same," in found.notes[0]
    pixels = found.search_images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    facts = np.stack([found.mean, found.std]).reshape(2, 3)
    np.testing.assert_allclose(facts, (pixels.mean(1), pixels.std(1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["test", "val", "valid"])
def test_parts_are_matched_by_the_names_of_the_classes(tmp_path, name):
    class_folders(tmp_path / "train"), class_folders(tmp_path / name, "bc", count=4)
    found = decoded(tmp_path, pixels=8)
    assert len(found.search_images) == 30 and len(found.test_images) == 8 and labelled_by_colour(found)
    assert [note for note in found.notes if f"{tmp_path / name} has no pictures of a: not tested" in note]


def test_what_is_hidden_or_no_picture_is_left_out(tmp_path):
    plain = decoded(class_folders(tmp_path / "one" / "mine"), pixels=8)
    messy = class_folders(tmp_path / "two" / "mine")
    (messy / ".ipynb_checkpoints").mkdir()
    shutil.copytree(messy / "a", messy / "b" / ".hidden")
    shutil.copytree(messy / "a", messy / "__MACOSX" / "a")
    for name in ("a/.DS_Store", "a/._000.png", ".DS_Store", "a/Thumbs.db", "b/notes.txt", "000.png"):
        (messy / name).write_bytes(b"\0\5\26\7")
    found = decoded(messy, pixels=8)
    assert found.fingerprint == plain.fingerprint and np.array_equal(found.search_images, plain.search_images)
    assert "left out: 3 files that are no pictures, or lie outside the class folders" in found.notes[0]


def test_a_class_may_be_called_train_and_a_third_part_is_left_aside(tmp_path):
    write_pictures(tmp_path / "vehicles/train", 5, "a"), write_pictures(tmp_path / "vehicles/car", 5, "b")
    assert decoded(tmp_path / "vehicles", pixels=4).class_names == ["car", "train"]
    for part in ("train", "val", "test"):
        class_folders(tmp_path / "three" / part, count=4)
    assert "left aside: val (used: train and test)" in decoded(tmp_path / "three", pixels=4).notes[0]


def only_tested(folder):
    class_folders(folder / "val")
    for name in "abc":
        shutil.rmtree(folder / name)


def parts(folder):
    for name in "abc":
        (folder / name).rename(class_folders(folder / "train", "") / name)
    class_folders(folder / "test", "acd", count=2)


FAULTS = {
    "flat": (flat, r"mine has 30 pictures but no class folders: put the pictures of each class into"),
    "nothing": (lambda folder: [shutil.rmtree(folder / name) for name in "abc"], "mine has no class folders"),
    "one class": (lambda folder: [shutil.rmtree(folder / name) for name in "ab"], "one class only, c"),
    "empty": (lambda folder: (folder / "d").mkdir(), "without a picture: .*mine/d; fill or remove them"),
    "one": (lambda folder: write_pictures(folder / "d", 1), "mine/d has one picture only"),
    "no train": (only_tested, "mine has val, but no train"),
    "only tested": (parts, r"no training pictures: .*test/d; those are a, b, c"),
    "nowhere": (lambda folder: folder.rename(folder.parent / "other"), "there is no folder .*mine"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_data_set_is_refused_by_the_folder(tmp_path, change, message):
    change(class_folders(tmp_path / "mine"))
    with pytest.raises((DatasetCorrupt, DatasetMissing), match=message):
        decoded(tmp_path / "mine", pixels=4)


def test_an_unknown_name_lists_the_names_and_says_that_a_folder_is_possible():
    with pytest.raises(UnknownName, match=r"data set 'nowhere'; choose one of noisy-digits, .*, or a folder"):
        load_images("nowhere")


def test_unreadable_pictures_are_named_or_skipped(tmp_path):
    folder = class_folders(tmp_path / "mine", size=64, end="jpg")
    for path in sorted((folder / "b").iterdir())[:2]:
        path.write_bytes(path.read_bytes()[:600])
    (folder / "a/003.jpg").write_text("no picture")
    named = r".*a/003.jpg \(not a picture\), .*b/000.jpg \(.*runcated.*\), .*b/001.jpg .*; mend or remove"
    with pytest.raises(DatasetCorrupt, match=f"3 of 30 pictures cannot be read: {named}"):
        decoded(folder, pixels=8)
    found = decoded(folder, pixels=8, skip_unreadable=True)
    assert len(found.search_images) + len(found.test_images) == 27 and labelled_by_colour(found)
    assert "3 of 30 pictures cannot be read" in found.notes[0] and found.notes[0].endswith("left out")
    for path in (folder / "c").iterdir():
        path.write_text("no picture")
    with pytest.raises(DatasetCorrupt, match=r"003.jpg .*, \.\.\. \(13 in all\)"):
        decoded(folder, pixels=8)
    with pytest.raises(DatasetCorrupt, match="classes without a readable picture: c"):
        decoded(folder, pixels=8, skip_unreadable=True)


def test_decoded_once_and_again_when_a_file_or_a_setting_changes(tmp_path, cache, monkeypatch):
    folder = class_folders(tmp_path / "mine")
    first, calls = decoded(folder, pixels=8), []
    real = decoding.read_picture
    monkeypatch.setattr(decoding, "read_picture", lambda *given: calls.append(given) or real(*given))
    monkeypatch.chdir(tmp_path)
    again = decoded("mine", pixels=8)
    assert not calls and all(np.array_equal(a, vars(again)[name]) for name, a in vars(first).items())
    assert decoded(folder, pixels=4).fingerprint == first.fingerprint and len(calls) == 30
    moved = folder.rename(tmp_path / "moved")
    assert decoded(moved, pixels=8).fingerprint == first.fingerprint
    write_pictures(moved / "a", 9, "d")
    assert decoded(moved, pixels=8).fingerprint != first.fingerprint and len(calls) == 90
    for path in cache.glob("*/*.npz"):
        path.write_bytes(path.read_bytes()[:1000])  # damaged
    assert np.array_equal(decoded(moved, pixels=8).mean, decoded(moved, pixels=8).mean) and len(calls) == 120


def _fingerprint(folder):
    return decoded(folder, pixels=8).fingerprint


def test_processes_that_begin_at_once_decode_one_cache(tmp_path, cache):
    folder = class_folders(tmp_path / "mine")
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert len(set(pool.map(_fingerprint, [folder] * 3))) == 1
    (place,) = cache.iterdir()
    assert {path.name for path in place.iterdir()} <= {"pictures.npz", ".lock"}


def test_pictures_that_do_not_fit_say_how_many_bytes_they_take(tmp_path, monkeypatch):
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=40_000))
    monkeypatch.setattr(decoding, "psutil", memory)
    folder = class_folders(tmp_path / "mine")
    message = (
        "30 pictures of 3×16×16 bytes take 46,080 bytes .* has 40,000 free: lower pixels, set channels_in"
    )
    with pytest.raises(ProtocolError, match=message):
        decoded(folder, pixels=16)
    assert decoded(folder, pixels=16, channels_in=1).search_images.shape == (24, 1, 16, 16)


GRAY = np.linspace(0, 255, 24 * 32).reshape(24, 32).astype(np.uint8)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], -1)
EXIF = Image.Exif()
EXIF[0x0112] = 6  # upright after a quarter turn to the right
ALPHA = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8)[None].repeat(24, 0)
FORMATS = {
    "gray.png": (GRAY, {}, GRAY),
    "sixteen.png": (GRAY.astype(np.uint16) * 257, {}, GRAY),
    "sixteen.tiff": (GRAY.astype(np.uint16) * 257, {}, GRAY),
    "float.tiff": ((GRAY / 255).astype(np.float32), {}, GRAY),
    "rgba.png": (np.dstack([RGB, ALPHA]), {}, np.where(ALPHA[..., None] > 0, RGB, 255)),
    "palette.png": (Image.fromarray(GRAY).convert("P"), {}, GRAY),
    "cmyk.tiff": (Image.fromarray(RGB).convert("CMYK"), {}, RGB),
    "bits.png": (GRAY > 99, {}, 255 * (GRAY > 99)),
    "turned.png": (np.rot90(RGB).copy(), {"exif": EXIF}, RGB),
}


@pytest.mark.parametrize(("end", "picture", "how", "expected"), [(k, *v) for k, v in FORMATS.items()])
def test_formats_are_read_as_they_look(tmp_path, end, picture, how, expected):
    """The middle 24 × 24 pixels of pictures of 24 × 32, which are not resized."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    for name in "ab":
        class_folders(tmp_path / "mine" / name, "")
        for number in range(2):
            picture.save(tmp_path / "mine" / name / f"{number}{end}", **how)
    found = decoded(tmp_path / "mine", pixels=24)
    expected = np.asarray(expected).reshape(24, 32, -1)[:, 4:28].transpose(2, 0, 1)
    np.testing.assert_array_equal(found.search_images[0], expected)
    other = decoded(tmp_path / "mine", pixels=24, channels_in=4 - len(expected))
    assert other.search_images.shape[1] == 4 - len(expected)


@pytest.mark.parametrize(("name", "value"), [("pixels", -4), ("pixels", 10**9), ("channels_in", "x" * 10**5)])
def test_a_setting_of_pictures_that_cannot_be_is_named(tmp_path, name, value):
    with pytest.raises(ProtocolError, match=f"{name} = ") as caught:
        load_images(str(class_folders(tmp_path / "mine")), **{name: value})
    assert len(str(caught.value)) < 500


def test_the_channels_are_those_of_most_pictures_and_the_short_side_is_resized(tmp_path):
    folder = class_folders(tmp_path / "mine", size=40)
    Image.fromarray(GRAY).save(folder / "a/000.png")
    found = decoded(folder, pixels=8)
    expected = ImageOps.fit(Image.open(folder / "b/001.png"), (8, 8), Image.Resampling.BICUBIC)
    pictures = np.concatenate([found.search_images, found.test_images]).transpose(0, 2, 3, 1)
    assert pictures.shape == (30, 8, 8, 3) and (pictures == np.asarray(expected)).all((1, 2, 3)).any()


def test_a_folder_is_a_data_set(tmp_path):
    found = load_images(str(class_folders(tmp_path / "mine", end="jpg")), pixels=8)
    assert found.class_names == ("a", "b", "c") and found.augmentation == Augmentation(4, flip=True)
    batch, _ = found.search().all()
    assert batch.mean((0, 2, 3)).abs().max() < 1e-4 and (batch.std((0, 2, 3)) - 1).abs().max() < 1e-2
    assert not load_images(str(tmp_path / "mine"), flip=False, pixels=8).augmentation.flip


def test_links_that_go_round_are_followed_once_and_a_whole_disk_is_refused(tmp_path, monkeypatch):
    for name in ("cat/1.png", "cat/more/2.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("cat/a", "cat/b", "cat/more/c"):
        (tmp_path / name).symlink_to(tmp_path / "cat")
    assert [path.name for path in pictures_in(tmp_path / "cat")] == ["1.png", "2.png"]
    monkeypatch.setattr(folders, "_OTHERS", 20)
    for number in range(40):
        (tmp_path / f"cat/{number}.txt").touch()
    with pytest.raises(DatasetCorrupt, match="cat has more than 20 files that are no pictures"):
        read_folder(tmp_path)


def test_what_is_no_picture_is_told_why(tmp_path):
    """A pipe, a file of a terabyte, and numbers that are none."""
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "2.png").touch()
    os.truncate(tmp_path / "2.png", 2**40)
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "3.tif")
    told = [decoding.read_picture(path, 8, 1)[1] for path in sorted(tmp_path.glob("*.*"))]
    for problem, expected in zip(told, ("it is no file", "expected at most", "values from nan"), strict=True):
        assert expected in problem


def test_names_that_are_no_unicode(tmp_path):
    folder = class_folders(tmp_path / "pictures", "ab", 2)
    (folder / "a").rename(folder / "\udcff")
    assert decoded(folder, pixels=8).class_names == ["b", "\udcff"]
