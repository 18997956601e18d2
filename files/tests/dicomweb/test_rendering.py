"""Pictures for people, compared with pydicom's own pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from datasets import PYDICOM_FILES
from dicomweb.errors import RequestError
from dicomweb.pixels import Rendering, frame_of, rendered
from dicomweb.retrieval_request import rendering
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


def quadrants() -> Dataset:
    """Return an image of 40 by 20 pixels whose quarters are of values from 0 on, and no window."""
    dataset = dcmread(next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm"))
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in dataset:
            delattr(dataset, keyword)
    values = numpy.repeat(numpy.repeat(numpy.array([[0, 100], [200, 300]], numpy.int16), 10, 0), 20, 1)
    dataset.Rows, dataset.Columns, dataset.PixelData = 20, 40, values.tobytes()
    return dataset


LEFT_TOP, RIGHT_TOP, LEFT_END, RIGHT_END = 0, 85, 170, 255


@pytest.mark.parametrize(
    ("asked", "size", "quarters"),
    [
        ([("viewport", "20,10,20,0,20,10")], (20, 10), [RIGHT_TOP] * 4),
        ([("viewport", "80,80,20,10,,")], (80, 40), [RIGHT_END] * 4),
        ([("viewport", "40,20,,,-40,20")], (40, 20), [RIGHT_TOP, LEFT_TOP, RIGHT_END, LEFT_END]),
        ([("viewport", "40,20,,,40,-20")], (40, 20), [LEFT_END, RIGHT_END, LEFT_TOP, RIGHT_TOP]),
        ([("viewport", "10,10,0.5,10.5,9,9.5")], (9, 10), [LEFT_END] * 4),
        ([("viewport", "20,20,-100,-100,105,105")], (20, 20), [LEFT_TOP] * 4),
        ([("region", "0.5,0.5,1,1")], (20, 10), [RIGHT_END] * 4),
        ([("region", "0,0,1,1")], (40, 20), [LEFT_TOP, RIGHT_TOP, LEFT_END, RIGHT_END]),
        ([("region", "0,0,0.5,0.5"), ("rows", "40"), ("columns", "40")], (40, 20), [LEFT_TOP] * 4),
    ],
)
def test_a_part_of_an_image_is_as_bright_as_in_the_whole(
    asked: list[tuple[str, str]], size: tuple[int, int], quarters: list[int]
) -> None:
    picture = Image.open(io.BytesIO(rendered(quadrants(), 1, rendering(asked, "image/png"))))
    assert picture.size == size
    rows, columns = ((side // 4, side * 3 // 4) for side in (picture.height, picture.width))
    values = numpy.asarray(picture)
    assert [int(values[row, column]) for row in rows for column in columns] == pytest.approx(quarters, abs=1)


@pytest.mark.parametrize(
    "asked",
    [
        ("viewport", "10,10,nan,0,1,1"),
        ("viewport", "10,10,0,0,1e300,1"),
        ("viewport", "10,10,0,0,x,1"),
        ("viewport", "10,10,0,0"),
        ("viewport", "10,10,40,0,10,10"),
        ("viewport", "10,10,0,0,0,10"),
        ("viewport", "10,10,0,-10,5,10"),
        ("region", "0,0,1"),
        ("region", "0,0,1,1.5"),
        ("region", "0.5,0,0.5,1"),
        ("region", "-1,0,1,1"),
        ("region", "nan,0,1,1"),
    ],
)
def test_a_part_that_is_none_is_refused(asked: tuple[str, str]) -> None:
    with pytest.raises(RequestError, match=r"viewport is|region is|Nothing of the image") as told:
        rendered(quadrants(), 1, rendering([asked], "image/png"))
    assert told.value.status == 400


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
