"""Frames, rendered images and other transfer syntaxes (PS3.18 10.4.1.1.2, 10.4.1.1.6; PS3.5 annex A)."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dimse.part10 import DEFLATED, EXPLICIT, IMPLICIT, encode, file_head, read_syntax, refuse_bomb
from PIL import Image, ImageOps
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing, convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from dicomweb.errors import LostError, RequestError
from dicomweb.frame_table import (
    OFFSET_TABLES,
    PIXEL_KEYWORDS,
    FrameTable,
    Memory,
    OpenFrames,
    UntoldError,
    encapsulated,
    frame_bits,
    frame_count,
)
from dicomweb.nesting import TooDeepError, refuse_deep
from dicomweb.syntaxes import JPEG_2000, JPEG_LS, MPEG, NATIVE, RLE

# What can't be decoded is told to who asked for it: no trace of each decoder that was tried.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

MADE_HERE = (EXPLICIT, IMPLICIT, JPEG_LS, JPEG_2000, RLE)
"""Transfer syntaxes that an instance can be brought into."""

RENDERED = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
_THUMBNAIL_PIXELS = 128
# In pixels.
_SMALLEST_REGION = 1 / 64
_LARGEST_RENDERED = 64 << 20
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


@dataclass(frozen=True)
class Region:
    """The part of an image that is shown (PS3.18 8.3.5.1.3), in pixels, or in parts of the image's sides (9.4.1.2.4).

    Without a width or a height, it reaches to the image's right or lower end; one that is negative mirrors what is shown.
    """

    left: float = 0
    top: float = 0
    width: float | None = None
    height: float | None = None
    is_in_parts: bool = False

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return left, top, right and lower end within an image, in pixels; raise RequestError (400) where that is nothing."""
        ends: list[tuple[float, float]] = []
        for side, begin, extent in zip(size, (self.left, self.top), (self.width, self.height), strict=True):
            scale = side if self.is_in_parts else 1
            end = side if extent is None else begin * scale + abs(extent) * scale
            ends.append((max(begin * scale, 0), min(end, side)))
        if any(end - begin < _SMALLEST_REGION for begin, end in ends):
            raise RequestError(400, f"Nothing of the image, {size[0]} pixels wide and {size[1]} high, is in this region.")
        return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


@dataclass(frozen=True)
class Rendering:
    """How an image is rendered (PS3.18 8.3.5.1). `viewport` is width and height in pixels, `window` center, width and function."""

    media_type: str = "image/jpeg"
    quality: int = 90
    viewport: tuple[int, int] | None = None
    window: tuple[float, float, str] | None = None
    region: Region | None = None


def pixels_of(path: Path) -> Dataset:
    """Return the dataset of a file that has pixels.

    Raises RequestError: 404 where it has none, 413 where it is deflated and too large.
    """
    try:
        _syntax(path)
        dataset = dcmread(path, force=True)
    except RequestError:
        raise
    except FileNotFoundError:
        raise LostError from None
    except Exception as error:
        raise RequestError(502, f"The instance can't be read: {error}.") from None
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS.values()):
        raise RequestError(404, "The instance has no pixels.")
    return dataset


def frame_of(path: Path, number: int | None, *, is_middle: bool = False) -> tuple[Dataset, int]:
    """Return a dataset that has a frame of a file, and the frame's number in it; by default the first or the middle one.

    Others are left in the file where each has a place of its own. Raises RequestError: 404 where there is no such frame.
    """
    try:
        with OpenFrames(path) as opened:
            chosen = _chosen(number, opened.table.count, is_middle=is_middle)
            head = opened.head()
            _refuse_large(head)
            return opened.alone(chosen, head), 1
    except UntoldError:
        dataset = pixels_of(path)
        return dataset, _chosen(number, frame_count(dataset), is_middle=is_middle)


