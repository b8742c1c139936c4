"""DICOM files to images, one rule for each oddity.

- Encoding: uncompressed, RLE or JPEG Baseline (as ultrasound scanners save). Other transfer syntaxes are refused by
  name, deflated files with them, as their size cannot be told before they are unpacked.
- Size and frames are looked at before pixels are decoded. Several frames are refused.
- Grey: the Modality LUT or rescale, then the first window, or else the first VOI LUT. Where there is neither (or the
  window has no width), up to 8 bits are spread over the range that they can hold and deeper values over the range that
  the image has. MONOCHROME1 is inverted. Only the image's own header counts: no presentation state, no overlay, no
  functional group, no padding value.
- Colour: RGB of 8 bits, YBR_FULL and YBR_FULL_422 in either planar configuration, and PALETTE COLOR.
- As a mask, a grey file counts as stored: no rescale, no window, no inversion.
- Pixel spacing is ignored, also where a pixel is no square: an image is stretched to the model's square anyhow.
- Nothing of the header is kept or logged: only the elements named below are read, none of which tells of the patient,
  and no message quotes a value of theirs. What is burnt into the pixels stays; remove it beforehand.

Source of the formulas: DICOM PS3.3, C.7.6.3 (pixels), C.7.9 (palette), C.11.1 (modality), C.11.2 (window); by pydicom.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, Shaped, UInt8
from PIL import Image
from pydicom import Dataset, config, dcmread
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing, pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from pipeline.data.unreadable import UnreadableError, check_frames, check_size

LOG = logging.getLogger("pydicom")
ONE_AT_A_TIME = Lock()  # as what pydicom says is settled for the whole process
MAGIC_END = 132  # a preamble of 128 bytes, then DICM
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGBaseline8Bit)
SAMPLES = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3,
}  # fmt: skip
RLE_SLACK_BYTES = 1024  # its header, and padding
COLOURS = ("Red", "Green", "Blue")
ELEMENTS = [
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPresentation",
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
    *(f"{kind}{colour}PaletteColorLookupTableData" for kind in ("", "Segmented") for colour in COLOURS),
    "PixelData",
]  # fmt: skip


def read_image(content: bytes) -> Image.Image:
    """The DICOM file `content` in RGB at its own size; raises UnreadableError."""
    with _faults_refused():
        header = _read(content)
        return Image.fromarray(_as_shown(header, pixel_array(header, index=0))).convert("RGB")


def read_mask_values(content: bytes) -> Integer[np.ndarray, "h w"]:
    """Grey values as stored; the brightest colour where there are several; raises UnreadableError."""
    with _faults_refused():
        header = _read(content)
        pixels = pixel_array(header, index=0)
        if header.PhotometricInterpretation.startswith("MONOCHROME"):
            return pixels.astype(np.int64)
        return _as_shown(header, pixels).max(axis=2)


def read_kind(content: bytes) -> str:
    """How the file keeps its pixels, such as MONOCHROME2; raises UnreadableError."""
    with _faults_refused():
        return str(_read(content).PhotometricInterpretation)


@contextmanager
def _silence() -> Iterator[None]:
    """Warnings quote values that they find odd; in a damaged file these may be anything, also the patient's name."""
    with ONE_AT_A_TIME, warnings.catch_warnings(action="ignore"), config.disable_value_validation():
        level = LOG.level
        LOG.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            LOG.setLevel(level)


@contextmanager
def _faults_refused() -> Iterator[None]:
    try:
        with _silence():
            yield
    except UnreadableError:
        raise
    except Exception as error:  # whatever a broken file makes pydicom stumble over; its message may quote the header
        raise UnreadableError(f"a broken DICOM file ({type(error).__name__})") from None


def _read(content: bytes) -> Dataset:
    """The elements that make the picture, of a file that can be decoded."""
    syntax = _transfer_syntax(content)
    if syntax not in SYNTAXES:
        raise UnreadableError(
            f"a DICOM file whose transfer syntax is {syntax.name}; only uncompressed, RLE and JPEG Baseline ones are "
            "read, so install GDCM and run `gdcmconv --raw` on it"
        )
    header = dcmread(BytesIO(content), specific_tags=ELEMENTS)
    _check_header(header, syntax)
    return header


def _transfer_syntax(content: bytes) -> UID:
    """Read apart from all else, as pydicom inflates a deflated file whatever becomes of it."""
    file = BytesIO(content)
    file.seek(MAGIC_END)
    syntax = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2).TransferSyntaxUID
    if not syntax.is_valid:
        raise ValueError("no transfer syntax")
    return syntax


