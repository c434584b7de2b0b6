"""Batches and augmentation: the same for a seed, never waiting, equal to one image at a time."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import waiting_is_an_error
from ldarts_lib.datasets.batches import Augmentation, Batches, augmented, cutout
from ldarts_lib.datasets.images import load_images

CHANGED = Augmentation(padding=2, flip=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(device: str = "cpu") -> dict[str, torch.Tensor]:
    """A mean of 0 and a deviation of 1, so that batches keep their pixel values."""
    return {"mean": torch.zeros(1, 1, 1, 1, device=device), "std": torch.ones(1, 1, 1, 1, device=device)}


def rgb(count: int, size: int = 8) -> torch.Tensor:
    """[count, 3, size, size] uint8 noise without black pixels."""
    return torch.randint(1, 256, (count, 3, size, size), generator=generator(5), dtype=torch.uint8)


def test_epochs_are_shuffled_anew_and_repeat_with_the_generator():
    split = Batches(rgb(20), torch.arange(20), augmentation=CHANGED, **unit())

    def two_epochs(seed: int) -> list[torch.Tensor]:
        state = generator(seed)
        epochs = [list(split.epoch(6, state, augment=True)) for _ in range(2)]
        return [torch.cat(column) for epoch in epochs for column in zip(*epoch, strict=True)]

    first, again, other = two_epochs(1), two_epochs(1), two_epochs(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], first[3])
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (5, 5), (5, 1)])
def test_an_epoch_shows_every_image_in_batches_of_one_shape(count, size):
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    split = Batches(images, torch.arange(count), augmentation=CHANGED, **unit())
    batches = list(split.epoch(size, generator(), augment=False))
    assert len(batches) == split.steps(size) == -(-count // size)
    assert all(len(images) == size for images, _ in batches)
    labels = torch.cat([labels for _, labels in batches]).tolist()
    assert sorted(labels[:count]) == list(range(count))
    assert labels[count:] == labels[: len(labels) - count]
    for images, targets in batches:
        assert (images == targets.view(-1, 1, 1, 1)).all()


@pytest.mark.parametrize("size", [0, -1, 51])
def test_a_batch_that_does_not_fit_is_refused(size):
    split = Batches(rgb(50), torch.arange(50), augmentation=CHANGED, **unit())
    with pytest.raises(ValueError, match=f"{size} does not fit a split of 50"):
        list(split.epoch(size, generator(), augment=False))


def test_bytes_are_standardized_in_the_scale_of_one():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    mean, std = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.25)
    split = Batches(images, torch.arange(3), mean=mean, std=std, augmentation=CHANGED)
    torch.testing.assert_close(split.all()[0].flatten(), torch.tensor([-2.0, 2.0, -1.2]))


class NoHostSync(TorchDispatchMode):
    """Fail at operations that make the host wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        assert func.name() not in waits, func.name()
        if func.name().startswith("aten::index."):
            assert all(index is None or index.dtype == torch.int64 for index in args[1])
        return func(*args, **(kwargs or {}))


def test_batches_never_wait_for_the_device():
    split = Batches(rgb(10), torch.arange(10), augmentation=CHANGED, **unit())
    with NoHostSync():
        for images, _ in split.epoch(4, generator(), augment=True):
            cutout(images, 4, generator())
    with pytest.raises(AssertionError, match="nonzero"), NoHostSync():
        torch.ones(3).nonzero()


def test_the_mode_in_which_waiting_fails_is_left_again(monkeypatch):
    modes = []

    def prototype(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", prototype)
    with pytest.raises(RuntimeError, match="waits"), waiting_is_an_error():
        raise RuntimeError("waits")
    assert modes == ["error", "default"]


@pytest.mark.gpu
def test_a_gpu_sees_the_same_batches_without_a_sync():
    data = load_images("digits").search_images
    host = Batches(data, torch.arange(1000), augmentation=CHANGED, **unit())
    device = Batches(data.cuda(), torch.arange(1000).cuda(), augmentation=CHANGED, **unit("cuda"))
    with waiting_is_an_error():
        batches = list(device.epoch(64, generator(), augment=True))
    for (images, labels), (x, y) in zip(host.epoch(64, generator(), augment=True), batches, strict=True):
        assert torch.equal(images, x.cpu()) and torch.equal(labels, y.cpu())


def naive_window(image: torch.Tensor, padding: int, top: int, left: int) -> torch.Tensor:
    """The pixels of one image that a shifted window sees; black where there is no image."""
    _, height, width = image.shape
    window = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + top - padding, column + left - padding
            if 0 <= y < height and 0 <= x < width:
                window[:, row, column] = image[:, y, x]
    return window


def test_augmentation_crops_then_flips_with_the_numbers_of_its_generator():
    images, state = rgb(40)[:, :, :5], generator(3)
    offsets = torch.randint(9, (2, 40), generator=state)
    mirrored = torch.rand(40, generator=state) < 0.5
    result = augmented(images, Augmentation(padding=4, flip=True), generator(3))
    assert result.dtype == torch.uint8 and result.is_contiguous()
    assert mirrored.any() and not mirrored.all()
    for n, image in enumerate(images):
        window = naive_window(image, 4, *offsets[:, n].tolist())
        assert torch.equal(result[n], window.flip(-1) if mirrored[n] else window)


def test_augmentation_draws_every_offset_and_flips_half():
    images = torch.zeros(8000, 1, 5, 5)
    images[:, :, 2, 1] = 1
    shifted = augmented(images, Augmentation(padding=1), generator()).mean(0)[0]
    torch.testing.assert_close(shifted[1:4, 0:3], torch.full((3, 3), 1 / 9), atol=0.02, rtol=0)
    flipped = augmented(images, Augmentation(flip=True), generator()).mean(0)[0]
    torch.testing.assert_close(flipped[2], torch.tensor([0, 0.5, 0, 0.5, 0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_cutout_zeroes_one_square_an_image(length):
    images, state = torch.ones(50, 2, 7, 9), generator(1)
    tops = torch.randint(7, (50,), generator=state) - length // 2
    lefts = torch.randint(9, (50,), generator=state) - length // 2
    result = cutout(images, length, generator(1))
    for n, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        expected = torch.ones(2, 7, 9)
        expected[:, max(top, 0) : top + length, max(left, 0) : left + length] = 0
        assert torch.equal(result[n], expected)
    assert images.all()
