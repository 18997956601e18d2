"""Instances in another transfer syntax have the pixels that they had, over pydicom's files."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from datasets import PYDICOM_FILES
from dicomweb.errors import LostError, RequestError
from dicomweb.pixels import MADE_HERE, transcoded
from pydicom import dcmread
from pydicom.pixels import pixel_array


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_it_has_the_same_pixels(path: Path, tmp_path: Path) -> None:
    try:
        expected = pixel_array(path)
    except Exception:
        pytest.skip("pydicom reads no pixels of it")
    made = 0
    for syntax in MADE_HERE:
        target = tmp_path / syntax
        try:
            transcoded(path, syntax, target)
        except RequestError as error:
            assert error.status == 406
            continue
        made += 1
        dataset = dcmread(target)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        assert numpy.array_equal(pixel_array(dataset), expected), syntax
        assert not dataset.file_meta.TransferSyntaxUID.is_encapsulated or dataset.get("PlanarConfiguration", 0) == 0
    assert made >= 2


def test_a_file_that_is_gone_is_no_wrong_syntax(tmp_path: Path) -> None:
    with pytest.raises(LostError):
        transcoded(tmp_path / "gone", MADE_HERE[0], tmp_path / "made")
