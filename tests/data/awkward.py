"""The awkward sample files made on the spot: each with its fault, and with what a good loader does with it.

The names are those of the folder `awkward` among the samples, whose README describes them; the pixels are made up. So
one table of cases serves both, and the tests run where no samples are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from PIL import Image

from tests.data.sets import encoded, noise, write

Maker = Callable[[], bytes]

BUSI_PAIRS = "busi_pairs/Dataset_BUSI_with_GT"
LEAKAGE = "leakage"
LY, MO = "PBC_dataset_normal_DIB/lymphocyte/LY_1.jpg", "PBC_dataset_normal_DIB/monocyte/MO_1.jpg"


def cell(height: int = 96, width: int = 96) -> np.ndarray:
    """A dark disc in grain on a light ground."""
    rows, columns = np.ogrid[:height, :width]
    inside = (rows - 0.5 * height) ** 2 + (columns - 0.4 * width) ** 2 < (0.3 * height) ** 2
    return np.where(inside[..., None], [96, 50, 140], [240, 215, 200]).astype(np.uint8) + noise(0, height, width) // 16


def grey_cell() -> Image.Image:
    return Image.fromarray(cell()).convert("L")


def jpeg(**options: object) -> bytes:
    return encoded(cell(), "JPEG", **options)


def with_alpha(mode: str) -> bytes:
    """Opaque on the right, transparent on the left."""
    image = Image.fromarray(cell()).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))))
    return encoded(image)


def deep(least: int, most: int) -> bytes:
    """16-bit grey between two values."""
    values = np.asarray(grey_cell()).astype(float)
    share = (values - values.min()) / np.ptp(values)
    return encoded(Image.fromarray((least + share * (most - least)).astype(np.uint16)))


def corrupt_middle() -> bytes:
    content = bytearray(encoded(grey_cell(), "JPEG"))
    middle = len(content) // 2
    content[middle : middle + 20] = bytes([0x55] * 20)
    return bytes(content)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(cell(96, 99), "JPEG", exif=exif)


def animated() -> bytes:
    return encoded(grey_cell(), "GIF", save_all=True, append_images=[Image.new("L", (96, 96))])


def grey_thrice(image: Image.Image) -> np.ndarray:
    return np.repeat(np.asarray(image)[..., None], 3, axis=2)


def scaled(white: int) -> Callable[[Image.Image], np.ndarray]:
    return lambda image: np.rint(grey_thrice(image) * (255 / white)).astype(np.uint8)


# file -> what makes it; and the reason it is refused for, or what its pixels are, told from what Pillow has opened
SINGLE: dict[str, tuple[Maker, str | Callable[[Image.Image], np.ndarray]]] = {
    "truncated.jpg": (lambda: jpeg()[: len(jpeg()) // 2], "broken: "),
    "corrupt_middle.jpg": (corrupt_middle, grey_thrice),
    "zero_byte.png": (bytes, "the file is empty"),
    "text_as_image.jpg": (lambda: b"this is not an image\n", "not an image"),
    ".DS_169665.jpg": (lambda: b"\0\0\0\1Bud1" + bytes(6140), "not an image"),
    "._BA_100102.jpg": (lambda: b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(32), "not an image"),
    "Thumbs.db": (lambda: b"\320\317\21\340\241\261\32\341" + bytes(24), "not an image"),
    "png_bytes_named.jpg": (lambda: encoded(cell()), np.asarray),
    "UPPER.JPG": (jpeg, np.asarray),
    "gray_L.jpg": (lambda: encoded(grey_cell(), "JPEG"), grey_thrice),
    "gray_alpha_LA.png": (lambda: with_alpha("L"), lambda image: np.asarray(image)[..., [0, 0, 0]]),
    "rgba.png": (lambda: with_alpha("RGB"), lambda image: np.asarray(image)[..., :3]),
    "palette_P.png": (
        lambda: encoded(Image.fromarray(cell()).quantize(32)),
        lambda image: np.array(image.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(image)],
    ),
    "onebit_1.png": (lambda: encoded(grey_cell().convert("1")), lambda image: grey_thrice(image) * np.uint8(255)),
    "gray16_full.png": (lambda: deep(9766, 60909), scaled(65535)),
    "gray16_12bit_range.png": (lambda: deep(608, 3792), scaled(4095)),
    "cmyk.jpg": (
        lambda: encoded(Image.fromarray(cell()).convert("CMYK"), "JPEG"),
        lambda image: 255 - np.asarray(image)[..., :3],  # without black
    ),
    "exif_orientation_6.jpg": (turned, lambda image: np.rot90(np.asarray(image), -1)),
    "progressive.jpg": (lambda: jpeg(progressive=True), np.asarray),
    "animated.gif": (animated, "2 frames"),
    "one_pixel.png": (lambda: encoded(noise(0, 1, 1)), "1 x 1 px is too small"),
    "extreme_aspect.png": (lambda: encoded(noise(0, 3, 400)), "400 x 3 px is too small"),
    "constant.png": (lambda: encoded(Image.new("RGB", (96, 96), (254, 229, 204))), np.asarray),
    "pixel_bomb_13500x13500.png": (lambda: encoded(Image.new("1", (13500, 13500))), "50,000,000 pixels"),
}


def packed(*members: tuple[str | ZipInfo, bytes]) -> bytes:
    with ZipFile(buffer := BytesIO(), "w", ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def with_link() -> bytes:
    link = ZipInfo("PBC_dataset_normal_DIB/link")
    link.external_attr = 0o120777 << 16
    return packed((LY, jpeg()), (link, b"/etc/passwd"))


def with_double_name() -> bytes:
    """Made of two names of one length, as the library warns of a double one."""
    other = LY.replace("LY_1", "LY_2")
    return packed((LY, jpeg()), (other, jpeg() + b"!")).replace(other.encode(), LY.encode())


def nested() -> bytes:
    litter = [
        (f"__MACOSX/{LY.replace('LY_', '._LY_')}", b"xxxx"),
        ("neutrophil/.DS_169665.jpg", SINGLE[".DS_169665.jpg"][0]()),
    ]
    return packed(("PBC_dataset_normal_DIB.zip", packed((LY, jpeg()), (MO, jpeg()), *litter)))


# file -> what makes it; and the reason it is refused for, or the class of each image that comes out of it
ZIPS: dict[str, tuple[Maker, str | dict[str, str]]] = {
    "traversal.zip": (
        lambda: packed((LY, jpeg()), ("../evil.txt", b"evil"), ("PBC_dataset_normal_DIB/../../evil2.txt", b"evil")),
        r"'\.\./evil\.txt' leads out of the folder",
    ),
    "absolute_path.zip": (
        lambda: packed((LY, jpeg()), ("/tmp/evil_abs.txt", b"evil"), ("C:\\evil_win.txt", b"evil")),
        "'/tmp/evil_abs.txt' leads out of the folder",
    ),
    "symlink.zip": (with_link, "'PBC_dataset_normal_DIB/link' is a link"),
    "bomb_45MB.zip": (lambda: packed((LY, bytes(45_000_000))), "over 200 times its size"),
    "mendeley_like_nested.zip": (nested, {LY: "lymphocyte", MO: "monocyte"}),
    "kaggle_like_double_top.zip": (
        lambda: packed((f"PBC_dataset_normal_DIB/{LY}", jpeg()), (f"PBC_dataset_normal_DIB/{MO}", jpeg())),
        {f"PBC_dataset_normal_DIB/{LY}": "lymphocyte", f"PBC_dataset_normal_DIB/{MO}": "monocyte"},
    ),
    "no_top_folder.zip": (
        lambda: packed(("lymphocyte/LY_1.jpg", jpeg()), ("monocyte/MO_1.jpg", jpeg())),
        {"lymphocyte/LY_1.jpg": "lymphocyte", "monocyte/MO_1.jpg": "monocyte"},
    ),
    "duplicate_names.zip": (with_double_name, "LY_1.jpg twice"),
    "truncated.zip": (lambda: packed((LY, jpeg()), (MO, jpeg()))[:-3000], "damaged or incomplete"),
    "html_error_page.zip": (
        lambda: b"<!DOCTYPE html><html><title>403 Forbidden</title></html>",
        "a web page, not an archive",
    ),
}  # fmt: skip

HARD_NAMES = (
    "name with  spaces (1).png", "célula_細胞_ß😀.png", "cafe\u0301_nfd.png", "-rf.png", "quote'\",semi;colon.png",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """An image and its masks by the ends of their names, what the masks cover, and what is said of a file."""

    masks: dict[str, Maker]
    covered: Callable[[list[np.ndarray]], np.ndarray] | None  # of the masks as opened; None: counts as without
    said: tuple[str, str] | None = None  # end of the file's name, and the remark
    has_image: bool = True


def ellipse(height: int = 112, width: int = 128, part: float = 0.15, centre: float = 0.5) -> np.ndarray:
    """Across the middle, its half axes `part` of the sides; true inside."""
    rows, columns = np.ogrid[:height, :width]
    return (rows / height - 0.5) ** 2 + (columns / width - centre) ** 2 < part**2


def grey(mask: np.ndarray, white: int = 255) -> bytes:
    return encoded(mask.astype(np.uint8) * np.uint8(white))


def in_alpha() -> bytes:
    """A mask in its colours, while alpha is white everywhere."""
    image = Image.fromarray(ellipse().astype(np.uint8) * np.uint8(255))
    return encoded(Image.merge("RGBA", [*[image] * 3, Image.new("L", image.size, 255)]))


def soft() -> bytes:
    large = Image.fromarray(ellipse(448, 512).astype(np.uint8) * np.uint8(255))
    return encoded(large.resize((128, 112), Image.Resampling.BICUBIC))


def white(masks: list[np.ndarray]) -> np.ndarray:
    return np.logical_or.reduce([mask > 0 for mask in masks])


ONE_MASK = {"_mask": lambda: encoded(Image.fromarray(ellipse()))}
PAIRS: dict[str, Pair] = {
    "benign (901)": Pair(ONE_MASK, white),
    "benign (902)": Pair(
        {"_mask": lambda: grey(ellipse(140, 160))},
        None,
        ("_mask", "mask refused.*160 x 140 px, its image 128 x 112 px"),
    ),
    "benign (903)": Pair({}, None),
    "benign (904)": Pair(ONE_MASK, None, ("_mask", "mask without its image"), has_image=False),
    "benign (905)": Pair(
        {**ONE_MASK, "_mask_1": lambda: grey(ellipse(centre=0.7)), "_mask_2": ONE_MASK["_mask"]}, white
    ),
    "benign (906)": Pair({"_mask": in_alpha}, lambda masks: masks[0][..., 0] > 0),
    "benign (907)": Pair({"_mask": soft}, lambda masks: masks[0] >= 128),
    "benign (908)": Pair({"_mask": lambda: grey(ellipse(), 1)}, white),
    "benign (909)": Pair(
        {"_mask": lambda: grey(ellipse(part=0))}, white, ("", "its mask is empty, but its class is benign")
    ),
    "malignant (901)": Pair({"_mask": lambda: grey(~ellipse())}, white, ("", "its mask covers .*; inverted?")),
    "malignant (902)": Pair(
        {"_mask": lambda: grey(~ellipse(part=0))}, white, ("", "its mask covers 100% of the image; inverted?")
    ),
    "normal (901)": Pair({"_mask": lambda: encoded(Image.new("RGB", (128, 112)))}, lambda masks: masks[0][..., 0] > 0),
    "normal (902)": Pair(ONE_MASK, white, ("", "its mask outlines a lesion, but its class is normal")),
    "normal (903)": Pair({}, None),
}


def pair_file(pair: str, end: str) -> str:
    return f"{BUSI_PAIRS}/{pair.split()[0]}/{pair}{end}.png"


def field(seed: int, height: int, width: int, shift: int = 0, gain: float = 1.0) -> Image.Image:
    """A cut of a made field of view, `shift` px further to the right: blots, and grain that they share."""
    blots = Image.fromarray(noise(seed, 9, 9)).resize((width + 64, height), Image.Resampling.BICUBIC)
    grain = Image.fromarray(noise(seed, 90, 90)).resize((width + 64, height), Image.Resampling.BICUBIC)
    both = np.asarray(Image.blend(blots, grain, 0.3))[:, shift : shift + width]
    return Image.fromarray((gain * both).astype(np.uint8))


def smear(seed: int, shift: int = 0) -> bytes:
    return encoded(field(seed, 363, 360, shift), "JPEG", quality=92)


def scan(seed: int, gain: float = 1.0) -> bytes:
    return encoded(field(seed, 256, 256, gain=gain).convert("L").convert("RGB"))


# what two files are to each other -> set, and the files with what makes them
LEAKS: dict[str, tuple[str, dict[str, Maker]]] = {
    "one cell under two labels": (
        "pbc",
        {
            "PBC_dataset_normal_DIB/eosinophil/EO_225902.jpg": lambda: smear(1),
            "PBC_dataset_normal_DIB/neutrophil/BNE_191112.jpg": lambda: smear(1),
        },
    ),
    "one cell, shifted by 5 px": (
        "pbc",
        {
            "PBC_dataset_normal_DIB/eosinophil/EO_246684.jpg": lambda: smear(7),
            "PBC_dataset_normal_DIB/eosinophil/EO_409717.jpg": lambda: smear(7, 5),
        },
    ),
    "one field, shifted by 48 px": (
        "pbc",
        {
            "PBC_dataset_normal_DIB/erythroblast/ERB_573640.jpg": lambda: smear(3),
            "PBC_dataset_normal_DIB/neutrophil/BNE_175205.jpg": lambda: smear(3, 48),
        },
    ),
    "one scan under two labels": (
        "busi",
        {
            "Dataset_BUSI_with_GT/benign/benign (433).png": lambda: scan(4),
            "Dataset_BUSI_with_GT/malignant/malignant (145).png": lambda: scan(4),
        },
    ),
    "one lesion twice": (
        "busi",
        {
            "Dataset_BUSI_with_GT/benign/benign (200).png": lambda: scan(5),
            "Dataset_BUSI_with_GT/benign/benign (274).png": lambda: scan(5, 0.95),
        },
    ),
}

FILES: dict[str, Maker] = {
    **{name: make for name, (make, _) in SINGLE.items()},
    "names.zip": lambda: packed(*((name, encoded(cell())) for name in HARD_NAMES)),
    **{f"zip/{name}": make for name, (make, _) in ZIPS.items()},
    **{pair_file(pair, ""): lambda: encoded(cell(112, 128)) for pair, case in PAIRS.items() if case.has_image},
    **{pair_file(pair, end): make for pair, case in PAIRS.items() for end, make in case.masks.items()},
    **{f"{LEAKAGE}/{name}": make for _, files in LEAKS.values() for name, make in files.items()},
}


def make_awkward(folder: Path) -> Path:
    for name, make in FILES.items():
        write(folder / name, make())
    return folder
