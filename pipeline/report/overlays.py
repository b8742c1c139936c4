"""Heatmaps as pictures: an attribution in colour over its image, the outline of the evidence where it is known.

Composed with numpy and Pillow, as a matplotlib figure costs some 200 ms; matplotlib lends its colour table and font.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pipeline.data.prepared import Prepared, load_prepared
from pipeline.errors import StudyError
from pipeline.files import whole_folder
from pipeline.records import LINEAGE, Explanation, HeatmapLineage, Receipt
from pipeline.report.cells import Heatmaps, load_heatmaps, refuse_other_images, title_of

CONTACT_SHEET = "contact_sheet.jpg"
CONTACT_SHEET_BYTES = 150_000
CONTACT_SHEET_IMAGES = 8

PICTURE_PX = 288  # side of one picture in a PNG
TILE_PX = 120  # side of one picture in the contact sheet
BAR_PX = 14
PAD_PX = 8
LINE_PX = 18
INK, PAPER, WRONG = (32, 32, 32), (255, 255, 255), (180, 60, 0)

RUN_LENGTH = 3  # zlib's Z_RLE: for these pictures smaller than its default, in the same time
STRONGEST_ALPHA = 0.85
GREY_DIMMED = np.float32(0.7)
T = TypeVar("T")
Picture = UInt8[np.ndarray, "h w 3"]
Square = UInt8[np.ndarray, "side side 3"]


@dataclass(frozen=True)
class CellPictures:
    """What is needed to draw any heatmap of a cell."""

    prepared: Prepared
    classes: tuple[str, ...]
    methods: tuple[str, ...]
    heatmaps: Heatmaps

    def label(self, row: int) -> int:
        return int(self.prepared.index["label"].iloc[row])

    def image(self, row: int) -> Picture:
        return self.prepared.pixels(np.array([row]))[0]

    def outline(self, row: int, side_px: int) -> Bool[np.ndarray, "side side"] | None:
        """Of the evidence; None where the image has no mask or an empty one."""
        masks = self.prepared.masks
        return None if masks is None or not masks[row].any() else outline(np.asarray(masks[row]) > 0, side_px)

    def attribution(self, row: int, method: str, rule: str) -> Float[np.ndarray, "h w"] | None:
        """None where the image was not explained under that rule."""
        position = self.heatmaps.position(rule, row)
        return None if position is None else self.heatmaps.attributions[f"{method}/{rule}"][position]


def draw_cell_overlays(prepared_dir: Path, model_dir: Path, heatmap_dir: Path, overlays: int) -> list[Path]:
    """The PNGs drawn into `heatmap_dir`/overlays: up to `overlays` images, one PNG for each method and target rule.

    Misclassified images come first, then the classes in turn. A contact sheet of some of them stands beside.

    Raises:
        StudyError: the heatmaps are of another checkpoint or of other images than those given.
    """
    pictures = _read_pictures(prepared_dir, model_dir, heatmap_dir)
    rows = overlay_rows(pictures)
    folder = heatmap_dir / "overlays"
    with whole_folder(folder) as partial:
        names = [_save_overlay(pictures, key, partial) for row in rows[:overlays] for key in _keys(pictures, row)]
        sheet = contact_sheet(pictures, rows[:CONTACT_SHEET_IMAGES])
        (partial / CONTACT_SHEET).write_bytes(small_jpeg(sheet, comment=pictures.heatmaps.lineage.text()))
    return [folder / name for name in names]


def overlay_rows(pictures: CellPictures) -> list[int]:
    """The explained images in the order they are drawn: misclassified first, within each group the classes in turn."""
    wrong = set(pictures.heatmaps.rows["true"].tolist())
    rows = sorted(pictures.heatmaps.rows["predicted"].tolist())
    groups = [row for row in rows if row in wrong], [row for row in rows if row not in wrong]
    return [row for group in groups for row in in_turn(group, [pictures.label(row) for row in group])]


def in_turn(rows: list[int], labels: list[int]) -> list[int]:
    """The rows reordered so that the classes take turns; within a class the order stays."""
    by_class = [[row for row, own in zip(rows, labels, strict=True) if own == label] for label in sorted(set(labels))]
    return take_turns(by_class)


def take_turns(groups: Iterable[Sequence[T]]) -> list[T]:
    """The first of each group, then the second of each, and so on."""
    return [each for turn in zip_longest(*groups) for each in turn if each is not None]


def strength(attribution: Float[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The map over its own maximum, in [0, 1]; negative and undefined parts, and a map without positive ones, are 0."""
    positive = np.nan_to_num(attribution.astype(np.float32), posinf=0.0).clip(min=0)
    largest = positive.max()
    return positive / largest if largest > 0 else np.zeros_like(positive)


