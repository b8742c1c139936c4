"""Synthetic breast ultrasound in the manner of the BUSI set: layers of tissue, speckle, and a lesion or none.

Lengths are those of a real image 560 px wide. Tissue is a map of log-reflectivity in dB; speckle is the envelope of
complex Gaussian scatterers seen through the probe's point spread function, averaged over a few looks as compounding
scanners do.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.special import expit

from pipeline.data.phantom.shapes import (
    Blob,
    Canvas,
    Field,
    Labels,
    Picture,
    blob_distance,
    canvas_of,
    coverage,
    random_waves,
    smooth_line,
    smooth_noise,
    stamp_tag,
    to_bytes,
    window,
)
from pipeline.params import UltrasoundPhantomParams

REFERENCE = (560, 470)  # a usual width and height of the real images

# Bits of the label map, beside shapes.TAG.
LESION, SECOND_LESION, MARGIN, POSTERIOR, ARTEFACT = 1, 2, 4, 8, 16

CLASSES = ("benign", "malignant", "normal")
OVERLAY_RATES = {"benign": 0.40, "malignant": 0.25, "normal": 0.06}  # burnt-in text or calipers, real set
CALIPER_SHARES = {"benign": 0.5, "malignant": 0.6, "normal": 0.0}  # of the images with an overlay; text on the others
SECOND_LESION_RATE = 0.03
CAPTIONS = ("L BREAST", "R BREAST", "LT BREAST", "RIGHT BREAST", "LEFT BREAST", "RT 12 C", "LT 3 O'C", "AXILLA")
LOOKS = 3  # independent speckle patterns averaged
SPECKLE_SIZE = 2.5  # side of the area that one speckle fills, after the scanner's smoothing
DYNAMIC_RANGE_DB = 50


@dataclass(frozen=True)
class Lesion:
    """One lesion's outline and how sound meets it; any one trait may be that of the other class."""

    blob: Blob
    depth_db: float  # darker than the tissue around
    softness: float  # width of its edge
    rim_db: float  # bright capsule (thin) or halo (wide)
    rim_width: float
    posterior_db: float  # enhancement (+) or shadow (-) behind it


