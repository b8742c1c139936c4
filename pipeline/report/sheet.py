"""One picture of a dataset's heatmaps: the same images down, every model's methods across; for pages that take one."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from pipeline.data.prepared import Prepared
from pipeline.files import whole_file
from pipeline.report.cells import Cell, title_of
from pipeline.report.gallery import pictures_of, shared_rows
from pipeline.report.overlays import (
    INK,
    PAPER,
    WRONG,
    CellPictures,
    Picture,
    draw_heatmap,
    draw_outline,
    enlarge,
    font,
    small_jpeg,
)

TILE_PX, GAP_PX, GROUP_GAP_PX, LINE_PX = 104, 3, 10, 15
IMAGES, METHODS = 5, 2  # at most, so that the picture stays small enough to look at


def write_sheet(cells: Sequence[Cell], prepared: Prepared, report_dir: Path) -> Path:
    """figures/<dataset>_gallery.jpg in `report_dir`."""
    path = report_dir / "figures" / f"{cells[0].dataset}_gallery.jpg"
    with whole_file(path) as partial:
        partial.write_bytes(small_jpeg(gallery_sheet(cells, prepared)))
    return path


def gallery_sheet(cells: Sequence[Cell], prepared: Prepared) -> Image.Image:
    """Each image with every model's heatmaps for the class it predicted; that class below, in red where it is wrong."""
    pictures = [pictures_of(cell, prepared) for cell in cells]
    rows = shared_rows(pictures)[:IMAGES]
    methods = cells[0].explanation.methods[:METHODS]
    group_px = len(methods) * (TILE_PX + GAP_PX) + GROUP_GAP_PX
    size = (TILE_PX + GROUP_GAP_PX + len(cells) * group_px, 2 * LINE_PX + 4 + len(rows) * (TILE_PX + LINE_PX + GAP_PX))
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    lefts = [TILE_PX + GROUP_GAP_PX + place * group_px for place in range(len(cells))]
    for left, cell in zip(lefts, cells, strict=True):
        draw.text((left, 0), cell.model, INK, font(13))
        draw.text((left, LINE_PX + 2), " | ".join(title_of(method) for method in methods)[:38], INK, font(9))
    for place, row in enumerate(rows):
        top = 2 * LINE_PX + 4 + place * (TILE_PX + LINE_PX + GAP_PX)
        image = enlarge(pictures[0].image(row), TILE_PX)
        _paste(page, (0, top), draw_outline(image, pictures[0].outline(row, TILE_PX)))
        draw.text((0, top + TILE_PX), pictures[0].classes[pictures[0].label(row)], INK, font(11))
        for left, each in zip(lefts, pictures, strict=True):
            _draw_answer(page, draw, (left, top), each, row, methods)
    return page


def _draw_answer(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    pictures: CellPictures,
    row: int,
    methods: Sequence[str],
) -> None:
    left, top = corner
    maps = [pictures.attribution(row, method, "predicted") for method in methods]
    for place, attribution in enumerate(maps):
        if attribution is None:
            draw.text((left, top), "not explained", INK, font(11))
            return
        heat = draw_heatmap(pictures.image(row), attribution, TILE_PX)
        _paste(page, (left + place * (TILE_PX + GAP_PX), top), draw_outline(heat, pictures.outline(row, TILE_PX)))
    predicted = pictures.heatmaps.predicted_class(row)
    text = f"{pictures.classes[predicted]} {pictures.heatmaps.probability(row, predicted):.2f}"
    draw.text((left, top + TILE_PX), text, INK if predicted == pictures.label(row) else WRONG, font(11))


def _paste(page: Image.Image, corner: tuple[int, int], picture: Picture) -> None:
    page.paste(Image.fromarray(picture), corner)
