"""Write a phantom set to disk in the layout and with the file names of the real archive, masks and plants included.

An image depends on its seed, set, class and index alone: not on how many are made, nor in which order or process.
"""

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from math import floor
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from pipeline.data.index import SHORTCUT_FOLDER
from pipeline.data.phantom import cells, ultrasound
from pipeline.data.phantom.shapes import TAG, Picture
from pipeline.data.workers import mapper
from pipeline.files import whole_file
from pipeline.params import CellPhantomParams, UltrasoundPhantomParams
from pipeline.seeds import cell_seed

SetParams = CellPhantomParams | UltrasoundPhantomParams

LARGEST_CROP = 0.012  # of a side, that a near-copy loses at most
LARGEST_GAIN = 0.08  # by which it is brighter or darker at most


@dataclass(frozen=True)
class PhantomSet:
    """What the two sets differ in."""

    key: int  # keeps the sets' random numbers apart
    folder: str  # top folder of the real archive
    classes: tuple[str, ...]
    draw: Callable[..., Picture]  # class, generator, width_px, parameters -> picture
    masks: tuple[int, ...]  # bits of the label map behind each mask file; from the second on only if not empty
    mistaken_for: dict[str, str]  # the wrong label that a planted label conflict gives
    name: Callable[[int, str, str, int], str]  # seed, class, variant, index -> file name


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the images of one set."""

    dataset: str
    params: SetParams
    seed: int


@dataclass(frozen=True)
class Row:
    """A row of phantom.csv."""

    file: str
    class_name: str
    kind: str  # original | near_copy | label_conflict
    of: str  # the file it copies, or empty
    group: str  # shared by an image and all its copies


def _cell_name(seed: int, class_name: str, variant: str, index: int) -> str:
    """Numbers look random and never repeat, because the multiplier shares no factor with 900,000."""
    key = index * len(cells.CLASSES) + cells.CLASSES.index(class_name)
    number = 100_000 + (611_953 * key + cell_seed(seed, "file numbers")) % 900_000
    return f"{variant or cells.PREFIXES[class_name]}_{number}.jpg"


def _ultrasound_name(seed: int, class_name: str, variant: str, index: int) -> str:
    return f"{class_name} ({index + 1}).png"


SETS = {
    "pbc": PhantomSet(
        key=0,
        folder="PBC_dataset_normal_DIB",
        classes=cells.CLASSES,
        draw=cells.draw_cell,
        masks=(cells.EVIDENCE,),
        mistaken_for={name: traits.look_alike for name, traits in cells.TRAITS.items() if name != traits.look_alike},
        name=_cell_name,
    ),
    "busi": PhantomSet(
        key=1,
        folder="Dataset_BUSI_with_GT",
        classes=ultrasound.CLASSES,
        draw=ultrasound.draw_ultrasound,
        masks=(ultrasound.LESION, ultrasound.SECOND_LESION),
        mistaken_for={"benign": "malignant", "malignant": "benign"},
        name=_ultrasound_name,
    ),
}


def write_phantom(
    dataset: str, params: SetParams, seed: int, folder: Path, processes: int, progress: Callable[[int, int], None]
) -> None:
    """Fill `folder` with `images_per_class` images of each class, their masks, the planted conflicts and phantom.csv.

    The bytes are the same for any number of processes. Masks of planted tags go to shortcut/<class>/<stem>.png.
    """
    recipe = Recipe(dataset, params, seed)
    places = [(name, index) for name in SETS[dataset].classes for index in range(params.images_per_class)]
    for name in SETS[dataset].classes:
        (folder / SETS[dataset].folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    with mapper(processes) as spread:
        for row in spread(partial(_write_image, recipe, folder), places):
            rows.append(row)
            progress(len(rows), len(places))
    rows += [_plant_conflict(recipe, folder, number, rows) for number in range(params.label_conflicts)]
    _write_table(rows, folder / "phantom.csv")


def original_of(recipe: Recipe, class_name: str, index: int) -> int:
    """Index of the image that image `index` of the class is a near-copy of; its own index if it is an original.

    Near-copies stand at even distances, so every prefix of the class holds the fraction asked for.
    """
    fraction = recipe.params.near_copy_fraction
    if not _is_near_copy(index, fraction):
        return index
    originals = [earlier for earlier in range(index) if not _is_near_copy(earlier, fraction)]
    return int(_generator(recipe, class_name, index).choice(originals))


def render(recipe: Recipe, class_name: str, index: int) -> Picture:
    """Image `index` of the class, drawn anew or as a near-copy of an earlier one."""
    origin = original_of(recipe, class_name, index)
    generator = _generator(recipe, class_name, origin)
    picture = SETS[recipe.dataset].draw(class_name, generator, recipe.params.width_px, recipe.params)
    return picture if origin == index else near_copy(picture, _generator(recipe, class_name, index))


def near_copy(picture: Picture, rng: np.random.Generator) -> Picture:
    """The picture with another gain and slightly cropped, at its own size."""
    height, width = picture.labels.shape
    left, top, right, bottom = rng.uniform(0, LARGEST_CROP, 4)
    gain = rng.uniform(1 - LARGEST_GAIN, 1 + LARGEST_GAIN)
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    image = Image.fromarray(picture.image).resize((width, height), Image.Resampling.BICUBIC, box)
    labels = Image.fromarray(picture.labels).resize((width, height), Image.Resampling.NEAREST, box)
    brighter = np.clip(np.rint(gain * np.asarray(image, dtype=float)), 0, 255).astype(np.uint8)
    return Picture(brighter, np.asarray(labels), picture.variant)


def _is_near_copy(index: int, fraction: float) -> bool:
    return index > 0 and floor((index + 1) * fraction) > floor(index * fraction)


def _generator(recipe: Recipe, class_name: str, index: int) -> np.random.Generator:
    phantom = SETS[recipe.dataset]
    entropy = [recipe.seed, phantom.key, phantom.classes.index(class_name), index]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def _write_image(recipe: Recipe, folder: Path, place: tuple[str, int]) -> Row:
    class_name, index = place
    phantom = SETS[recipe.dataset]
    origin = original_of(recipe, class_name, index)
    picture = render(recipe, class_name, index)
    path = Path(phantom.folder, class_name, phantom.name(recipe.seed, class_name, picture.variant, index))
    # JPEG at the quality asked for, colours not thinned out; PNG has no use for either option
    Image.fromarray(picture.image).save(folder / path, quality=95, subsampling=0)
    for number, bits in enumerate(phantom.masks):
        mask = (picture.labels & bits) > 0
        if number == 0 or mask.any():
            _write_mask(mask, folder / path.with_name(f"{path.stem}_mask{f'_{number}' if number else ''}.png"))
    if (tag := (picture.labels & TAG) > 0).any():
        _write_mask(tag, folder / SHORTCUT_FOLDER / class_name / f"{path.stem}.png")
    source = path.with_name(phantom.name(recipe.seed, class_name, picture.variant, origin)).as_posix()
    kind, of = ("original", "") if origin == index else ("near_copy", source)
    return Row(path.as_posix(), class_name, kind, of, f"{class_name}-{origin}")


def _write_mask(mask: Bool[np.ndarray, "h w"], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def _plant_conflict(recipe: Recipe, folder: Path, number: int, rows: Sequence[Row]) -> Row:
    """Copy an image and its masks, byte for byte, under a wrong label."""
    phantom = SETS[recipe.dataset]
    rng = np.random.default_rng(np.random.SeedSequence([recipe.seed, phantom.key, len(phantom.classes), number]))
    candidates = [row for row in rows if row.kind == "original" and row.class_name in phantom.mistaken_for]
    row = candidates[rng.integers(len(candidates))]
    wrong = phantom.mistaken_for[row.class_name]
    name = phantom.name(recipe.seed, wrong, "", recipe.params.images_per_class + number)
    copy = Path(phantom.folder, wrong, name)
    _copy_stem(folder, Path(row.file), copy)
    tag = Path(SHORTCUT_FOLDER, row.class_name, Path(row.file).name)
    _copy_stem(folder, tag, Path(SHORTCUT_FOLDER, wrong, name))
    return Row(copy.as_posix(), wrong, "label_conflict", row.file, row.group)


def _copy_stem(folder: Path, source: Path, copy: Path) -> None:
    """Copy an image and its masks, as far as they are there."""
    for path in sorted((folder / source.parent).glob("*")):
        if path.stem == source.stem or path.stem.startswith(f"{source.stem}_mask"):
            (folder / copy.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / copy.with_name(path.name.replace(source.stem, copy.stem)))


def _write_table(rows: Sequence[Row], path: Path) -> None:
    columns = ["class" if field.name == "class_name" else field.name for field in fields(Row)]
    with whole_file(path) as partial_path, partial_path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(asdict(row).values() for row in rows)
