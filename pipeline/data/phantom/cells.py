"""Synthetic blood cells in the manner of the PBC set: one nucleated cell or platelet amid red cells.

Lengths are those of the real images (360 px wide); colours are as seen on the first batch's white. Stain is light
absorbed: every colour is a transmittance of the white behind it, so overlapping red cells darken each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from pipeline.data.phantom.shapes import (
    Blob,
    Canvas,
    Colour,
    Colours,
    Field,
    Labels,
    Picture,
    blend,
    blob_distance,
    canvas_of,
    capsule_distance,
    coverage,
    disc_coverage,
    random_waves,
    smooth_noise,
    stamp_tag,
    to_bytes,
    union,
    window,
)
from pipeline.params import CellPhantomParams

Value = TypeVar("Value", float, Colour)

REFERENCE = (360, 363)  # width and height of the real images

# Bits of the label map, beside shapes.TAG.
RED_CELL, CYTOPLASM, NUCLEUS, GRANULE, STRAY_PLATELET = 1, 2, 4, 8, 16
EVIDENCE = CYTOPLASM | NUCLEUS | GRANULE


def _rgb(red: int, green: int, blue: int) -> Colour:
    return np.array([red, green, blue], dtype=float)


WHITE = _rgb(254, 229, 204)
SECOND_WHITE = _rgb(231, 223, 232)  # the second acquisition batch is bluish
RED_CELL_COLOUR = _rgb(205, 166, 168)
PLATELET_COLOUR = _rgb(150, 104, 164)


@dataclass(frozen=True)
class Granules:
    num: int
    radius: float
    colour: Colour


@dataclass(frozen=True)
class Traits:
    """What a class looks like on average (measured on the real images or seen there), or one cell does."""

    diameter: float
    diameter_sd: float
    ratio: float  # nucleus to cell, equivalent diameters; 0 without nucleus
    nucleus: Colour
    cytoplasm: Colour
    granules: Granules
    chromatin: tuple[float, float]  # how wide its clumps are, and how strong
    ragged: float  # wobble of the outline
    look_alike: str  # the class that `confuse` moves it towards


NO_GRANULES = Granules(0, 1.0, _rgb(0, 0, 0))
NO_COLOUR = _rgb(96, 50, 140)

TRAITS = {
    "basophil": Traits(
        118.0, 14.0, 0.70, _rgb(96, 50, 140), _rgb(196, 158, 180),
        Granules(110, 4.4, _rgb(66, 28, 110)), (9.0, 0.12), 0.03, "ig",
    ),
    "eosinophil": Traits(
        126.0, 13.0, 0.52, _rgb(104, 52, 142), _rgb(206, 152, 160),
        Granules(150, 3.6, _rgb(201, 108, 104)), (8.0, 0.16), 0.02, "neutrophil",
    ),
    "erythroblast": Traits(
        88.0, 17.0, 0.62, _rgb(66, 34, 120), _rgb(172, 145, 172), NO_GRANULES, (11.0, 0.12), 0.03, "lymphocyte",
    ),
    "ig": Traits(
        142.0, 20.0, 0.72, _rgb(106, 56, 148), _rgb(178, 148, 178),
        Granules(60, 1.8, _rgb(118, 62, 150)), (9.0, 0.22), 0.03, "monocyte",
    ),
    "lymphocyte": Traits(
        100.0, 14.0, 0.86, _rgb(84, 42, 134), _rgb(160, 158, 204), NO_GRANULES, (12.0, 0.16), 0.03, "erythroblast",
    ),
    "monocyte": Traits(
        144.0, 20.0, 0.70, _rgb(108, 60, 150), _rgb(172, 150, 180),
        Granules(50, 1.4, _rgb(140, 92, 160)), (6.0, 0.22), 0.055, "ig",
    ),
    "neutrophil": Traits(
        122.0, 13.0, 0.58, _rgb(82, 38, 136), _rgb(214, 178, 184),
        Granules(110, 1.6, _rgb(186, 118, 158)), (8.0, 0.16), 0.02, "eosinophil",
    ),
    "platelet": Traits(
        42.0, 11.0, 0.0, NO_COLOUR, _rgb(176, 140, 176),
        Granules(22, 2.4, _rgb(112, 52, 146)), (5.0, 0.0), 0.08, "platelet",
    ),
}  # fmt: skip
CLASSES = tuple(TRAITS)

# What the archive writes before the number of a file; where a class has several, its nucleus knows better.
PREFIXES = {
    "basophil": "BA",
    "eosinophil": "EO",
    "erythroblast": "ERB",
    "ig": "MY",
    "lymphocyte": "LY",
    "monocyte": "MO",
    "neutrophil": "SNE",
    "platelet": "PLATELET",
}
SECOND_BATCH_PREFIXES = {"ig": "IG", "neutrophil": "NEUTROPHIL"}


class Stain(NamedTuple):
    """How one smear is lit and how strongly it took the stain (1: as in the tables above)."""

    white: Colour
    strength: float

    def shown(self, colour: Colour) -> Colour:
        """How a thing that has `colour` on the first batch's white looks in this smear."""
        return self.white * (np.clip(colour, 8, 254) / WHITE) ** self.strength


