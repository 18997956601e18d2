"""Pictures for people, compared with pydicom's own pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from datasets import PYDICOM_FILES
from dicomweb.pixels import Rendering, pixels_of, rendered
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import pixel_array

COLORS = [
    path for path in PYDICOM_FILES if path.name.startswith(("SC_", "examples_rgb", "examples_ybr", "examples_jpeg2k", "GDCMJ2K"))
]


@pytest.mark.parametrize("path", COLORS, ids=lambda path: path.name)
def test_colors_are_those_of_the_instance(path: Path) -> None:
    dataset = dcmread(path)
    picture = Image.open(io.BytesIO(rendered(pixels_of(path), 1, Rendering("image/png"))))
    expected = pixel_array(dataset, index=0)
    assert picture.mode == "RGB"
    difference = numpy.abs(numpy.asarray(picture).astype(int) - (expected >> max(dataset.BitsStored - 8, 0)).astype(int))
    assert difference.mean() < 1
