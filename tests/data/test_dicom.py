"""DICOM files made up on the spot, each rule worked out by hand; skipped where pydicom is absent."""

import logging
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.data
from pipeline.data.images import decode_image, decode_mask, header_of, square_image
from pipeline.data.unreadable import UnreadableError
from tests.data.sets import box, encoded, noise, write

pydicom = pytest.importorskip("pydicom", minversion="3")

from tests.data.dicoms import RAMP, dataset, dicom, lookup_table, saved  # noqa: E402

uid = pydicom.uid
ROOT = Path(__file__).parents[2]
DEEP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # each value of 12 bits once
CT = (16 * np.arange(256, dtype=np.int16) - 2048).reshape(16, 16)  # every 16th value of 12 bits with a sign
RGB = noise(0, 16, 18)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content))


def greys(content: bytes) -> np.ndarray:
    shown = pixels(content)
    assert (shown == shown[..., :1]).all()
    return shown[..., 0]


def test_8_bits_without_a_window_stay_as_they_are() -> None:
    assert (greys(dicom(RAMP)) == RAMP).all()
    assert (greys(dicom(RAMP // 2)) == RAMP // 2).all()  # not spread to the range of the image


def test_fewer_bits_span_their_own_range() -> None:
    assert greys(dicom(RAMP // 16, bits=4))[0, 0] == 0
    assert greys(dicom(RAMP // 16, bits=4))[-1, -1] == 255


def test_one_bit_is_black_and_white() -> None:
    bits = np.packbits(box(16, 16).ravel() > 0, bitorder="little")
    content = dicom(box(16, 16), BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=bits.tobytes())
    assert (greys(content) == box(16, 16)).all()


def test_deep_values_without_a_window_span_the_range_of_the_image() -> None:
    part = 1000 + DEEP[:16, :16] % 5
    assert greys(dicom(part, bits=12))[0, :5].tolist() == [0, 64, 128, 191, 255]


def test_a_constant_image_is_black_and_nothing_is_divided_by_zero() -> None:
    with np.errstate(all="raise"):
        assert not greys(dicom(np.full((16, 16), 700, np.uint16), bits=12)).any()


def test_a_window_is_a_ramp_between_its_ends() -> None:
    """PS3.3 C.11.2.1.2: centre 100, width 11, so that 94 is the last black and 105 the first white."""
    shown = greys(dicom(RAMP, WindowCenter=100, WindowWidth=11)).ravel()
    assert (shown[:95] == 0).all()
    assert (shown[105:] == 255).all()
    assert shown[94:106].tolist() == [0, 13, 38, 64, 89, 115, 140, 166, 191, 217, 242, 255]


def test_a_window_over_all_values_changes_none() -> None:
    assert (greys(dicom(RAMP, WindowCenter=128, WindowWidth=256)) == RAMP).all()


def test_a_window_without_inner_values_is_a_threshold() -> None:
    assert (greys(dicom(RAMP, WindowCenter=100, WindowWidth=1)) == np.where(RAMP >= 100, 255, 0)).all()


def test_an_exact_window_and_a_sigmoid_are_what_their_formulas_say() -> None:
    exact = greys(dicom(RAMP, WindowCenter=100.25, WindowWidth=4, VOILUTFunction="LINEAR_EXACT")).ravel()
    assert exact[98:104].tolist() == [0, 48, 112, 175, 239, 255]
    sigmoid = greys(dicom(RAMP, WindowCenter=100, WindowWidth=10, VOILUTFunction="SIGMOID"))
    assert (sigmoid == np.rint(255 / (1 + np.exp(-0.4 * (RAMP - 100.0))))).all()


def test_the_first_of_several_windows_counts() -> None:
    several = dicom(RAMP, WindowCenter=[100, 200], WindowWidth=[11, 3])
    assert (greys(several) == greys(dicom(RAMP, WindowCenter=100, WindowWidth=11))).all()


@pytest.mark.parametrize("window", [(None, None), (100, None), (100, 0)])
def test_a_window_that_is_none_is_passed_over(window: tuple[object, object]) -> None:
    assert (greys(dicom(RAMP, WindowCenter=window[0], WindowWidth=window[1])) == RAMP).all()


def test_signed_values_with_an_intercept_are_windowed_in_their_unit() -> None:
    """A soft-tissue window over values stored 1024 below their unit: -160 and less are black, 240 and more white."""
    stored = np.array([-2000, -1184, -1024, -984, -784, 500, 2000, 2047], dtype=np.int16)
    rows = np.repeat(stored[:, None], 16, axis=1).repeat(2, axis=0)
    shown = greys(dicom(rows, bits=12, RescaleSlope=1, RescaleIntercept=1024, WindowCenter=40.5, WindowWidth=401))
    assert shown[::2, 0].tolist() == [0, 0, 102, 128, 255, 255, 255, 255]


def test_ct_numbers_are_stored_values_less_1024() -> None:
    """Of water (0) and fat (-100), in the window from -160 to 240."""
    stored = np.tile(np.array([1024, 924], dtype=np.uint16), (16, 8))
    shown = greys(dicom(stored, bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40.5, WindowWidth=401))
    assert shown[0, :2].tolist() == [102, 38]


def test_signed_values_without_a_window_span_their_range() -> None:
    assert (greys(dicom(CT, bits=12, RescaleSlope=1, RescaleIntercept=-1024)).ravel() == np.arange(256)).all()


def test_a_negative_slope_turns_black_and_white() -> None:
    assert (greys(dicom(RAMP, RescaleSlope=-2, RescaleIntercept=7)) == 255 - RAMP).all()


def test_monochrome_1_is_the_mirror_of_monochrome_2() -> None:
    elements = {"bits": 12, "WindowCenter": 2000, "WindowWidth": 1500}
    assert (greys(dicom(DEEP, "MONOCHROME1", **elements)) == 255 - greys(dicom(DEEP, **elements))).all()
    assert (greys(dicom(RAMP, "MONOCHROME1")) == 255 - RAMP).all()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("kind", ["US", "OW"])
def test_a_modality_table_and_a_voi_table_are_looked_up(syntax: str, kind: str) -> None:
    squares = [value * value for value in range(256)]
    modality = [lookup_table(squares, 0, 16, kind)]
    assert (greys(saved(dataset(RAMP, ModalityLUTSequence=modality), syntax)) == np.rint(RAMP**2.0 / 255)).all()
    assert (greys(saved(dataset(RAMP, VOILUTSequence=modality), syntax)) == np.rint(RAMP**2.0 / 257)).all()


def test_values_beyond_a_voi_table_take_its_ends() -> None:
    table = [lookup_table([10, 20, 30], 100, 8)]
    assert greys(dicom(RAMP, VOILUTSequence=table)).ravel()[98:105].tolist() == [10, 10, 10, 20, 30, 30, 30]
    signed = [lookup_table([10, 20, 30], -1, 8)]
    assert greys(dicom(CT // 16, VOILUTSequence=signed)).ravel()[125:132].tolist() == [10, 10, 10, 20, 30, 30, 30]


def test_a_voi_table_of_8_bits_reaches_all_of_its_entries() -> None:
    table = [lookup_table([value // 16 for value in range(4096)], 0, 8)]
    assert (greys(dicom(DEEP, bits=12, VOILUTSequence=table)) == DEEP // 16).all()


def test_a_window_comes_before_a_voi_table() -> None:
    table = [lookup_table([7] * 256, 0, 8)]
    assert (greys(dicom(RAMP, VOILUTSequence=table, WindowCenter=128, WindowWidth=256)) == RAMP).all()


def test_colours_come_in_either_planar_configuration() -> None:
    assert (pixels(dicom(RGB, "RGB")) == RGB).all()
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1)).tobytes()
    assert (pixels(dicom(RGB, "RGB", PlanarConfiguration=1, PixelData=planes)) == RGB).all()


def test_luminance_and_chrominance_become_colours() -> None:
    """A pure red has luminance 76, blue difference 85 and, cut off at 8 bits, red difference 255."""
    red = np.tile(np.array([76, 85, 255], dtype=np.uint8), (16, 16, 1))
    assert np.abs(pixels(dicom(red, "YBR_FULL")).astype(int) - [255, 0, 0]).max() <= 1
    grey = np.stack([RAMP, *[np.full_like(RAMP, 128)] * 2], axis=2)
    assert (pixels(dicom(grey, "YBR_FULL")) == RAMP[..., None]).all()


def test_halved_chrominance_is_shared_by_two_pixels() -> None:
    pairs = pydicom.pixels.convert_color_space(np.repeat(RGB[:, :9], 2, axis=1), "RGB", "YBR_FULL")
    halved = np.concatenate([pairs[:, ::2, :1], pairs[:, 1::2, :1], pairs[:, ::2, 1:]], axis=2).tobytes()
    full = pixels(dicom(pairs, "YBR_FULL"))
    assert (pixels(dicom(pairs, "YBR_FULL_422", PixelData=halved)) == full).all()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_palette_gives_colours_not_its_indices(syntax: str, depth: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    entries = colours if depth == 8 else colours.astype("<u2") * 257
    made = dataset(RAMP, "PALETTE COLOR")
    for place, colour in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, depth])
        setattr(made, f"{colour}PaletteColorLookupTableData", entries[:, place].tobytes())
    content = saved(made, syntax)
    assert (pixels(content) == colours[RAMP]).all()
    assert (decode_mask(content) == (colours[RAMP].max(axis=2) >= 128)).all()


def test_a_segmented_palette_is_expanded() -> None:
    """One entry of 0, then a line of 255 entries up to 255: PS3.3 C.7.9.2."""
    made = dataset(RAMP, "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(made, f"Segmented{colour}PaletteColorLookupTableData", bytes([0, 1, 0, 1, 255, 255]))
    assert (greys(saved(made)) == RAMP).all()


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless])
@pytest.mark.parametrize("image", [RAMP, DEEP, CT, RGB], ids=["8 bits", "12 bits", "signed", "colour"])
def test_every_encoding_that_is_read_is_the_same_image(syntax: str, image: np.ndarray) -> None:
    kind, bits = ("RGB", 8) if image is RGB else ("MONOCHROME2", 12 if image.itemsize == 2 else 8)
    made = dataset(image, kind, bits)
    plain = pixels(saved(made))
    if syntax == uid.RLELossless:
        made.compress(uid.RLELossless, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        made.PixelData = image.astype(image.dtype.newbyteorder(">")).tobytes()
        made["PixelData"].VR = "OB" if image.itemsize == 1 else "OW"
    assert (pixels(saved(made, syntax)) == plain).all()


def test_stray_bits_above_the_stored_ones_do_not_count() -> None:
    assert (greys(dicom(DEEP | 0x8000, bits=12)) == greys(dicom(DEEP, bits=12))).all()


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_a_mask_counts_as_it_is_stored(kind: str) -> None:
    window = {"WindowCenter": 1000, "WindowWidth": 2, "RescaleSlope": -1, "RescaleIntercept": 5}
    for white, kind_of_pixels in ((1, np.uint8), (255, np.uint8), (4095, np.uint16), (65535, np.uint16)):
        values = (box() > 0).astype(kind_of_pixels) * kind_of_pixels(white)
        assert (decode_mask(dicom(values, kind, **window)) == (box() > 0)).all()
    assert (decode_mask(dicom(np.stack([box()] * 3, axis=2), "RGB")) == (box() > 0)).all()


def test_a_map_of_labels_may_be_a_dicom_file() -> None:
    values = RAMP % 4
    assert (decode_mask(dicom(values)) == (values > 0)).all()


def test_the_square_of_a_dicom_file_is_that_of_the_same_picture_in_png() -> None:
    assert (square_image(dicom(RGB, "RGB"), 8) == square_image(encoded(RGB), 8)).all()


def test_the_header_tells_its_kind() -> None:
    assert header_of(dicom(RAMP)) == ("DICOM", "MONOCHROME2")


def deflated() -> bytes:
    """Declares to be deflated, and would inflate to 64 MB."""
    content = saved(dataset(RAMP), uid.DeflatedExplicitVRLittleEndian)
    packer = zlib.compressobj(wbits=-15)
    return content[: content.index(b"1.2.840.10008.1.2.1.99") + 22] + packer.compress(bytes(1 << 26)) + packer.flush()


def compressed(syntax: str, pixels: np.ndarray = RGB) -> bytes:
    """A JPEG of the pixels in a file whose header is that of RGB."""
    kind = "YBR_FULL_422" if pixels.ndim == 3 else "MONOCHROME2"
    made = dataset(RGB if pixels.ndim == 3 else RGB[..., 0], kind)
    made.PixelData = pydicom.encaps.encapsulate([encoded(pixels, "JPEG")])
    made["PixelData"].is_undefined_length = True
    return saved(made, syntax)


@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]])
def test_a_jpeg_inside_is_the_same_jpeg_outside(pixels: np.ndarray) -> None:
    found = np.asarray(decode_image(compressed(uid.JPEGBaseline8Bit, pixels))).astype(int)
    expected = np.asarray(decode_image(encoded(pixels, "JPEG"))).astype(int)
    assert np.abs(found - expected).max() <= 2  # YCbCr to RGB is rounded differently


def without(*keywords: str) -> bytes:
    made = dataset(RAMP)
    for keyword in keywords:
        delattr(made, keyword)
    return saved(made)


def swollen_rle() -> bytes:
    """A frame whose data would unpack to far more than 256 pixels."""
    made = dataset(RAMP)
    made.compress(uid.RLELossless, generate_instance_uid=False)
    header = np.array([1, 64, *[0] * 14], dtype="<u4").tobytes()
    made.PixelData = pydicom.encaps.encapsulate([header + b"\x81\0" * 100_000])
    return saved(made, uid.RLELossless)


REFUSED = {
    "another JPEG": (compressed(uid.JPEGBaseline8Bit, np.kron(RGB, np.ones((2, 2, 1), np.uint8))), "another size"),
    "JPEG 2000": (compressed(uid.JPEG2000Lossless), "transfer syntax is JPEG 2000.*install GDCM"),
    "deflated": (deflated(), "transfer syntax is Deflated Explicit VR Little Endian"),
    "frames": (dicom(RAMP, NumberOfFrames=2), "2 frames; save the one that counts"),
    "huge": (dicom(RAMP, Rows=60_000, Columns=60_000), "60000 x 60000 px are more than 50,000,000 pixels"),
    "small": (dicom(RAMP[:5]), "16 x 5 px is too small; each side needs 16"),
    "a report": (without("PixelData", "Rows", "Columns"), "without pixels"),
    "floats": (dicom(RAMP.astype(np.float32), BitsStored=32, HighBit=31), "32 bits per value; up to 16 are read"),
    "deep colours": (dicom(RGB.astype(np.uint16), "RGB"), "16 bits per value; up to 16 are read, in colour 8"),
    "unknown kind": (dicom(RGB, "HSV"), "of a kind that is not read"),
    "grey in colour": (dicom(RGB, "MONOCHROME2"), "of a kind that is not read"),
    "shifted bits": (dicom(DEEP, bits=12, HighBit=15), "do not begin at the lowest bit"),
    "too few pixels": (dicom(RAMP, PixelData=RAMP.tobytes()[:-2]), "a broken DICOM file"),
    "no rows": (without("Rows"), "a broken DICOM file"),
    "no bits": (without("BitsStored"), "a broken DICOM file"),
    "swollen RLE": (swollen_rle(), "more RLE data than its pixels can need"),
    "magic alone": (bytes(128) + b"DICM", "a broken DICOM file"),
    "no syntax": (bytes(128) + b"DICM" + dicom(RAMP)[400:], "a broken DICOM file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_for_certain_is_refused(case: str) -> None:
    content, reason = REFUSED[case]
    for decode in (decode_image, decode_mask):
        with pytest.raises(UnreadableError, match=reason) as refusal:
            decode(content)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_that_ends_too_early_is_refused(name: str) -> None:
    table = lookup_table(list(range(100)), 0, 16)
    table.LUTDescriptor = [256, 0, 16]
    with pytest.raises(UnreadableError, match="a broken DICOM file"):
        decode_image(dicom(RAMP, **{name: [table]}))


@pytest.mark.parametrize("slope", ["nan", "inf", "1e308"])
def test_values_that_are_no_numbers_are_refused(slope: str) -> None:
    content = dicom(RAMP, RescaleSlope=123456, RescaleIntercept=0).replace(b"123456", slope.ljust(6).encode())
    with pytest.raises(UnreadableError, match="a broken DICOM file"), np.errstate(all="ignore"):
        decode_image(content)


def test_a_long_palette_of_8_bits_is_refused() -> None:
    made = dataset(DEEP, "PALETTE COLOR", bits=12)
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [4096, 0, 8])
        setattr(made, f"{colour}PaletteColorLookupTableData", bytes(4096))
    with pytest.raises(UnreadableError, match="palette of more than 256 entries"):
        decode_image(saved(made))


GOOD = dicom(DEEP, bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 50], WindowWidth=[400, 300])


@given(st.integers(0, len(GOOD) - 1))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(UnreadableError):
        decode_image(GOOD[:length])


@given(st.lists(st.tuples(st.integers(132, len(GOOD) - 8192), st.integers(0, 255)), min_size=1, max_size=5))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_damaged_header_gives_an_image_or_a_refusal_and_tells_nothing(damage: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in damage:
        content[place] = value
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            assert decode_image(bytes(content)).mode == "RGB"
        except UnreadableError as refusal:
            said.append(refusal)
    assert not any(word in str(message) for message in said for word in ("Doe", "Jane", "0815"))


READ = """
import logging, sys
from pipeline.data.images import decode_image
logging.basicConfig(level=logging.DEBUG)
print(decode_image(open(sys.argv[1], "rb").read()).info)
"""


def test_nothing_of_the_header_is_kept_or_said(tmp_path: Path) -> None:
    odd = dataset(RAMP, PixelData=RAMP.tobytes() + b"more than is needed ")  # of which pydicom would warn
    file = write(tmp_path / "a.dcm", saved(odd))
    read = subprocess.run([sys.executable, "-c", READ, file], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (read.stdout, read.stderr) == ("{}\n", "")


SETTINGS = """
import logging, sys, warnings
import pydicom
from pipeline.data import images

def settings():
    return pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level, warnings.filters[:]

before = settings()
from pipeline.data import dicom
assert settings() == before, "imported"
images.decode_image(open(sys.argv[1], "rb").read())
assert settings() == before, "an image"
try:
    images.decode_image(bytes(128) + b"DICM")
except images.UnreadableError:
    assert settings() == before, "a refusal"
    print("as before")
"""


def test_what_others_hear_of_pydicom_is_left_as_it_is(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", dicom(RAMP))
    read = subprocess.run([sys.executable, "-c", SETTINGS, file], cwd=ROOT, capture_output=True, text=True)
    assert (read.stdout, read.stderr) == ("as before\n", "")


def settings_of_pydicom() -> tuple[object, ...]:
    return pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level, warnings.filters[:]


def test_threads_leave_what_others_hear_of_pydicom_as_it_is() -> None:
    before = settings_of_pydicom()
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(decode_image, [dicom(RAMP)] * 40))
    assert {image.tobytes() for image in read} == {read[0].tobytes()}
    assert settings_of_pydicom() == before


def test_without_pydicom_a_dicom_file_is_refused_by_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    content = dicom(RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.delitem(sys.modules, "pipeline.data.dicom", raising=False)
    monkeypatch.delattr(pipeline.data, "dicom", raising=False)
    with pytest.raises(UnreadableError, match="pip install pydicom"):
        decode_image(content)