class Scene(NamedTuple):
    """An image being drawn; the functions that draw change its pixels and its label map in place."""

    canvas: Canvas
    stain: Stain
    image: Colours
    labels: Labels


class Nucleus(NamedTuple):
    distance: Field
    prefix: str  # of file names; empty where the class has only one


def draw_cell(class_name: str, rng: np.random.Generator, width_px: int, params: CellPhantomParams) -> Picture:
    """One image of the class, `width_px` wide.

    The scene does not depend on `shortcut_fraction`, so the same image can be had with and without its tag.
    """
    batch_draw, tag_draw = rng.random(2)
    second_batch = class_name != "platelet" and bool(batch_draw < params.second_batch_fraction)
    stain = Stain(SECOND_WHITE if second_batch else WHITE, rng.uniform(0.78, 1.12))
    traits = individual(class_name, rng, params.confuse)
    canvas = canvas_of(width_px, REFERENCE)
    body = _body(rng, traits)
    scene = _smear(rng, canvas, stain, body)
    prefix = _draw_body(rng, scene, class_name, traits, body)
    image, labels = _photograph(rng, scene), scene.labels
    if tag_draw < params.shortcut_fraction:
        image, labels = stamp_tag(canvas, image, labels, CLASSES.index(class_name) / len(CLASSES))
    if second_batch:
        prefix = SECOND_BATCH_PREFIXES.get(class_name, prefix)
    return Picture(to_bytes(image), labels, prefix)


def individual(class_name: str, rng: np.random.Generator, confuse: float) -> Traits:
    """One cell's traits: spread around its class, each drifted part of the way to the look-alike class."""
    own = TRAITS[class_name]
    other = TRAITS[own.look_alike]
    size, ratio, colour = confuse * rng.uniform(0.5, 1.9, 3) * (rng.random(3) < 0.5)
    return replace(
        own,
        diameter=max(22.0, _towards(own.diameter, other.diameter, size) + own.diameter_sd * rng.normal()),
        ratio=min(0.93, _towards(own.ratio, other.ratio, ratio) * rng.normal(1, 0.05)),
        nucleus=_towards(own.nucleus, other.nucleus, colour) + _tint(rng),
        cytoplasm=_towards(own.cytoplasm, other.cytoplasm, colour) + _tint(rng),
        granules=Granules(int(rng.poisson(own.granules.num)), own.granules.radius, own.granules.colour + _tint(rng)),
    )


def _tint(rng: np.random.Generator) -> Colour:
    """Colour jitter of 13 per channel, half of its variance shared by the channels."""
    return rng.normal(0, 9.2) + rng.normal(0, 9.2, 3)


def _towards(own: Value, other: Value, share: float) -> Value:
    return own + share * (other - own)


# The smear: background, red cells, stray platelets.


def _smear(rng: np.random.Generator, canvas: Canvas, stain: Stain, body: Blob) -> Scene:
    uneven = 0.008 * smooth_noise(rng, canvas, (150.0, 150.0))
    scene = Scene(canvas, stain, stain.white * (1 + uneven[..., None]), np.zeros(canvas.shape, np.uint8))
    for blob in _red_cells(rng, body):
        _draw_red_cell(rng, scene, blob)
    for _ in range(rng.integers(0, 3)):
        _draw_stray_platelet(rng, scene, body)
    return scene


def _red_cells(rng: np.random.Generator, body: Blob) -> list[Blob]:
    """7 to 16 red cells that leave the labelled cell free; some of them overlap each other."""
    wanted = rng.integers(7, 17)
    spots: list[tuple[float, float]] = []
    for x, y in rng.uniform(-20, 380, (200, 2)).tolist():
        free = np.hypot(x - body.x, y - body.y) > body.radius * np.sqrt(body.stretch) + 37
        if free and all(np.hypot(x - other_x, y - other_y) > 56 for other_x, other_y in spots):
            spots.append((x, y))
        if len(spots) == wanted:
            break
    return [_red_cell(rng, x, y) for x, y in spots]


