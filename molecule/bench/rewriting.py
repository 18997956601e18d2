"""What static DICOMweb is compared with: files one after the other, and after each the study's documents anew.

It is the design of a known Python version. Pixels are written twice, as a DICOM file and as a frame.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import pydicom


def render(path: Path, root: Path, models: dict[Path, list[object]]) -> None:
    """Render one file, and write the documents of its series and study again; `models` has what is in them."""
    dataset = pydicom.dcmread(path)
    study = root / "studies" / dataset.StudyInstanceUID
    series = study / "series" / dataset.SeriesInstanceUID
    instance = series / "instances" / dataset.SOPInstanceUID
    (instance / "frames").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, instance / "instance.dcm")
    (instance / "frames/1").write_bytes(dataset.PixelData)
    del dataset.PixelData
    model = dataset.to_json_dict()
    for level in (instance, series, study):
        models.setdefault(level, []).append(model)
        (level / "metadata.gz").write_bytes(gzip.compress(json.dumps(models[level]).encode(), 6))


if __name__ == "__main__":
    known: dict[Path, list[object]] = {}
    for each in sorted(Path(sys.argv[1]).iterdir()):
        render(each, Path(sys.argv[2]), known)
