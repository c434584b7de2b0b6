"""Images that live on the device, batched and augmented there, without worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images.

    Attributes:
        padding: black pixels around the image, of which a window of the old size is cut at random.
        flip: whether an image is mirrored left to right with probability 1/2.
    """

    padding: int = 0
    flip: bool = False


class Batches:
    """One split of a data set on one device.

    Args:
        images: [n, channels, height, width], uint8, or float32 in the scale 0..1.
        labels: [n], int64, class indices.
        mean, std: [1, channels, 1, 1] in the scale 0..1; batches are standardized by them.
        augmentation: what :meth:`epoch` does with ``augment=True``.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: Tensor,
        std: Tensor,
        augmentation: Augmentation,
    ) -> None:
        self.images, self.labels = images, labels
        self.augmentation = augmentation
        scale = 255 if images.dtype == torch.uint8 else 1
        self._mean, self._std = scale * mean.float(), scale * std.float()

    def __len__(self) -> int:
        return len(self.labels)

    def steps(self, batch_size: int) -> int:
        """Number of batches of one epoch: n / batch_size, rounded up.

        Raises:
            ValueError: the batch is empty or larger than the split.
        """
        if not 1 <= batch_size <= len(self):
            raise ValueError(
                f"batch size {batch_size} does not fit a split of {len(self)} images; choose 1 to {len(self)}"
            )
        return -(-len(self) // batch_size)

    def epoch(
        self, batch_size: int, generator: torch.Generator, *, augment: bool, fill: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in random order, as standardized batches with their labels.

        All batches have the same shape: the last one is filled up from the start of the order, so
        up to batch_size - 1 images are seen twice.

        Args:
            generator: on the CPU; one state gives the same batches on every device.
            fill: false for a last batch that may be smaller, and no image twice.

        Yields:
            images [batch, channels, height, width] and labels [batch] (int64).

        Raises:
            ValueError: as :meth:`steps`.
        """
        steps = self.steps(batch_size)
        order = torch.randperm(len(self), generator=generator)
        if fill:
            order = torch.cat([order, order[: steps * batch_size - len(self)]])
        order = order.to(self.images.device, non_blocking=True)
        for chosen in order.split(batch_size):
            yield self._batch(chosen, generator if augment else None)

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As many images, drawn with replacement and augmented, with their labels."""
        chosen = torch.randint(len(self), (count,), generator=generator)
        return self._batch(chosen.to(self.images.device, non_blocking=True), generator)

    def _batch(self, chosen: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        images = self.images[chosen]
        if generator is not None:
            images = augmented(images, self.augmentation, generator)
        return self._standardized(images), self.labels[chosen]

    def all(self) -> tuple[Tensor, Tensor]:
        """All images, standardized, in their stored order, and their labels."""
        return self._standardized(self.images), self.labels

    def _standardized(self, images: Tensor) -> Tensor:
        # (x − μ) / σ, in each channel
        return (images.float() - self._mean) / self._std


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crops and flips of [batch, channels, height, width], one draw per image.

    Args:
        images: not standardized yet, so that the padding is black.
        generator: on the CPU.
    """
    count = len(images)
    if augmentation.padding:
        offsets = torch.randint(2 * augmentation.padding + 1, (2, count), generator=generator)
        images = _cropped(images, augmentation.padding, offsets.to(images.device, non_blocking=True))
    if augmentation.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        mirrored = mirrored.to(images.device, non_blocking=True).view(-1, 1, 1, 1)
        images = torch.where(mirrored, images.flip(-1), images)
    return images


def _cropped(images: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """Windows of the old size; ``offsets`` [2, batch] are their upper and left borders, 0 to 2·padding."""
    batch, channel, row, column = (torch.arange(size, device=images.device) for size in images.shape)
    padded = torch.nn.functional.pad(images, [padding] * 4)
    # y[n, c, i, j] = x[n, c, top(n) + i, left(n) + j], with x padded
    rows = (offsets[0, :, None] + row)[:, None, :, None]
    columns = (offsets[1, :, None] + column)[:, None, None, :]
    return padded[batch.view(-1, 1, 1, 1), channel.view(-1, 1, 1), rows, columns]


def cutout(images: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Zero a square around a random pixel of each image (DeVries & Taylor, 2017).

    Args:
        images: [batch, channels, height, width], standardized, so that 0 is the mean.
        length: side s of the square in pixels; parts beyond the border are lost.
        generator: on the CPU.
    """
    height, width = images.shape[-2:]

    def covered(size: int) -> Tensor:
        # y − ⌊s/2⌋ ≤ i < y − ⌊s/2⌋ + s, around a center y that is uniform among the pixels (book/darts_space)
        first = torch.randint(size, (len(images), 1), generator=generator) - length // 2
        pixels = torch.arange(size)
        inside = (first <= pixels) & (pixels < first + length)
        return inside.to(images.device, non_blocking=True)

    square = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images.masked_fill(square, 0.0)