def _red_cell(rng: np.random.Generator, x: float, y: float) -> Blob:
    radius = max(26.0, rng.normal(38, 3.5))
    return Blob(x, y, radius, rng.uniform(1, 1.18), rng.uniform(0, np.pi), random_waves(rng, (2, 3, 4, 5), 0.02))


def _draw_red_cell(rng: np.random.Generator, scene: Scene, blob: Blob) -> None:
    """A disc with a pale centre, laid on by absorption."""
    pallor, pale_radius, tint = rng.uniform(0.1, 0.8), rng.uniform(0.3, 0.55), rng.normal(1, 0.08)
    at, local = window(scene.canvas, blob.x, blob.y, 1.4 * blob.radius)
    distance = blob_distance(local, blob)
    inwards = np.clip(1 + distance / blob.radius, 0, 2)  # 0 at the centre, 1 at the rim
    rim, hollow = np.exp(-(((inwards - 0.82) / 0.15) ** 2)), np.exp(-((inwards / pale_radius) ** 4))
    covered = coverage(distance, 0.9, local.pixel)
    under = np.where(scene.labels[at] & RED_CELL, 0.4, 1.0)  # cells that touch flatten rather than pile up
    depth = scene.stain.strength * tint * under * covered * (0.85 + 0.25 * rim - pallor * hollow)
    scene.image[at] *= (RED_CELL_COLOUR / WHITE) ** depth[..., None]
    scene.labels[at] |= np.where(covered > 0.5, RED_CELL, 0).astype(np.uint8)


def _draw_stray_platelet(rng: np.random.Generator, scene: Scene, body: Blob) -> None:
    """A small platelet away from the labelled cell: a distractor, and never evidence."""
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(1.4 * body.radius + 20, 200)
    x, y = body.x + away * np.cos(angle), body.y + away * np.sin(angle)
    waves = random_waves(rng, (2, 3, 5, 7), 0.09)
    blob = Blob(x, y, rng.uniform(6, 13), rng.uniform(1, 1.6), rng.uniform(0, np.pi), waves)
    at, local = window(scene.canvas, x, y, 2 * blob.radius)
    covered = coverage(blob_distance(local, blob), 0.9, local.pixel)
    grain = 1 - 0.35 * np.clip(smooth_noise(rng, local, (5.0, 5.0)), 0, 1.5)
    scene.image[at] = blend(scene.image[at], scene.stain.shown(PLATELET_COLOUR) * grain[..., None], 0.9 * covered)
    scene.labels[at] = np.where(covered > 0.5, STRAY_PLATELET, scene.labels[at])


# The labelled cell.


def _body(rng: np.random.Generator, traits: Traits) -> Blob:
    orders = (2, 3, 4, 5, 7, 9) if traits.ragged > 0.05 else (2, 3, 4)
    x, y = REFERENCE[0] / 2 + rng.normal(0, 5), REFERENCE[1] / 2 + rng.normal(0, 5)
    waves = random_waves(rng, orders, traits.ragged)
    return Blob(x, y, traits.diameter / 2, rng.uniform(1, 1.2), rng.uniform(0, np.pi), waves)


def _draw_body(rng: np.random.Generator, scene: Scene, class_name: str, traits: Traits, body: Blob) -> str:
    """Draw cytoplasm, nucleus, vacuoles and granules over the smear; the file name prefix comes back."""
    at, local = window(scene.canvas, body.x, body.y, 1.7 * body.radius)
    distance = blob_distance(local, body)
    inside = coverage(distance, 0.9, local.pixel)
    nucleus = NUCLEI[class_name](rng, local, body, traits.ratio * body.radius)
    # 2.5: a nucleus keeps that far from the cell's edge
    core = coverage(_intersection(nucleus.distance, distance + 2.5), 0.9, local.pixel)
    shown = scene.stain.shown
    image = blend(scene.image[at], shown(traits.cytoplasm) * _cytoplasm(rng, local, distance), inside)
    if class_name == "monocyte":
        image = blend(image, scene.stain.white, _vacuoles(rng, local, body) * inside * (1 - core))
    image = blend(image, shown(traits.nucleus) * _chromatin(rng, local, traits, nucleus.distance), core)
    over = inside if class_name == "basophil" else inside * (1 - core)
    grains = over * _grains(rng, local, traits.granules, body)
    scene.image[at] = blend(image, shown(traits.granules.colour), grains)
    cell = np.where(core > 0.5, NUCLEUS, CYTOPLASM) | np.where(grains > 0.4, GRANULE, 0)
    scene.labels[at] = np.where(inside > 0.5, cell, scene.labels[at])
    return nucleus.prefix or PREFIXES[class_name]


