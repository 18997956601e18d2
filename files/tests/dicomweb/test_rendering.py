"""Pictures for people, compared with pydicom's own pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from datasets import PYDICOM_FILES
from dicomweb.pixels import Rendering, frame_of, rendered
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import pixel_array

COLORS = [
    path for path in PYDICOM_FILES if path.name.startswith(("SC_", "examples_rgb", "examples_ybr", "examples_jpeg2k", "GDCMJ2K"))
]


@pytest.mark.parametrize("path", COLORS, ids=lambda path: path.name)
def test_colors_are_those_of_the_instance(path: Path) -> None:
    dataset = dcmread(path)
    picture = Image.open(io.BytesIO(rendered(*frame_of(path, 1), Rendering("image/png"))))
    expected = pixel_array(dataset, index=0)
    assert picture.mode == "RGB"
    difference = numpy.abs(numpy.asarray(picture).astype(int) - (expected >> max(dataset.BitsStored - 8, 0)).astype(int))
    assert difference.mean() < 1


def enhanced(count: int) -> FileDataset:
    """Return an instance whose frames all have the same pixels, and each a window of its own."""
    dataset = dcmread(next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm"))
    for keyword in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PixelData = dataset.PixelData * count
    dataset.NumberOfFrames = count
    shared, transformation = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, -1024
    shared.PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in range(count):
        group, window = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = 40, 400 * (number + 1)
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def test_a_frame_is_seen_through_the_window_of_its_own_group(tmp_path: Path) -> None:
    dataset = enhanced(3)
    path = tmp_path / "enhanced.dcm"
    dataset.save_as(path)
    plain = dcmread(next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm"))
    for number in (1, 2, 3):
        plain.RescaleIntercept, plain.WindowCenter, plain.WindowWidth = -1024, 40, 400 * number
        expected = rendered(plain, 1, Rendering("image/png"))
        assert rendered(*frame_of(path, number), Rendering("image/png")) == expected
        assert rendered(dataset, number, Rendering("image/png")) == expected
    assert "WindowWidth" not in dataset
