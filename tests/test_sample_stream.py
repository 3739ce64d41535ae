"""An endless, deterministic order of training samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from
from tiny_tasks import images, regression, vectors

from autocompress.data.preprocess import model_input
from autocompress.recover.sample_stream import SampleStream
from autocompress.task import Augment

TASKS = {augment: images(augment=augment) for augment in Augment}
N = 40  # samples of one epoch


def joined(*batches: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([targets for _, targets in batches])


def equal(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@given(
    augment=sampled_from(Augment),
    start=integers(0, 3 * N),
    first=integers(1, 2 * N),
    second=integers(1, 2 * N),
    seed=integers(0, 3),
)
@settings(max_examples=60)
def test_a_batch_is_its_parts_also_across_epochs(augment, start, first, second, seed):
    stream = SampleStream(TASKS[augment], seed)
    whole = stream.batch(start, first + second)
    assert equal(whole, joined(stream.batch(start, first), stream.batch(start + first, second)))


def test_two_streams_of_one_seed_agree_in_any_order_of_asking():
    one, other = SampleStream(TASKS[Augment.SHIFT_FLIP], 5), SampleStream(TASKS[Augment.SHIFT_FLIP], 5)
    late, early = one.batch(300, 10), one.batch(0, 10)
    assert equal(early, other.batch(0, 10))
    assert equal(late, other.batch(300, 10))


@pytest.mark.parametrize("augment", Augment)
def test_seeds_and_epochs_differ(augment):
    stream = SampleStream(TASKS[augment], 0)
    assert not equal(stream.batch(0, N), SampleStream(TASKS[augment], 1).batch(0, N))
    assert not equal(stream.batch(0, N), stream.batch(N, N))


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_sample_comes_once_an_epoch_with_its_target(epoch):
    task = TASKS[Augment.NONE]
    inputs, targets = SampleStream(task, 3).batch(epoch * N, N)
    stored = model_input(task.preprocess, task.train.inputs)
    place = [int(np.flatnonzero((stored == sample.numpy()).all(axis=(1, 2, 3)))[0]) for sample in inputs]
    assert sorted(place) == list(range(N))
    assert targets.tolist() == task.train.targets[place].tolist()


@pytest.mark.parametrize("augment", Augment)
@pytest.mark.parametrize("channels", [1, 3])
def test_changes_keep_shape_type_and_range(augment, channels):
    task = images(channels=channels, augment=augment)
    inputs, targets = SampleStream(task, 0).batch(0, N)
    assert (inputs.shape, inputs.dtype) == ((N, channels, 16, 16), torch.float32)
    assert (targets.shape, targets.dtype) == ((N,), torch.int64)
    assert inputs.is_contiguous()
    assert inputs.min() >= -2
    assert inputs.max() <= 2


def test_a_shift_is_a_crop_of_the_mirrored_image():
    task = TASKS[Augment.SHIFT]
    plain, _ = SampleStream(TASKS[Augment.NONE], 0).batch(0, N)
    inputs, _ = SampleStream(task, 0).batch(0, N)
    padded = torch.nn.functional.pad(plain, (2, 2, 2, 2), mode="reflect")  # an eighth of 16
    offsets = set()
    for sample, source in zip(inputs, padded, strict=True):
        crops = {(r, c): source[:, r : r + 16, c : c + 16] for r in range(5) for c in range(5)}
        found = [place for place, crop in crops.items() if torch.equal(crop, sample)]
        assert len(found) == 1
        offsets.update(found)
    assert {row for row, _ in offsets} == {column for _, column in offsets} == set(range(5))


def test_a_flip_mirrors_about_half_the_samples_left_to_right():
    shifted, _ = SampleStream(TASKS[Augment.SHIFT], 0).batch(0, 4 * N)
    inputs, _ = SampleStream(TASKS[Augment.SHIFT_FLIP], 0).batch(0, 4 * N)
    same = [torch.equal(a, b) for a, b in zip(inputs, shifted, strict=True)]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(inputs, shifted, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 0.3 < sum(mirrored) / len(mirrored) < 0.7


@pytest.mark.parametrize("augment", Augment)
@pytest.mark.parametrize("shape", [(12,), (2, 24), (3, 16, 16)])
def test_what_is_taken_as_stored_is_not_changed(augment, shape):
    task = vectors(shape, augment=augment)
    inputs, targets = SampleStream(task, 0).batch(0, len(task.train))
    order = np.random.default_rng((0, 0)).permutation(len(task.train))
    np.testing.assert_array_equal(inputs.numpy(), task.train.inputs[order])
    np.testing.assert_array_equal(targets.numpy(), task.train.targets[order])


def test_the_stored_samples_are_left_alone():
    task = images(augment=Augment.SHIFT_FLIP)
    before = task.train.inputs.copy()
    inputs, _ = SampleStream(task, 0).batch(0, N)
    inputs.zero_()
    np.testing.assert_array_equal(task.train.inputs, before)


def test_targets_may_be_vectors():
    _, targets = SampleStream(regression(), 0).batch(0, 5)
    assert targets.shape == (5, 4)


def test_the_tiniest_images_can_be_shifted():
    inputs, _ = SampleStream(images(size=2, augment=Augment.SHIFT_FLIP), 0).batch(0, 8)
    assert inputs.shape == (8, 3, 2, 2)
