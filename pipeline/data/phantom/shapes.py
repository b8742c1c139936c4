"""Implicit shapes: distance fields that become soft coverage, so an image and its mask come from one field.

Lengths are in reference pixels, those of the real images, so that one scene can be drawn at any width. A distance is
negative inside a shape. No random draw in this file depends on the drawn width.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import expit

Field = Float[np.ndarray, "h w"]
Colours = Float[np.ndarray, "h w 3"]
Colour = Float[np.ndarray, " 3"]
Labels = UInt8[np.ndarray, "h w"]

TAG = 128  # bit of a planted tag in every label map
TAG_SIDE_FRACTION = 0.1  # of the width: 36 px on the real cell images


@dataclass(frozen=True)
class Picture:
    """A synthetic image and what every pixel of it shows."""

    image: UInt8[np.ndarray, "h w 3"]
    labels: Labels  # one bit per kind of thing, so that things may lie over one another
    variant: str  # the sub-label that the archive writes into file names; empty where it has none


@dataclass(frozen=True)
class Canvas:
    """Pixel centres, in reference pixels."""

    x: Float[np.ndarray, " w"]
    y: Float[np.ndarray, " h"]
    pixel: float  # side of a drawn pixel
    extent: float  # x and y stay below it, in a window too

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.y), len(self.x)


def canvas_of(width_px: int, reference: tuple[int, int]) -> Canvas:
    """The canvas of an image `width_px` wide that shows `reference` (width, height)."""
    pixel = reference[0] / width_px
    height_px = round(reference[1] / pixel)
    return Canvas(
        (np.arange(width_px) + 0.5) * pixel, (np.arange(height_px) + 0.5) * pixel, pixel, float(max(reference))
    )


def window(canvas: Canvas, x: float, y: float, reach: float) -> tuple[tuple[slice, slice], Canvas]:
    """The part of the canvas within `reach` of a point (a square): where it lies, and its own canvas."""
    columns = slice(*np.searchsorted(canvas.x, (x - reach, x + reach)).tolist())
    rows = slice(*np.searchsorted(canvas.y, (y - reach, y + reach)).tolist())
    return (rows, columns), replace(canvas, x=canvas.x[columns], y=canvas.y[rows])


@dataclass(frozen=True)
class Blob:
    """A closed outline r(angle) = radius (1 + waves + spikes), stretched along `angle` at constant area."""

    x: float
    y: float
    radius: float
    stretch: float = 1.0  # long axis / short axis
    angle: float = 0.0
    waves: tuple[tuple[int, float, float], ...] = ()  # order, amplitude, phase
    spikes: tuple[tuple[float, float, float], ...] = ()  # angle, height, width (radians)


def random_waves(
    rng: np.random.Generator, orders: Sequence[int], wobble: float
) -> tuple[tuple[int, float, float], ...]:
    """Waves whose amplitudes have standard deviation `wobble`, less for higher orders."""
    amplitudes = rng.normal(0, wobble, len(orders)) * (orders[0] / np.asarray(orders)) ** 0.7
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    return tuple(zip(orders, amplitudes.tolist(), phases.tolist(), strict=True))


def blob_distance(canvas: Canvas, blob: Blob) -> Field:
    """Approximate signed distance to the outline."""
    along, across = _rotated(canvas, blob.x, blob.y, blob.angle)
    root = np.sqrt(blob.stretch)
    along, across = along / root, across * root
    theta = np.arctan2(across, along)
    outline = np.ones_like(theta)
    for order, amplitude, phase in blob.waves:
        outline += amplitude * np.cos(order * theta + phase)
    for angle, height, width in blob.spikes:
        outline += height * np.exp((np.cos(theta - angle) - 1) / width**2)
    return np.hypot(along, across) - blob.radius * outline


def capsule_distance(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Signed distance to a line of round ends, `radius` thick on either side."""
    length_x, length_y = end[0] - start[0], end[1] - start[1]
    x, y = canvas.x[None, :] - start[0], canvas.y[:, None] - start[1]
    along = np.clip((x * length_x + y * length_y) / max(length_x**2 + length_y**2, 1e-9), 0, 1)
    return np.hypot(x - along * length_x, y - along * length_y) - radius