def _cytoplasm(rng: np.random.Generator, local: Canvas, distance: Field) -> Float[np.ndarray, "h w 1"]:
    """Cloudy, grainy, and darker at the edge; a factor on its colour."""
    cloudy = 0.04 * smooth_noise(rng, local, (16.0, 16.0))
    grainy = 0.03 * smooth_noise(rng, local, (4.0, 4.0))
    return (1 + cloudy + grainy - 0.10 * np.exp(-((distance / 4) ** 2)))[..., None]


def _chromatin(rng: np.random.Generator, local: Canvas, traits: Traits, distance: Field) -> Float[np.ndarray, "h w 1"]:
    """Clumps, and a dense layer under the nuclear membrane; a factor on the nucleus' colour."""
    size, contrast = traits.chromatin
    clumps = smooth_noise(rng, local, (size, size))
    clumps += 0.6 * smooth_noise(rng, local, (size / 2, size / 2))
    rim = 0.18 * np.exp(-((distance / 5) ** 2))
    return np.exp(contrast * np.clip(clumps, -2, 1.3) - rim)[..., None]


def _vacuoles(rng: np.random.Generator, local: Canvas, body: Blob) -> Field:
    """Up to six pale holes."""
    num = int(rng.integers(0, 7))
    return disc_coverage(local, _scatter(rng, body, num), rng.uniform(3, 8, num), rng.uniform(0.4, 0.8, num))


def _grains(rng: np.random.Generator, local: Canvas, granules: Granules, body: Blob) -> Field:
    radii = granules.radius * rng.uniform(0.7, 1.3, granules.num)
    return disc_coverage(local, _scatter(rng, body, granules.num), radii, rng.uniform(0.55, 0.95, granules.num))


def _scatter(rng: np.random.Generator, body: Blob, num: int) -> Float[np.ndarray, "n 2"]:
    """Points spread evenly over a cell."""
    away, angle = body.radius * np.sqrt(rng.uniform(0, 1.05, num)), rng.uniform(0, 2 * np.pi, num)
    along, across = away * np.cos(angle) * np.sqrt(body.stretch), away * np.sin(angle) / np.sqrt(body.stretch)
    cos, sin = np.cos(body.angle), np.sin(body.angle)
    return np.stack([body.x + along * cos - across * sin, body.y + along * sin + across * cos], axis=1)


# Nuclei: functions (rng, canvas, body, radius of a disc of the nucleus' area) -> Nucleus.


def _round_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    return Nucleus(blob_distance(canvas, _off_centre(rng, body, radius, rng.uniform(1, 1.12))), "")


def _no_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    return Nucleus(np.full(canvas.shape, 1e3), "")


def _kidney_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    """A blob minus a bite."""
    return Nucleus(_bitten(rng, canvas, _off_centre(rng, body, 1.1 * radius, rng.uniform(1.05, 1.3)), 0.62), "")


def _ig_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    """Promyelocyte and myelocyte: eccentric ovals; metamyelocyte: dented. Shares of the real set."""
    prefix = str(rng.choice(["PMY", "MY", "MMY"], p=[0.22, 0.41, 0.37]))
    oval = _off_centre(rng, body, radius * {"PMY": 1.06, "MY": 1.0, "MMY": 0.97}[prefix], rng.uniform(1.1, 1.4))
    return Nucleus(_bitten(rng, canvas, oval, 0.35) if prefix == "MMY" else blob_distance(canvas, oval), prefix)


def _neutrophil_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    """A quarter are bands, the others have two to five lobes."""
    if rng.random() < 0.25:
        return Nucleus(_band(rng, canvas, body, radius), "BNE")
    num = int(rng.choice([2, 3, 4, 5], p=[0.15, 0.4, 0.3, 0.15]))
    return Nucleus(_lobes(rng, canvas, body, radius, num, 0.85), "SNE")


def _eosinophil_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    return Nucleus(_lobes(rng, canvas, body, radius, 2, 0.95), "")


