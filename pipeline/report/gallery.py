"""The page's small pictures, as data URIs; and its galleries: the same images with every model's heatmaps."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from pipeline.data.prepared import Prepared
from pipeline.report.cells import Cell, title_of
from pipeline.report.overlays import CellPictures, Picture, draw_heatmap, draw_outline, enlarge, in_turn

TILE_PX = 128
WEBP_QUALITY = 78
MIME = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Tile:
    uri: str
    alt: str


@dataclass(frozen=True)
class Answer:
    """What a model said of an image, and why: one tile for each method."""

    model: str
    predicted: str
    probability: float
    right: bool
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Shown:
    """One image of a gallery; an answer is None where that model's sample did not hold the image."""

    file: str
    label: str
    image: Tile
    answers: tuple[Answer | None, ...]


def gallery(cells: Sequence[Cell], prepared: Prepared, count: int) -> list[Shown]:
    """Up to `count` images, the classes in turn; each with every model's heatmaps for the class it predicted."""
    pictures = [pictures_of(cell, prepared) for cell in cells]
    return [_shown(row, cells, pictures) for row in shared_rows(pictures)[:count]]


def shared_rows(pictures: Sequence[CellPictures]) -> list[int]:
    """The images that most models explained come first, and among equals the classes take turns."""
    explained, label = [set(each.heatmaps.rows["predicted"].tolist()) for each in pictures], pictures[0].label
    cover = {row: sum(row in rows for rows in explained) for row in sorted(set().union(*explained))}
    groups = [[row for row, found in cover.items() if found == level] for level in range(len(explained), 0, -1)]
    return [row for group in groups for row in in_turn(group, [label(row) for row in group])]


def pictures_of(cell: Cell, prepared: Prepared) -> CellPictures:
    return CellPictures(prepared, cell.receipt.classes, cell.explanation.methods, cell.heatmaps)


def image_tile(pictures: CellPictures, row: int) -> Tile:
    label, line = pictures.classes[pictures.label(row)], pictures.outline(row, TILE_PX)
    image = draw_outline(enlarge(pictures.image(row), TILE_PX), line)
    return Tile(webp_uri(image), f"image of class {label}{', evidence outlined' if line is not None else ''}")


def heat_tile(pictures: CellPictures, row: int, method: str, rule: str, alt: str) -> Tile:
    """The heatmap of an image that was explained under that rule."""
    attribution = pictures.attribution(row, method, rule)
    assert attribution is not None
    heat = draw_heatmap(pictures.image(row), attribution, TILE_PX)
    return Tile(webp_uri(draw_outline(heat, pictures.outline(row, TILE_PX))), alt)


def file_uri(path: Path) -> str:
    """An SVG or PNG whole, as an address."""
    return _uri(path.read_bytes(), MIME[path.suffix])


def webp_uri(picture: Picture) -> str:
    held = BytesIO()
    Image.fromarray(picture).save(held, "WEBP", quality=WEBP_QUALITY)
    return _uri(held.getvalue(), "image/webp")


def _uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{b64encode(content).decode('ascii')}"


def _shown(row: int, cells: Sequence[Cell], pictures: Sequence[CellPictures]) -> Shown:
    first = pictures[0]
    answers = [_answer(row, cell, each) for cell, each in zip(cells, pictures, strict=True)]
    file = str(first.prepared.index["file"].iloc[row])
    return Shown(file, first.classes[first.label(row)], image_tile(first, row), tuple(answers))


def _answer(row: int, cell: Cell, pictures: CellPictures) -> Answer | None:
    if cell.heatmaps.position("predicted", row) is None:
        return None
    predicted = cell.heatmaps.predicted_class(row)
    name = pictures.classes[predicted]
    tiles = [
        heat_tile(pictures, row, method, "predicted", f"{cell.model}, {title_of(method)} for class {name}")
        for method in pictures.methods
    ]
    probability = cell.heatmaps.probability(row, predicted)
    return Answer(cell.model, name, probability, pictures.label(row) == predicted, tuple(tiles))