def contrast(attribution: Float[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """What a picture shows of the map, in [0, 1]: its strength above the floor that all patches share.

    A Swin's rollout spreads most of its weight evenly and differs between patches by little; the floor would paint it
    in one colour. A map that is nothing but floor is shown at full strength.
    """
    level = strength(attribution)
    floor = level.min()
    return (level - floor) / (1 - floor) if floor < 1 else level


def upsample(grid: Float32[np.ndarray, "h w"], side_px: int) -> Float32[np.ndarray, "side side"]:
    """Bilinear, pixel centres aligned (torch's align_corners=False), as the scores see the map."""
    return np.asarray(Image.fromarray(grid).resize((side_px, side_px), Image.Resampling.BILINEAR))


def enlarge(image: Picture, side_px: int) -> Square:
    return np.asarray(Image.fromarray(image).resize((side_px, side_px), Image.Resampling.LANCZOS))


def outline(mask: Bool[np.ndarray, "h w"], side_px: int) -> Bool[np.ndarray, "side side"]:
    """The border of the mask, finer in small pictures; the picture's own edge counts as outside."""
    soft = Image.fromarray(mask.astype(np.uint8) * 255).resize((side_px, side_px), Image.Resampling.BILINEAR)
    inside = np.asarray(soft) > 127
    return inside & grown(~inside, max(1, side_px // 140), beyond=True)


def grown(region: Bool[np.ndarray, "h w"], by_px: int, beyond: bool) -> Bool[np.ndarray, "h w"]:
    """The region and all within `by_px` of it, in squares; `beyond` tells whether it goes on outside the picture."""
    wide = np.pad(region, by_px, constant_values=beyond)
    rows, columns = region.shape
    across = np.logical_or.reduce([wide[:, shift : shift + columns] for shift in range(2 * by_px + 1)])
    return np.logical_or.reduce([across[shift : shift + rows] for shift in range(2 * by_px + 1)])


def draw_outline(picture: Picture, line: Bool[np.ndarray, "h w"] | None) -> Picture:
    """The picture with the outline in white on a dark seam, so that it shows on any ground."""
    if line is None:
        return picture
    seam = grown(line, 1, beyond=False)
    drawn = picture.copy()
    drawn[seam] //= 3
    drawn[line] = 255
    return drawn


def draw_heatmap(image: Picture, attribution: Float[np.ndarray, "rows columns"], side_px: int) -> Square:
    """The attribution in colour over the image in dimmed grey; the stronger, the less of the image shows through.

    Grey, because the bright end of a perceptually uniform colour map would drown in a stained smear's beige.
    """
    grey = enlarge(np.asarray(Image.fromarray(image).convert("L").convert("RGB")), side_px)
    level = (upsample(contrast(attribution), side_px) * 255).round().astype(np.uint8)
    opaque, seen_through = blend_tables()
    return opaque[level] + (grey * seen_through[level][..., None]).astype(np.uint8)


@lru_cache
def blend_tables() -> tuple[UInt8[np.ndarray, "256 3"], Float32[np.ndarray, " 256"]]:
    """By strength of the attribution: the colour to add, and how much of the dimmed grey image is left."""
    alpha = STRONGEST_ALPHA * np.linspace(0, 1, 256, dtype=np.float32)
    return (colour_table() * alpha[:, None]).astype(np.uint8), GREY_DIMMED * (1 - alpha)


@lru_cache
def colour_table() -> Float32[np.ndarray, "256 3"]:
    """Viridis: perceptually uniform, safe for colour-blind readers, and as good in grey."""
    return (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.float32)


def overlay_picture(pictures: CellPictures, row: int, method: str, rule: str) -> Image.Image:
    """Image and heatmap side by side under a title, with the colour bar."""
    attribution = pictures.attribution(row, method, rule)
    if attribution is None:
        raise StudyError(f"row {row}: not explained for its {rule} class")
    image, line = pictures.image(row), pictures.outline(row, PICTURE_PX)
    top = 3 * LINE_PX + PAD_PX
    page = Image.new("RGB", (2 * PICTURE_PX + 4 * PAD_PX + BAR_PX + 34, PICTURE_PX + top + PAD_PX), PAPER)
    page.paste(Image.fromarray(draw_outline(enlarge(image, PICTURE_PX), line)), (PAD_PX, top))
    heat = draw_outline(draw_heatmap(image, attribution, PICTURE_PX), line)
    page.paste(Image.fromarray(heat), (PICTURE_PX + 2 * PAD_PX, top))
    draw = ImageDraw.Draw(page)
    for number, (text, ink) in enumerate(_title(pictures, row, method, rule)):
        draw.text((PAD_PX, 4 + number * LINE_PX), text, ink, font(13))
    _paste_bar(page, draw, (2 * PICTURE_PX + 3 * PAD_PX, top), blank=not strength(attribution).any())
    return page


def contact_sheet(pictures: CellPictures, rows: list[int]) -> Image.Image:
    """One column for each image: the image, then its heatmap for the predicted class by each method."""
    left, top = 84, 2 * LINE_PX
    step = TILE_PX + 4
    page = Image.new("RGB", (left + step * len(rows), top + step * (1 + len(pictures.methods))), PAPER)
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(["image", *map(title_of, pictures.methods)]):
        draw.multiline_text((4, top + step * number + 40), name.replace(" ", "\n"), INK, font(12))
    for number, row in enumerate(rows):
        x = left + step * number
        for line, (text, ink) in enumerate(_short_title(pictures, row)):
            draw.text((x, 3 + line * 15), text, ink, font(9))
        for below, tile in enumerate(_tiles(pictures, row)):
            page.paste(Image.fromarray(tile), (x, top + step * below))
    return page


@lru_cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as packed with matplotlib, so that pictures do not depend on the machine's fonts."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size_px)


def _read_pictures(prepared_dir: Path, model_dir: Path, heatmap_dir: Path) -> CellPictures:
    receipt, explanation = Receipt.read(model_dir), Explanation.read(heatmap_dir)
    if receipt.checkpoint_sha256 != explanation.checkpoint_sha256:
        cell = f"{receipt.dataset}-{receipt.model}"
        raise StudyError(f"{heatmap_dir}: explains another checkpoint than the model's; run `dvc repro explain@{cell}`")
    prepared = load_prepared(prepared_dir)
    refuse_other_images(prepared, explanation)
    return CellPictures(prepared, receipt.classes, explanation.methods, load_heatmaps(heatmap_dir))


def _keys(pictures: CellPictures, row: int) -> Iterator[tuple[int, str, str]]:
    rules = [rule for rule in ("predicted", "true") if pictures.heatmaps.position(rule, row) is not None]
    return ((row, method, rule) for method in pictures.methods for rule in rules)


def _save_overlay(pictures: CellPictures, key: tuple[int, str, str], folder: Path) -> str:
    row, method, rule = key
    name = f"{row}_{method}_{rule}.png"
    picture, origin = (
        overlay_picture(pictures, row, method, rule),
        png_text(overlay_lineage(pictures, row, method, rule)),
    )
    picture.save(folder / name, compress_level=1, compress_type=RUN_LENGTH, pnginfo=origin)
    return name


def overlay_lineage(pictures: CellPictures, row: int, method: str, rule: str) -> HeatmapLineage:
    explained = pictures.heatmaps.predicted_class(row) if rule == "predicted" else pictures.label(row)
    file = str(pictures.prepared.index["file"].iloc[row])
    told = {"file": file, "method": method, "target": pictures.classes[explained]}
    return pictures.heatmaps.lineage.model_copy(update=told)


def png_text(lineage: HeatmapLineage) -> PngInfo:
    info = PngInfo()
    info.add_itxt(LINEAGE, lineage.text())
    return info


def _title(pictures: CellPictures, row: int, method: str, rule: str) -> list[tuple[str, tuple[int, int, int]]]:
    label, predicted = pictures.label(row), pictures.heatmaps.predicted_class(row)
    names = pictures.classes
    probability = pictures.heatmaps.probability(row, predicted)
    verdict = "right" if label == predicted else "wrong"
    explained = predicted if rule == "predicted" else label
    return [
        (f"true class: {names[label]}", INK),
        (f"predicted: {names[predicted]}, probability {probability:.2f} ({verdict})", _ink(label == predicted)),
        (f"{title_of(method)} for the {rule} class: {names[explained]}", INK),
    ]


def _short_title(pictures: CellPictures, row: int) -> list[tuple[str, tuple[int, int, int]]]:
    label, predicted = pictures.label(row), pictures.heatmaps.predicted_class(row)
    probability = pictures.heatmaps.probability(row, predicted)
    lines = [f"is {pictures.classes[label]}"[:22], f"said {pictures.classes[predicted]}"[:17] + f" {probability:.2f}"]
    return [(lines[0], INK), (lines[1], _ink(label == predicted))]


def _ink(right: bool) -> tuple[int, int, int]:
    return INK if right else WRONG


def _tiles(pictures: CellPictures, row: int) -> Iterator[Picture]:
    image, line = pictures.image(row), pictures.outline(row, TILE_PX)
    maps = (pictures.attribution(row, method, "predicted") for method in pictures.methods)
    heats = (draw_heatmap(image, attribution, TILE_PX) for attribution in maps if attribution is not None)
    return (draw_outline(tile, line) for tile in chain([enlarge(image, TILE_PX)], heats))


def _paste_bar(page: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], blank: bool) -> None:
    """The colour bar, from the map's own minimum (below) to its maximum (above)."""
    x, y = corner
    ramp = colour_table()[np.linspace(255, 0, PICTURE_PX).round().astype(int)].astype(np.uint8)
    page.paste(Image.fromarray(np.repeat(ramp[:, None], BAR_PX, axis=1)), corner)
    draw.text((x + BAR_PX + 4, y), "blank" if blank else "max", INK, font(11))
    draw.text((x + BAR_PX + 4, y + PICTURE_PX - 14), "" if blank else "min", INK, font(11))


def small_jpeg(picture: Image.Image, comment: str = "") -> bytes:
    """JPEG at the best of a few qualities that stays within the limit; the last one whatever its size."""
    for quality in (88, 75, 55, 35):
        held = BytesIO()
        picture.save(held, "JPEG", quality=quality, optimize=True, comment=comment)
        if held.tell() <= CONTACT_SHEET_BYTES:
            break
    return held.getvalue()