def _basophil_nucleus(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Nucleus:
    return Nucleus(_lobes(rng, canvas, body, radius, int(rng.integers(2, 4)), 0.7), "")


NUCLEI: dict[str, Callable[[np.random.Generator, Canvas, Blob, float], Nucleus]] = {
    "basophil": _basophil_nucleus,
    "eosinophil": _eosinophil_nucleus,
    "erythroblast": _round_nucleus,
    "ig": _ig_nucleus,
    "lymphocyte": _round_nucleus,
    "monocyte": _kidney_nucleus,
    "neutrophil": _neutrophil_nucleus,
    "platelet": _no_nucleus,
}


def _off_centre(rng: np.random.Generator, body: Blob, radius: float, stretch: float) -> Blob:
    """A blob of the given radius that lies anywhere in the body, more often towards one side."""
    room, angle = max(0.0, body.radius - radius) * rng.uniform(0.2, 0.95), rng.uniform(0, 2 * np.pi)
    waves = random_waves(rng, (2, 3, 4, 5), 0.03)
    x, y = body.x + room * np.cos(angle), body.y + room * np.sin(angle)
    return Blob(x, y, radius, stretch, angle + np.pi / 2 + rng.normal(0, 0.4), waves)


def _bitten(rng: np.random.Generator, canvas: Canvas, blob: Blob, depth: float) -> Field:
    angle, bite = rng.uniform(0, 2 * np.pi), blob.radius * rng.uniform(0.45, 0.8)
    away = blob.radius * (1.25 - depth * rng.uniform(0.5, 0.9))
    x, y = blob.x + away * np.cos(angle), blob.y + away * np.sin(angle)
    return _intersection(blob_distance(canvas, blob), -blob_distance(canvas, Blob(x, y, bite, 0.75, angle)))


def _lobes(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float, num: int, spread: float) -> Field:
    """Lobes along an arc, joined by filaments; `spread` is the lobes' distance in lobe diameters."""
    lobe = radius / np.sqrt(num) * 1.02
    ring = min(body.radius - lobe, max(0.5 * body.radius, 1.1 * lobe))
    step = 2 * np.arcsin(min(0.95, spread * lobe / ring))
    angles = rng.uniform(0, 2 * np.pi) + step * np.arange(num) + rng.normal(0, 0.12, num)
    points = _around(body, ring * rng.uniform(0.85, 1.05, num), angles)
    lobes = [blob_distance(canvas, _lobe(rng, x, y, lobe)) for x, y in points]
    filaments = [capsule_distance(canvas, start, end, 2.6) for start, end in pairwise(points)]
    return union(lobes + filaments, 1.5)


def _lobe(rng: np.random.Generator, x: float, y: float, radius: float) -> Blob:
    stretch, angle, waves = rng.uniform(1, 1.35), rng.uniform(0, np.pi), random_waves(rng, (2, 3, 4), 0.04)
    return Blob(x, y, radius * rng.uniform(0.88, 1.1), stretch, angle, waves)


def _band(rng: np.random.Generator, canvas: Canvas, body: Blob, radius: float) -> Field:
    """A sausage bent around the middle of the cell."""
    ring, half_width = 0.52 * body.radius, 0.38 * radius
    sweep = min(4.3, np.pi * radius**2 / (2 * half_width * ring))
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(0, sweep, 9)
    points = _around(body, ring * (1 + rng.normal(0, 0.06, 9)), angles)
    widths = (half_width * rng.uniform(0.8, 1.15, 8)).tolist()
    parts = [capsule_distance(canvas, *ends, width) for ends, width in zip(pairwise(points), widths, strict=True)]
    return union(parts, 3.0)


def _around(body: Blob, away: Float[np.ndarray, " n"], angles: Float[np.ndarray, " n"]) -> list[tuple[float, float]]:
    """Points that far from the middle of a cell."""
    x, y = body.x + away * np.cos(angles), body.y + away * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _intersection(one: Field, other: Field) -> Field:
    return -union([-one, -other], 1.5)


def _photograph(rng: np.random.Generator, scene: Scene) -> Colours:
    """Focus, exposure and sensor noise."""
    sharpness, exposure = rng.uniform(0.5, 1.1), rng.normal(1, 0.015)
    blurred = gaussian_filter(scene.image, sharpness / scene.canvas.pixel, axes=(0, 1))
    return exposure * blurred + rng.normal(0, 2.2, blurred.shape)