def _chosen(number: int | None, count: int, *, is_middle: bool) -> int:
    chosen = number or ((count + 1) // 2 if is_middle else 1)
    if not 1 <= chosen <= count:
        raise RequestError(404, f"The instance has {count} frames, and no frame {chosen}.")
    return chosen


def _syntax(path: Path) -> str:
    with path.open("rb") as file:
        try:
            syntax = read_syntax(file)
        except (InvalidDicomError, AttributeError):
            return ""
        if syntax == DEFLATED:
            try:
                refuse_bomb(file)
            except ValueError as error:
                raise RequestError(413, f"The instance is too large: {error}.") from None
    return syntax


def _refuse_deep(path: Path) -> None:
    """Raise TooDeepError where writing the dataset would take minutes and gigabytes, as it does pydicom where its stack ends."""
    with path.open("rb") as file:
        try:
            refuse_deep(file, read_syntax(file))
        except TooDeepError:
            raise
        except ValueError:
            # What else is odd about it, who reads it says.
            return


def frames(dataset: Dataset, numbers: Sequence[int], *, is_native: bool) -> list[bytes]:
    """Return frames by their numbers, from one on, as they are or as native pixels; raise RequestError (404, 406)."""
    content, table = _in_memory(dataset)
    for number in numbers:
        table.checked(number)
    if is_native and table.syntax not in NATIVE:
        return [_decoded(dataset, number - 1).tobytes() for number in numbers]
    return [table.frame(content, number) for number in numbers]


def frames_there(dataset: Dataset) -> list[bytes]:
    """Return all frames that are there, as they are, which may be fewer than the dataset says; raise RequestError (502)."""
    content, table = _in_memory(dataset)
    return [table.frame(content, number) for number in range(1, table.there + 1)]


def _in_memory(dataset: Dataset) -> tuple[Memory, FrameTable]:
    """Return the value of a dataset's pixels, native ones in little endian, and where its frames are."""
    keyword = next((keyword for keyword in PIXEL_KEYWORDS.values() if keyword in dataset), None)
    if keyword is None:
        raise RequestError(404, "The instance has no pixels.")
    syntax, element, count = dataset.file_meta.TransferSyntaxUID, dataset[keyword], frame_count(dataset)
    value = element.value or b""
    if syntax not in NATIVE:
        content = Memory(value)
        return content, encapsulated(content, 0, syntax, count, dataset.get("ExtendedOffsetTable") or b"", len(value))
    bits = frame_bits(dataset)
    if not bits:
        raise RequestError(502, "The instance doesn't say how large its frames are.")
    if not syntax.is_little_endian:
        # Pixels of 8 bits are in words, too, where the VR says so (PS3.5 annex D).
        width = max(int(dataset.BitsAllocated) // 8, 2 if element.VR == "OW" else 1)
        value = np.frombuffer(value[: len(value) // width * width], f">u{width}").astype(f"<u{width}").tobytes()
    return Memory(value), FrameTable(syntax, count, 0, len(value), bits)


def _decoded(dataset: Dataset, index: int) -> Any:
    if _is_plain(dataset):
        kind = "iu"[not dataset.get("PixelRepresentation")]
        [frame] = frames(dataset, [index + 1], is_native=True)
        return np.frombuffer(frame, f"<{kind}{dataset.BitsAllocated // 8}").reshape(dataset.Rows, dataset.Columns)
    try:
        # raw: in the color space and with the values that are stored.
        return pixel_array(dataset, index=index, raw=True)
    except Exception as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID", "none")
        raise RequestError(406, f"The pixels can't be decoded from transfer syntax {syntax}: {str(error)[:200]}") from None


def _is_plain(dataset: Dataset) -> bool:
    """Return whether pixels are whole numbers, one after the other: no decoder need be looked for."""
    is_little = dataset.file_meta.TransferSyntaxUID in NATIVE and dataset.file_meta.TransferSyntaxUID.is_little_endian
    return bool(
        is_little and "PixelData" in dataset and dataset.get("SamplesPerPixel") == 1 and dataset.get("BitsAllocated") in (8, 16)
    )


def transcoded(path: Path, syntax: str, target: Path) -> None:
    """Write a file's instance in another transfer syntax; raise RequestError (406) where that can't be."""
    try:
        try:
            _syntax(path)
            _refuse_deep(path)
            dataset = dcmread(path, force=True)
        except FileNotFoundError:
            raise LostError from None
        stored = dataset.file_meta.TransferSyntaxUID
        if not stored.is_little_endian:
            _swap_words(dataset)
            dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
        elif stored.is_encapsulated:
            _tell_frames(dataset)
            _decompress(dataset)
        if syntax in (EXPLICIT, IMPLICIT):
            dataset.file_meta.TransferSyntaxUID = UID(syntax)
        else:
            _interleave(dataset)
            _compress(dataset, syntax)
        with target.open("wb") as file:
            file.write(file_head(dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.file_meta.TransferSyntaxUID))
            encode(dataset, dataset.file_meta.TransferSyntaxUID, file)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(406, f"The instance can't be brought into transfer syntax {syntax}: {str(error)[:200]}") from None


def _tell_frames(dataset: Dataset) -> None:
    """Have each frame as one fragment: tables of offsets that lead elsewhere are believed by who reads the dataset."""
    count = frame_count(dataset)
    if "PixelData" not in dataset or dataset.file_meta.TransferSyntaxUID in MPEG:
        return
    found = frames_there(dataset)
    if len(found) < count:
        raise ValueError(f"its pixels end before frame {len(found) + 1} of {count}")
    dataset.PixelData = encapsulate(found, has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    for keyword in OFFSET_TABLES:
        if keyword in dataset:
            delattr(dataset, keyword)


def _compress(dataset: Dataset, syntax: str) -> None:
    if syntax != RLE:
        dataset.compress(UID(syntax), generate_instance_uid=False)
        return
    stored = dataset.BitsStored, dataset.HighBit
    # Each byte is a segment (PS3.5 G.2), also those that no stored bit is in, which pydicom would leave out.
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    # GDCM's, which it would take else, crashes on the smallest images of colors.
    dataset.compress(UID(syntax), encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = stored


def _decompress(dataset: Dataset) -> None:
    try:
        dataset.decompress(generate_instance_uid=False)
    except ValueError:
        # It can't correct the sign of what a decoder gives out to be read alone (J2K whose sign is another than the dataset's).
        if dataset.get("SamplesPerPixel") != 1:
            raise
        _set_native(dataset)
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)


def _interleave(dataset: Dataset) -> None:
    """Bring native planes of color into colors by pixel, which encoders take (PS3.5 8.2)."""
    if dataset.get("PlanarConfiguration") != 1 or int(dataset.get("SamplesPerPixel") or 1) == 1 or "PixelData" not in dataset:
        return
    _set_native(dataset)
    dataset.PlanarConfiguration = 0


def _set_native(dataset: Dataset) -> None:
    """Have the pixels as they are decoded, of an even number of bytes."""
    content = pixel_array(dataset, raw=True).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)


def _swap_words(dataset: Dataset) -> None:
    """Bring what pydicom leaves as bytes from big endian into little endian (PS3.5 7.3)."""
    # Pixels of 32 bits come from writers that swap all of their bytes, as pydicom reads them; not so those of icons within.
    wide = dataset["PixelData"] if "PixelData" in dataset and dataset.get("BitsAllocated") == 32 else None
    for element in dataset.iterall():
        width = 4 if element is wide else _WORD_BYTES.get(element.VR)
        if width and isinstance(element.value, bytes):
            element.value = np.frombuffer(element.value, f">u{width}").byteswap().tobytes()


def rendered(dataset: Dataset, number: int | None, how: Rendering, *, is_thumbnail: bool = False) -> bytes:
    """Return a frame, by default the middle one for a thumbnail and the first one else, as an image for people."""
    chosen = _chosen(number, frame_count(dataset), is_middle=is_thumbnail)
    _refuse_large(dataset)
    size = (_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS) if is_thumbnail and not how.viewport else how.viewport
    # A part of it is seen as it is within the whole.
    image = _image(dataset, chosen - 1, how, None if how.region else size)
    if size or how.region:
        image = _scaled(image, size, how.region)
    target = io.BytesIO()
    options = {"quality": how.quality} if how.media_type == "image/jpeg" else {}
    image.save(target, RENDERED[how.media_type], **options)
    return target.getvalue()


def _scaled(image: Image.Image, size: tuple[int, int] | None, region: Region | None) -> Image.Image:
    """Return an image, or a region of it, as large as it can be within a size, or as it is."""
    box = region.box(image.size) if region else (0, 0, *image.size)
    width, height = box[2] - box[0], box[3] - box[1]
    ratio = min(size[0] / width, size[1] / height) if size else 1
    made = image.resize((max(round(width * ratio), 1), max(round(height * ratio), 1)), Image.Resampling.BILINEAR, box)
    if region and (region.width or 0) < 0:
        made = ImageOps.mirror(made)
    if region and (region.height or 0) < 0:
        made = ImageOps.flip(made)
    return made


def _with_groups(dataset: Dataset, index: int) -> Dataset:
    """Return a dataset that says of itself what its functional groups say of a frame's values (PS3.3 C.7.6.16.2.9, .10)."""
    try:
        return _seen_by_groups(dataset, index)
    except Exception:
        # Groups that are none say nothing.
        return dataset


def _seen_by_groups(dataset: Dataset, index: int) -> Dataset:
    own: Sequence[Dataset] = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*own[index : index + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    made = Dataset(dict(dataset.items())) if groups else dataset
    for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
        found = next((items for group in groups if (items := group.get(keyword))), None)
        for element in found[0] if found else ():
            made[element.tag] = element
    return made


def _refuse_large(dataset: Dataset) -> None:
    try:
        values = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * int(dataset.get("SamplesPerPixel") or 1)
    except Exception:
        raise RequestError(502, "The instance doesn't say how large its frames are.") from None
    if values > _LARGEST_RENDERED:
        raise RequestError(
            406, f"A frame has {values} values: more than {_LARGEST_RENDERED} are not rendered, but retrieved as a frame."
        )


def _image(dataset: Dataset, index: int, how: Rendering, size: tuple[int, int] | None) -> Image.Image:
    pixels = _decoded(dataset, index)
    dataset = _with_groups(dataset, index)
    if size:
        # Twice what is shown is enough to make it of.
        step = max(min(pixels.shape[0] // (2 * size[1]), pixels.shape[1] // (2 * size[0])), 1)
        pixels = pixels[::step, ::step]
    interpretation = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    try:
        if interpretation == "PALETTE COLOR":
            colors = apply_color_lut(pixels, dataset)
            return Image.fromarray((colors >> 8 if colors.dtype == np.uint16 else colors).astype(np.uint8))
        if pixels.ndim == 3:
            # YBR_RCT and YBR_ICT are transformations of JPEG 2000's own, which its decoder has undone (PS3.5 8.2.4).
            if interpretation in ("YBR_FULL", "YBR_FULL_422"):
                pixels = convert_color_space(pixels, interpretation, "RGB")
            shift = max(int(dataset.get("BitsStored") or 8) - 8, 0)
            return Image.fromarray((pixels >> shift).astype(np.uint8))
        values = apply_modality_lut(pixels, dataset)
        if how.window:
            dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = how.window
            values = apply_windowing(values, dataset)
        else:
            values = apply_voi_lut(values, dataset)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(406, f"The instance can't be rendered: {str(error)[:200]}") from None
    values = np.asarray(values, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if "WindowWidth" in dataset or "VOILUTSequence" in dataset:
        # What the window doesn't reach stays as dark or bright as the window has it.
        low, high = _range(dataset, low, high)
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255
    if interpretation == "MONOCHROME1":
        scaled = 255 - scaled
    return Image.fromarray(scaled.astype(np.uint8))


def _range(dataset: Dataset, low: float, high: float) -> tuple[float, float]:
    """Return the range of the values that a window makes: that of all values which can be stored."""
    if "VOILUTSequence" in dataset and "WindowWidth" not in dataset:
        return low, high
    bits = int(dataset.get("BitsStored") or 8)
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.get("PixelRepresentation") else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    ends = (least * slope + intercept, most * slope + intercept)
    return min(ends), max(ends)