def union(fields: Sequence[Field], smoothness: float) -> Field:
    """All shapes as one; joints are rounded over about `smoothness`."""
    return -smoothness * np.logaddexp.reduce([-field / smoothness for field in fields])


def coverage(distance: Field, softness: float, pixel: float) -> Field:
    """How much of each pixel the shape covers, 0..1, with an edge `softness` wide and never sharper than a pixel."""
    return expit(-distance / max(softness, 0.3 * pixel))


def disc_coverage(
    canvas: Canvas,
    centres: Float[np.ndarray, "n 2"],
    radii: Float[np.ndarray, " n"],
    strengths: Float[np.ndarray, " n"],
) -> Field:
    """Coverage by many small discs at once; where they overlap the stronger one counts."""
    covered = np.zeros(canvas.shape)
    if len(radii) == 0:
        return covered
    offsets = np.arange(-1, 2 + int(2 * (radii.max() + canvas.pixel) / canvas.pixel))
    columns = np.floor((centres[:, :1] - radii.max() - canvas.x[0]) / canvas.pixel).astype(int) + offsets
    rows = np.floor((centres[:, 1:] - radii.max() - canvas.y[0]) / canvas.pixel).astype(int) + offsets
    x = canvas.x[0] + columns * canvas.pixel - centres[:, :1]
    y = canvas.y[0] + rows * canvas.pixel - centres[:, 1:]
    distance = np.hypot(y[:, :, None], x[:, None, :]) - radii[:, None, None]
    shares = strengths[:, None, None] * np.clip(0.5 - distance / canvas.pixel, 0, 1)
    shares *= np.minimum(1, np.pi * (radii / canvas.pixel) ** 2)[:, None, None]  # discs smaller than a pixel
    rows, columns = np.broadcast_arrays(rows[:, :, None], columns[:, None, :])
    inside = (rows >= 0) & (rows < canvas.shape[0]) & (columns >= 0) & (columns < canvas.shape[1])
    np.maximum.at(covered, (rows[inside], columns[inside]), shares[inside])
    return covered


def smooth_noise(rng: np.random.Generator, canvas: Canvas, scale: tuple[float, float]) -> Field:
    """Noise of mean 0 and standard deviation about 1 that varies over `scale` (x, y)."""
    counts = [int(canvas.extent / length) + 5 for length in scale]
    lattice = rng.standard_normal((counts[1], counts[0])) / 0.48  # rms sum of squared B-spline weights in two axes
    return _spline(_spline(lattice, canvas.y / scale[1]).T, canvas.x / scale[0]).T


def smooth_line(rng: np.random.Generator, canvas: Canvas, scale: float) -> Float[np.ndarray, " w"]:
    """As `smooth_noise`, along x only."""
    lattice = rng.standard_normal((int(canvas.extent / scale) + 5, 1)) / 0.69  # likewise in one axis
    return _spline(lattice, canvas.x / scale)[:, 0]


def blend(image: Colours, colour: Colour | Colours, share: Field) -> Colours:
    """`colour` laid over the image where `share` says."""
    return image + share[..., None] * (colour - image)


def stamp_tag(canvas: Canvas, image: Colours, labels: Labels, hue: float) -> tuple[Colours, Labels]:
    """The planted shortcut: a square of one hue (0..1) in the top left corner, and its bit in the label map."""
    side = TAG_SIDE_FRACTION * canvas.pixel * canvas.shape[1]
    inside = (np.abs(canvas.y - side)[:, None] < side / 2) & (np.abs(canvas.x - side)[None, :] < side / 2)
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.75, 0.9))
    return np.where(inside[..., None], colour, image), labels | (TAG * inside).astype(np.uint8)


def to_bytes(image: Colours) -> UInt8[np.ndarray, "h w 3"]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _rotated(canvas: Canvas, x: float, y: float, angle: float) -> tuple[Field, Field]:
    right, down = canvas.x[None, :] - x, canvas.y[:, None] - y
    return right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)


def _spline(lattice: Float[np.ndarray, "n m"], positions: Float[np.ndarray, " w"]) -> Float[np.ndarray, "w m"]:
    """Cubic B-spline through the first axis, at `positions` in lattice steps. Plain sums: no BLAS, equal bytes."""
    first = np.floor(positions).astype(int)
    t = positions - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return sum(weight[:, None] / 6 * lattice[first + tap] for tap, weight in enumerate(weights))
