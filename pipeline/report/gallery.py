"""The page's small pictures: heatmaps of the same images by every model, and of each model's errors."""

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


@dataclass(frozen=True)
class Tile:
    uri: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Answer:
    """What a model said of an image, and why: one tile for each method and class explained."""

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
    rows = shared_rows([set(each.heatmaps.rows["predicted"].tolist()) for each in pictures], pictures[0])[:count]
    return [_shown(row, cells, pictures, ("predicted",)) for row in rows]


def errors(cell: Cell, prepared: Prepared, count: int) -> list[Shown]:
    """Up to `count` explained images that the model got wrong, with heatmaps for either class."""
    pictures = pictures_of(cell, prepared)
    rows = sorted(cell.heatmaps.rows["true"].tolist())
    chosen = in_turn(rows, [pictures.label(row) for row in rows])[:count]
    return [_shown(row, [cell], [pictures], ("predicted", "true")) for row in chosen]


def shared_rows(explained: Sequence[set[int]], pictures: CellPictures) -> list[int]:
    """The images that most models explained come first, and among equals the classes take turns."""
    cover = {row: sum(row in rows for rows in explained) for row in sorted(set().union(*explained))}
    groups = [[row for row, found in cover.items() if found == level] for level in range(len(explained), 0, -1)]
    return [row for group in groups for row in in_turn(group, [pictures.label(row) for row in group])]


def pictures_of(cell: Cell, prepared: Prepared) -> CellPictures:
    return CellPictures(prepared, cell.receipt.classes, cell.explanation.methods, cell.heatmaps)


def png_uri(path: Path) -> str:
    return _uri(path.read_bytes(), "png")


def webp_uri(picture: Picture) -> str:
    held = BytesIO()
    Image.fromarray(picture).save(held, "WEBP", quality=WEBP_QUALITY)
    return _uri(held.getvalue(), "webp")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"


def _shown(row: int, cells: Sequence[Cell], pictures: Sequence[CellPictures], rules: tuple[str, ...]) -> Shown:
    first = pictures[0]
    label, line = first.classes[first.label(row)], first.outline(row, TILE_PX)
    image = draw_outline(enlarge(first.image(row), TILE_PX), line)
    answers = [_answer(row, cell, each, rules) for cell, each in zip(cells, pictures, strict=True)]
    file = str(first.prepared.index["file"].iloc[row])
    return Shown(
        file,
        label,
        Tile(webp_uri(image), f"image of class {label}{', evidence outlined' if line is not None else ''}"),
        tuple(answers),
    )


def _answer(row: int, cell: Cell, pictures: CellPictures, rules: tuple[str, ...]) -> Answer | None:
    if cell.heatmaps.position("predicted", row) is None:
        return None
    label, predicted = pictures.label(row), cell.heatmaps.predicted_class(row)
    explained = {"predicted": pictures.classes[predicted], "true": pictures.classes[label]}
    tiles = [
        _tile(row, pictures, method, rule, f"{cell.model}, {title_of(method)} for class {explained[rule]}")
        for method in pictures.methods
        for rule in rules
    ]
    probability = cell.heatmaps.probability(row, predicted)
    return Answer(cell.model, explained["predicted"], probability, label == predicted, tuple(tiles))


def _tile(row: int, pictures: CellPictures, method: str, rule: str, alt: str) -> Tile:
    attribution = pictures.attribution(row, method, rule)
    assert attribution is not None  # the caller asks only for rules that hold the row
    heat = draw_outline(draw_heatmap(pictures.image(row), attribution, TILE_PX), pictures.outline(row, TILE_PX))
    return Tile(webp_uri(heat), alt, f"{title_of(method)}, {rule} class")
