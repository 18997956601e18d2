"""Metadata of datasets that are encoded in unusual ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import of_kind
from dicomweb.metadata import bulk, model, opened
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("is_deferred", [True, False])
def test_long_sequences_have_their_items_and_long_texts_an_address(tmp_path: Path, syntax: str, is_deferred: bool) -> None:
    dataset = dcmread(of_kind("ct", tmp_path).path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.ReferencedImageSequence = [Dataset() for _ in range(200)]
    for number, item in enumerate(dataset.ReferencedImageSequence):
        item.ReferencedSOPInstanceUID = f"1.2.{number}"
        item.ImageComments = "text " * (1000 if number == 1 else 1)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageComments = "Größe " * 1000
    path = tmp_path / "made.dcm"
    dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    read = opened(path) if is_deferred else dcmread(path)
    made = model(read, "/bulk")
    items = made["00081140"]["Value"]
    assert [item["00081155"]["Value"][0] for item in items] == [f"1.2.{number}" for number in range(200)]
    assert items[1]["00204000"] == {"vr": "LT", "BulkDataURI": "/bulk/00081140.2.00204000"}
    assert made["00204000"] == {"vr": "LT", "BulkDataURI": "/bulk/00204000"}
    assert bulk(read, "00204000").decode().strip() == ("Größe " * 1000).strip()
    assert bulk(read, "00081140.2.00204000").decode().strip() == ("text " * 1000).strip()
