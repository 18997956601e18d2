"""Instances whose pixels aren't what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets import Instance, named, of_kind, saved
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import MPEG4HP41

FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


def lacking_encapsulated(directory: Path) -> Instance:
    """Return one that says it has four frames, and has two."""
    dataset = of_kind("sc-rle-multi-frame", directory).dataset
    dataset.NumberOfFrames = 4
    return saved(named(dataset), directory)


def lacking_native(directory: Path) -> Instance:
    """Return one that ends within its last frame."""
    dataset = of_kind("rt-dose-multi-frame", directory).dataset
    dataset.PixelData = dataset.PixelData[:-100]
    return saved(named(dataset), directory)


def single_bits(directory: Path) -> Instance:
    """Return one whose frames of 100 bits follow each other without padding."""
    dataset = of_kind("segmentation", directory).dataset
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 10, 10, 3
    dataset.PixelData = bytes(range(1, 39))
    return saved(named(dataset), directory)


def video(directory: Path) -> Instance:
    """Return one whose frames are one stream."""
    dataset = of_kind("sc-rle-multi-frame", directory).dataset
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.NumberOfFrames = 30
    dataset.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" + bytes(1000)], has_bot=False)
    return saved(named(dataset), directory)


ODD: dict[str, tuple[Callable[[Path], Instance], int]] = {
    "lacking encapsulated": (lacking_encapsulated, 2),
    "lacking native": (lacking_native, 14),
    "single bits": (single_bits, 3),
    "video": (video, 1),
}
"""How each is made, and how many of its frames are there."""


def frames_there(instance: Instance, count: int) -> list[bytes]:
    """Return them as pydicom has them."""
    dataset = instance.dataset
    if dataset.file_meta.TransferSyntaxUID == MPEG4HP41:
        return list(generate_frames(dataset.PixelData, number_of_frames=1))
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return list(generate_frames(dataset.PixelData, number_of_frames=count))
    bits = dataset.Rows * dataset.Columns * dataset.BitsAllocated
    whole = int.from_bytes(dataset.PixelData, "little")
    return [((whole >> number * bits) % (1 << bits)).to_bytes(-(-bits // 8), "little") for number in range(count)]
