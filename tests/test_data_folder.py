"""A folder of class folders becomes a task, or says what is wrong with it."""

import numpy as np
import pytest
from PIL import Image

from autocompress.data import DataOptions, load_task
from autocompress.data.images import Header, geometry_of
from autocompress.errors import DataError
from autocompress.task import Augment

RNG = np.random.default_rng(0)


def image(folder, name, size=(8, 6), mode="RGB"):
    """Write random pixels, ``size`` as width and height; return them as they are stored."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    pixels = RNG.integers(0, 256, size=shape, dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return pixels


def fill(root, classes=("cat", "dog"), n=4, **kwargs):
    return {name: [image(root / name, k, **kwargs) for k in range(n)] for name in classes}


def test_class_folders_alone_are_cut_into_splits(tmp_path):
    written = fill(tmp_path, n=10)
    task = load_task(str(tmp_path))
    assert task.class_names == ("cat", "dog")
    assert [len(split) for _, split in task.splits()] == [12, 4, 4]
    for _, split in task.splits():
        for pixels, label in zip(split.inputs, split.targets, strict=True):
            assert any(np.array_equal(pixels, one) for one in written[task.class_names[label]])
    assert (task.preprocess.shape, task.preprocess.resize, task.augment) == ((3, 6, 8), "none", Augment.SHIFT_FLIP)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_split_folders_are_kept_apart(tmp_path, val):
    written = {split: fill(tmp_path / split, n=n) for split, n in (("train", 3), (val, 2), ("test", 1))}
    task = load_task(str(tmp_path))
    assert [len(split) for _, split in task.splits()] == [6, 4, 2]
    np.testing.assert_array_equal(task.val.inputs, written[val]["cat"] + written[val]["dog"])
    np.testing.assert_array_equal(task.val.targets, [0, 0, 1, 1])


def test_a_missing_val_folder_is_cut_from_train(tmp_path):
    fill(tmp_path / "train", n=20)
    fill(tmp_path / "test", n=1)
    task = load_task(str(tmp_path))
    assert [len(split) for _, split in task.splits()] == [34, 6, 2]
    assert any(note.startswith("val was cut from train: 6 of 40") for note in task.notes)


def test_grey_stays_grey_unless_one_image_has_colour(tmp_path):
    fill(tmp_path, mode="L")
    assert load_task(str(tmp_path)).train.inputs.shape[1:] == (6, 8, 1)
    image(tmp_path / "cat", "colour")
    assert load_task(str(tmp_path)).train.inputs.shape[1:] == (6, 8, 3)


def test_resizing_can_be_repeated_from_its_description(tmp_path):
    pixels = fill(tmp_path / "train", size=(31, 17))["cat"][0]
    fill(tmp_path / "val", size=(17, 40))
    fill(tmp_path / "test")
    task = load_task(str(tmp_path), options=DataOptions(input_size=10))
    assert task.preprocess.resize == (
        "PIL bilinear, shorter side to 10 (longer side to 10 * longer // shorter), "
        "then center crop 10x10 (left (width - 10) // 2, top (height - 10) // 2)"
    )
    width, height = 10 * 31 // 17, 10
    left, top = (width - 10) // 2, (height - 10) // 2
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(task.train.inputs[0], resized[top : top + 10, left : left + 10])


def test_images_of_many_sizes_get_a_common_one_and_a_note(tmp_path):
    fill(tmp_path / "train", size=(40, 30))
    fill(tmp_path / "val", size=(30, 50))
    fill(tmp_path / "test", size=(30, 30))
    task = load_task(str(tmp_path))
    assert task.preprocess.shape == (3, 32, 32)
    assert "images of 3 sizes were brought to 32x32, from their median shorter side 30" in task.notes


@pytest.mark.parametrize(("shorter", "size"), [(3, 16), (100, 96), (4000, 224)])
def test_the_common_size_is_a_multiple_of_16_within_bounds(shorter, size):
    headers = [Header(width=shorter, height=shorter + k, mode="RGB") for k in range(2)]
    geometry = geometry_of(headers, None)
    assert (geometry.height, geometry.width) == (size, size)


def test_images_that_would_not_fit_into_memory_are_refused():
    huge = Header(width=50_000, height=50_000, mode="RGB")
    with pytest.raises(
        DataError, match=r"half of the memory .*5000 of 50000x50000 take 37500\.0 GB; use a smaller --in"
    ):
        geometry_of([huge] * 5000, None)


def test_unreadable_images_are_an_error_or_skipped_and_counted(tmp_path):
    fill(tmp_path, n=6)
    whole = (tmp_path / "cat" / "0.png").read_bytes()
    (tmp_path / "cat" / "0.png").write_bytes(whole[:-60])  # the header is there, the pixels are not
    (tmp_path / "dog" / "5.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"every image must be readable; .*dog.5\.png is not: .*use --skip-bad-images"):
        load_task(str(tmp_path))
    task = load_task(str(tmp_path), options=DataOptions(skip_bad_images=True))
    assert sum(len(split) for _, split in task.splits()) == 10
    assert any(note.startswith("skipped 2 unreadable images, first: ") for note in task.notes)
    for place in tmp_path.glob("*/*.png"):
        place.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"must hold images that can be read; all 12 failed"):
        load_task(str(tmp_path), options=DataOptions(skip_bad_images=True))


def test_sixteen_bit_images_are_not_clipped_in_silence(tmp_path):
    fill(tmp_path)
    Image.fromarray(np.full((6, 8), 60_000, dtype=np.uint16)).save(tmp_path / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png is not: images must have 8 bits a channel"):
        load_task(str(tmp_path))


def test_hidden_files_and_other_files_are_left_alone(tmp_path):
    fill(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "cat" / "._0.png").write_bytes(b"")
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    assert load_task(str(tmp_path)).class_names == ("cat", "dog")


def test_progress_is_told_of_both_stages(tmp_path):
    fill(tmp_path)
    seen = []
    load_task(str(tmp_path), progress=lambda *what: seen.append(what))
    assert seen == [("reading image headers", 8, 8), ("decoding images", 8, 8)]


def test_a_folder_that_is_laid_out_otherwise_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold one folder a class, with the images in it; it has no folders"):
        load_task(str(tmp_path))
    fill(tmp_path / "val")
    with pytest.raises(DataError, match=r"a folder with splits needs train/; .* has only val"):
        load_task(str(tmp_path))
    fill(tmp_path / "train")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"every class folder must hold images .*train.empty holds none"):
        load_task(str(tmp_path))
    (tmp_path / "train" / "empty").rmdir()
    fill(tmp_path / "val", classes=("cats",))
    with pytest.raises(DataError, match=r"val.cats is not among its 2 classes; near: cat"):
        load_task(str(tmp_path))
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match=r"a split has one folder; .*val and .*valid are both val; merge them"):
        load_task(str(tmp_path))
    with pytest.raises(DataError, match=r"there is no .*tain; near: train"):
        load_task(str(tmp_path / "tain"))