def _check_header(header: Dataset, syntax: UID) -> None:
    if "PixelData" not in header:
        raise UnreadableError("a DICOM file without pixels of whole numbers")
    check_frames(int(header.get("NumberOfFrames") or 1))
    check_size(header.Columns, header.Rows)
    samples, bits = header.SamplesPerPixel, header.BitsStored
    if samples != SAMPLES.get(header.PhotometricInterpretation):
        raise UnreadableError(f"a DICOM file of a kind that is not read; kinds that are: {', '.join(SAMPLES)}")
    if header.BitsAllocated > 16 or (samples > 1 and {header.BitsAllocated, bits} != {8}):
        raise UnreadableError(f"a DICOM file with {bits} bits per value; up to 16 are read, in colour 8")
    if header.get("HighBit", bits - 1) != bits - 1:
        raise UnreadableError("a DICOM file whose values do not begin at the lowest bit")
    if syntax == JPEGBaseline8Bit:
        _check_jpeg(header)
    unpacked = header.Rows * header.Columns * samples * -(-header.BitsAllocated // 8)
    if syntax == RLELossless and len(header.PixelData) > 2 * unpacked + RLE_SLACK_BYTES:
        raise UnreadableError("a DICOM file with more RLE data than its pixels can need")


def _check_jpeg(header: Dataset) -> None:
    """The size that the JPEG itself tells decides how much memory it takes."""
    with Image.open(BytesIO(get_frame(header.PixelData, 0, number_of_frames=1)), formats=["JPEG"]) as picture:
        if picture.size != (header.Columns, header.Rows):
            raise UnreadableError("a DICOM file whose JPEG is of another size than its header says")


def _as_shown(header: Dataset, pixels: Shaped[np.ndarray, "h w *samples"]) -> UInt8[np.ndarray, "h w *colours"]:
    """Of one sample, each value that a pixel can have is looked at once, whatever the size of the image."""
    if pixels.ndim == 3:
        return pixels
    levels = _levels(header)
    places = pixels.astype(np.intp) - levels[0]
    if header.PhotometricInterpretation == "PALETTE COLOR":
        return _palette(header, levels)[places]
    occurring = np.zeros(len(levels), dtype=bool)
    occurring[places] = True
    greys = _greys(header, levels, occurring)
    return (255 - greys if header.PhotometricInterpretation == "MONOCHROME1" else greys)[places]


def _levels(header: Dataset) -> Int64[np.ndarray, " n"]:
    """Every value that a pixel can have, from the smallest on."""
    count = 2**header.BitsStored
    return np.arange(count) - (count // 2 if header.PixelRepresentation else 0)


def _greys(
    header: Dataset, levels: Int64[np.ndarray, " n"], occurring: Bool[np.ndarray, " n"]
) -> UInt8[np.ndarray, " n"]:
    values = apply_modality_lut(levels, header).astype(np.float64)
    if _has_window(header):
        with np.errstate(over="ignore"):  # far from the centre of a sigmoid
            return _to_8_bits(apply_windowing(values, header), *apply_windowing(np.array([-np.inf, np.inf]), header))
    if header.get("VOILUTSequence"):
        return _through_voi_lut(header.VOILUTSequence[0], header, values)
    shown = values if header.BitsStored <= 8 else values[occurring]
    return _to_8_bits(values, shown.min(), shown.max())


def _has_window(header: Dataset) -> bool:
    given = [header.get(name) for name in ("WindowCenter", "WindowWidth")]
    return None not in given and bool(np.ravel(given[1])[0] > 0)


def _through_voi_lut(table: Dataset, header: Dataset, values: Float64[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    entries, first, bits = table.LUTDescriptor
    if bits == 8:  # pydicom keeps places in the table in the type of its entries, so that 8 bits reach only 256 of them
        table.LUTDescriptor = [entries, first, 16]
    return _to_8_bits(apply_voi(_within(values, entries, first), header), 0.0, 2.0**bits - 1)


def _palette(header: Dataset, levels: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    entries, first, bits = header.RedPaletteColorLookupTableDescriptor
    colours = apply_color_lut(_within(levels, entries, first), header)
    depth = min(bits, 8 * colours.itemsize)
    if depth == 8 and not 0 < entries <= 256:
        raise UnreadableError("a DICOM file with a palette of more than 256 entries of 8 bits")
    return _to_8_bits(colours, 0.0, 2.0**depth - 1)


def _within(values: Shaped[np.ndarray, " n"], entries: int, first: int) -> Int64[np.ndarray, " n"]:
    """Values beyond a look-up table's ends take its ends; no entries stands for 65,536."""
    return np.clip(np.rint(values), first, first + (entries or 2**16) - 1).astype(np.int64)


def _to_8_bits(values: Shaped[np.ndarray, "*n"], black: float, white: float) -> UInt8[np.ndarray, "*n"]:
    """Spread from black to white; all black where these are one."""
    share = (values.astype(np.float64) - black) / ((white - black) or 1.0)
    if not np.isfinite(share).all():
        raise ValueError("values that are no numbers")
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