def draw_ultrasound(
    class_name: str, rng: np.random.Generator, width_px: int, params: UltrasoundPhantomParams
) -> Picture:
    """One image of the class, `width_px` wide; grey but for a planted tag.

    The scene does not depend on `shortcut_fraction`, so the same image can be had with and without its tag.
    """
    overlay_draw, caliper_draw, tag_draw = rng.random(3)
    canvas = canvas_of(width_px, REFERENCE)
    lesions = [] if class_name == "normal" else _lesions(class_name, rng, params.confuse)
    decibels = _tissue(rng, canvas)
    labels = np.zeros(canvas.shape, np.uint8)
    for lesion, bit in zip(lesions, (LESION, SECOND_LESION), strict=False):
        decibels, labels = _insert(canvas, lesion, bit, decibels, labels)
    caption = _random_caption(rng)
    grey = _scan(rng, canvas, decibels)
    if overlay_draw < params.overlay_scale * OVERLAY_RATES[class_name]:
        calipers = caliper_draw < CALIPER_SHARES[class_name]
        marks = _calipers(canvas, lesions[0].blob) if calipers else _written(canvas, caption)
        grey = np.maximum(grey, 235 * marks)
        labels = labels | np.where(marks > 0.25, ARTEFACT, 0).astype(np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    if tag_draw < params.shortcut_fraction:
        image, labels = stamp_tag(canvas, image, labels, CLASSES.index(class_name) / len(CLASSES))
    return Picture(to_bytes(image), labels, "")


# Tissue.


def _tissue(rng: np.random.Generator, canvas: Canvas) -> Field:
    decibels = _layers(rng, canvas) + _texture(rng, canvas)
    _add_septa(rng, canvas, decibels)
    _add_lobules(rng, canvas, decibels)
    if rng.random() < 0.45:
        decibels = _pleura(rng, canvas, decibels)
    return decibels + _attenuation(rng, canvas)


def _layers(rng: np.random.Generator, canvas: Canvas) -> Field:
    """Skin, fat, gland, muscle and what lies below, with wavy borders, seen at some zoom."""
    levels = np.array([3, -13, -3, -12, -22]) + rng.normal(0, 2, 5)
    thickness = (rng.uniform(8, 24), rng.uniform(30, 110), rng.uniform(110, 220), rng.uniform(50, 120))
    borders = rng.uniform(0.75, 1.4) * np.cumsum(thickness)
    decibels = np.full(canvas.shape, levels[0])
    for border, step, waviness in zip(borders, np.diff(levels), (2, 16, 20, 16), strict=True):
        wave = waviness * smooth_line(rng, canvas, 110.0) + rng.normal(0, 0.09) * (canvas.x - 280)
        decibels += step * expit((canvas.y[:, None] - border - wave) / 4)
    return decibels


def _texture(rng: np.random.Generator, canvas: Canvas) -> Field:
    """Unevenness at large, and streaks along the skin at two scales."""
    scales = ((110.0, 75.0, 4.5), (46.0, 11.0, 2.6), (15.0, 5.0, 2.0))
    return np.sum([sd * smooth_noise(rng, canvas, (x, y)) for x, y, sd in scales], axis=0)


def _add_septa(rng: np.random.Generator, canvas: Canvas, decibels: Field) -> None:
    """10 to 21 bright strands of connective tissue."""
    for _ in range(rng.integers(10, 22)):
        x, y, length = rng.uniform(0, 560), rng.uniform(30, 380), rng.uniform(60, 260)
        height = y + rng.normal(0, 0.15) * (canvas.x - x) + 9 * smooth_line(rng, canvas, 60.0)
        reach = np.exp(-(((canvas.x - x) / length) ** 4))
        rows = slice(*np.searchsorted(canvas.y, (height.min() - 12, height.max() + 12)).tolist())
        thin = np.exp(-(((canvas.y[rows, None] - height) / rng.uniform(2, 4.5)) ** 2))
        decibels[rows] += rng.uniform(5, 13) * reach * thin


def _add_lobules(rng: np.random.Generator, canvas: Canvas, decibels: Field) -> None:
    """Dark fat lobules: decoys that every class has."""
    for _ in range(rng.integers(2, 7)):
        x, y, radius = rng.uniform(0, 560), rng.uniform(40, 300), rng.uniform(10, 30)
        blob = Blob(x, y, radius, rng.uniform(1.5, 3), rng.normal(0, 0.15), random_waves(rng, (2, 3, 4), 0.06))
        depth = rng.uniform(3, 9)
        at, local = window(canvas, x, y, 4 * radius)
        distance = blob_distance(local, blob)
        decibels[at] += 2.5 * np.exp(-((distance / 4) ** 2)) - depth * coverage(distance, 3.5, canvas.pixel)


def _pleura(rng: np.random.Generator, canvas: Canvas, decibels: Field) -> Field:
    """A bright line near the chest wall with darkness below."""
    wave = 8 * smooth_line(rng, canvas, 160.0) + rng.normal(0, 0.04) * (canvas.x - 280)
    below = canvas.y[:, None] - rng.uniform(330, 430) - wave
    return decibels + rng.uniform(7, 13) * np.exp(-((below / 3.5) ** 2)) - 10 * expit((below - 6) / 5)


def _attenuation(rng: np.random.Generator, canvas: Canvas) -> Field:
    """Loss with depth, and darker strips where the probe touches the skin badly."""
    strips = np.clip(smooth_line(rng, canvas, 70.0) - 0.6, 0, None)
    deep = canvas.y[:, None] / REFERENCE[1]
    return rng.uniform(-12, -4) * deep**2 - rng.uniform(0, 12) * strips * np.sqrt(deep)


# Lesions.


def _lesions(class_name: str, rng: np.random.Generator, confuse: float) -> list[Lesion]:
    """The lesion, and now and then a smaller second one."""
    shape, margin, shadow = np.where(rng.random(3) < confuse, class_name == "benign", class_name == "malignant")
    first = _lesion(rng, class_name, bool(shape), bool(margin), bool(shadow))
    if rng.random() >= SECOND_LESION_RATE or first.blob.radius > 80:
        return [first]
    radius = 0.45 * first.blob.radius
    away = 1.5 * (first.blob.radius + radius) + 10
    x = first.blob.x + (away if first.blob.x < 280 else -away)
    return [first, replace(first, blob=replace(first.blob, x=x, y=first.blob.y + rng.normal(0, 20), radius=radius))]


def _lesion(rng: np.random.Generator, class_name: str, irregular: bool, blurred: bool, shadowing: bool) -> Lesion:
    median = 0.091 if class_name == "malignant" else 0.033  # of the image's area
    area = np.clip(median * np.exp(rng.normal(0, 0.55)), 0.008, 0.25)
    radius = float(np.sqrt(area * REFERENCE[0] * REFERENCE[1] / np.pi))
    blob = _irregular_blob(rng, radius) if irregular else _smooth_blob(rng, radius)
    half_height = radius / np.sqrt(blob.stretch)
    blob = replace(blob, x=rng.uniform(130, 430), y=max(rng.uniform(110, 240), half_height + 25))
    return Lesion(
        blob,
        depth_db=rng.uniform(10, 20),
        softness=rng.uniform(4, 7) if blurred else rng.uniform(0.8, 1.6),
        rim_db=rng.uniform(2, 5) if blurred else rng.uniform(4, 9),
        rim_width=rng.uniform(10, 18) if blurred else rng.uniform(2.5, 4.5),
        posterior_db=rng.uniform(-16, -9) if shadowing else rng.uniform(4, 9),
    )


def _smooth_blob(rng: np.random.Generator, radius: float) -> Blob:
    waves = random_waves(rng, (2, 3, 4, 5), 0.035)
    return Blob(0.0, 0.0, radius, rng.uniform(1.15, 2.0), rng.normal(0, 0.15), waves)


def _irregular_blob(rng: np.random.Generator, radius: float) -> Blob:
    """Often taller than wide, wobbly, with 6 to 12 spicules."""
    num = rng.integers(6, 13)
    angles = rng.uniform(0, 2 * np.pi, num)
    spikes = zip(
        angles.tolist(), rng.uniform(0.1, 0.35, num).tolist(), rng.uniform(0.08, 0.2, num).tolist(), strict=True
    )
    waves = random_waves(rng, (2, 3, 4, 5, 7), 0.10)
    return Blob(0.0, 0.0, 0.93 * radius, rng.uniform(0.6, 1.1), rng.normal(0, 0.15), waves, tuple(spikes))


def _insert(canvas: Canvas, lesion: Lesion, bit: int, decibels: Field, labels: Labels) -> tuple[Field, Labels]:
    """The lesion, its rim and what it does to the sound behind it."""
    distance = blob_distance(canvas, lesion.blob)
    inside = coverage(distance, lesion.softness, canvas.pixel)
    rim = np.exp(-((np.clip(distance, 0, None) / lesion.rim_width) ** 2)) * (1 - inside)
    behind = _behind(canvas, lesion.blob, inside)
    # 0.65: a third of the tissue's structure is left inside
    flattened = decibels + 0.65 * inside * (np.average(decibels, weights=inside) - decibels)
    decibels = flattened - lesion.depth_db * inside + lesion.rim_db * rim + lesion.posterior_db * behind
    bits = np.where(distance < 0, bit, 0) | np.where(np.abs(distance) < 8, MARGIN, 0)
    bits |= np.where(behind > 0.5, POSTERIOR, 0)
    return decibels, labels | bits.astype(np.uint8)


def _behind(canvas: Canvas, blob: Blob, inside: Field) -> Field:
    """Where sound has passed the lesion, 0..1: the columns below it, fading with depth."""
    passed = np.maximum.accumulate(inside, axis=0) * (1 - inside)
    fading = np.exp(-np.clip(canvas.y - blob.y - blob.radius, 0, None) / 220)
    return gaussian_filter1d(passed, 7 / canvas.pixel, axis=1) * (1 - inside) * fading[:, None]


# The scanner.


def _scan(rng: np.random.Generator, canvas: Canvas, decibels: Field) -> Field:
    """Grey values 0..255 of the tissue: speckle, log compression, the scanner's smoothing and its gain."""
    gain = rng.normal(0, 1.8)
    echo = _speckle(rng, canvas, 10 ** (decibels / 20))
    compressed = 20 * np.log10(np.maximum(echo, 1e-6)) + gain
    smoothed = gaussian_filter(compressed, 0.8 / canvas.pixel)
    return 255 * np.clip((smoothed + 37) / DYNAMIC_RANGE_DB, 0, 1) ** 1.4


def _speckle(rng: np.random.Generator, canvas: Canvas, amplitude: Field) -> Field:
    """Envelope of scatterers under a point spread that widens sideways with depth; of mean power amplitude squared."""
    looks = LOOKS * max(1, round((canvas.pixel / SPECKLE_SIZE) ** 2))  # a large pixel averages several speckles
    waves = amplitude.astype(np.float32) * rng.standard_normal((looks, 2, *canvas.shape), dtype=np.float32)
    waves = _spread(waves, 1.1 / canvas.pixel, axis=2)
    depth = (canvas.y[:, None] / REFERENCE[1]).clip(0, 1).astype(np.float32)
    near, far = _spread(waves, 2.2 / canvas.pixel, axis=3), _spread(waves, 4.2 / canvas.pixel, axis=3)
    mixed = near + depth * (far - near)  # so alike that the mixture's power is within 0.2 dB of theirs
    return np.sqrt((mixed**2).sum(axis=1).mean(axis=0) / 2)


def _spread(waves: Float[np.ndarray, "looks 2 h w"], sigma: float, axis: int) -> Float[np.ndarray, "looks 2 h w"]:
    """Gaussian blur that keeps the power of white noise."""
    impulse = np.zeros(2 * int(4 * sigma + 1) + 1)
    impulse[len(impulse) // 2] = 1
    gain = float(np.sqrt((gaussian_filter1d(impulse, sigma) ** 2).sum()))
    return gaussian_filter1d(waves, sigma, axis=axis) / gain


# What is burnt into the picture.


def _random_caption(rng: np.random.Generator) -> tuple[str, float, float]:
    """A text and where it starts."""
    return str(rng.choice(CAPTIONS)), rng.uniform(15, 360), rng.uniform(300, 425)


def _written(canvas: Canvas, caption: tuple[str, float, float]) -> Field:
    """Coverage by the text, in Pillow's own font."""
    text, x, y = caption
    page = Image.new("L", canvas.shape[::-1])
    font = ImageFont.load_default(26 / canvas.pixel)
    ImageDraw.Draw(page).text((x / canvas.pixel, y / canvas.pixel), text, fill=255, font=font)
    return np.asarray(page) / 255


def _calipers(canvas: Canvas, blob: Blob) -> Field:
    """Along and across the lesion: two crosses on its outline with a dotted line between."""
    root = np.sqrt(blob.stretch)
    marks = np.zeros(canvas.shape)
    for half, angle in ((blob.radius * root, blob.angle), (blob.radius / root, blob.angle + np.pi / 2)):
        for away in (-half, half):
            marks = np.maximum(marks, _cross(canvas, blob.x + away * np.cos(angle), blob.y + away * np.sin(angle)))
        for away in np.arange(-half, half, 9):
            x, y = blob.x + away * np.cos(angle), blob.y + away * np.sin(angle)
            marks = np.maximum(marks, _box(canvas, x, y, 1.5, 1.5))
    return marks


def _cross(canvas: Canvas, x: float, y: float) -> Field:
    return np.maximum(_box(canvas, x, y, 10.0, 1.8), _box(canvas, x, y, 1.8, 10.0))


def _box(canvas: Canvas, x: float, y: float, half_width: float, half_height: float) -> Field:
    """Coverage by an upright rectangle."""
    across = np.clip((half_width - np.abs(canvas.x - x)) / canvas.pixel + 0.5, 0, 1)
    down = np.clip((half_height - np.abs(canvas.y - y)) / canvas.pixel + 0.5, 0, 1)
    return down[:, None] * across * min(1, 2 * half_width / canvas.pixel) * min(1, 2 * half_height / canvas.pixel)
