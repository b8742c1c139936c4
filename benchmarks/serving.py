"""What serving costs: the registered model beside timm alone, in process and over HTTP, and eight clients at once.

Run by hand, on an otherwise idle machine, in a checkout whose study is done; takes 5 minutes:
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.serving > benchmarks/SERVING.md
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.serving --seconds 1 --crowd-seconds 5   # a quick look
With another policy the threads of OpenMP spin while they wait. On a virtual machine of two cores they were seen to
share one core for seconds: a call of 11 ms then took 290 ms, of our model and of timm alone alike.
Two models are saved as publishing saves them, registered in a store of their own, and served by `flows.serve`: one of
the study's, and a ViT-B/16 at 224 px with random weights. What is compared takes turns, in an order that turns too.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mlflow.pyfunc  # noqa: TID251
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc import PyFuncModel  # noqa: TID251
from PIL import Image

from benchmarks.models import SIDE_PX, classifier_of
from benchmarks.timing import machine
from pipeline.files import sha256_of
from pipeline.models.checkpoint import CheckpointDescription, load_checkpoint, save_checkpoint
from pipeline.records import CHECKPOINT, Receipt
from pipeline.registry import model_name
from pipeline.serving import save_servable
from pipeline.tracking import open_store
from tests.serving.servers import Server, running, wait_until_ready
from tests.serving.worlds import as_text

BATCHES = (1, 16)
LEAST_ROUNDS = 3
CLIENTS = 8
HEATMAP = {"return_heatmap": True}
IMAGE_PX = (562, 471)  # a usual size of an ultrasound image
NAME = model_name("busi")
HEAD = """# What serving costs

Measured by `python -m benchmarks.serving` on: {machine}; {versions}.

The registered model in process (`mlflow.pyfunc.load_model`), over HTTP (`python -m flows.serve`, on loopback), and
beside what a user would write with timm alone: decode, resize, normalise, predict, without checks or a table. Images
are PNG files of {width} x {height} px. Rows of one model and batch took turns; with fewer than 100 rounds the p99 is as
good as the slowest. OMP_WAIT_POLICY was {wait_policy}.

| model | what | batch | median | p99 | images a second | rounds |
|---|---|---|---|---|---|---|"""
Way = Callable[[list[bytes]], object]


@dataclass(frozen=True)
class Servable:
    title: str
    trained: Path  # checkpoint and receipt
    folder: Path  # what MLflow keeps
    number: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", default="busi/vit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6, help="for each comparison; at least three rounds")
    parser.add_argument("--crowd-seconds", type=float, default=60)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trained, explained = (Path("data") / stage / args.cell for stage in ("models", "heatmaps"))
    with tempfile.TemporaryDirectory() as scratch, store(Path(scratch)):
        servables = [
            publish("the study's ViT, 64 px", trained, explained, Path(scratch), 1),
            publish("ViT-B/16, 224 px", random_vit(trained, Path(scratch) / "vit_base"), explained, Path(scratch), 2),
        ]
        print(page_head(), flush=True)
        notes = [note for servable in servables for note in measured(servable, args, Path(scratch))]
    print("\n" + "\n".join(f"- {note}" for note in notes))


def page_head() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "torch", "timm", "pillow"))
    wait_policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    width, height = IMAGE_PX
    return HEAD.format(machine=machine(), versions=versions, width=width, height=height, wait_policy=wait_policy)


@contextmanager
def store(folder: Path) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}):
        open_store().create_registered_model(NAME)
        yield


def random_vit(trained: Path, folder: Path) -> Path:
    """A paper-size model with the receipt of the study's, but for what it says of the checkpoint."""
    classifier, receipt = classifier_of("vit_base_patch16_224"), Receipt.read(trained)
    classes = tuple(f"class_{index}" for index in range(classifier.backbone.num_classes))
    half = (0.5, 0.5, 0.5)
    description = CheckpointDescription(
        arch="vit_base_patch16_224",
        arch_options={},
        weights="none",
        classes=classes,
        image_size_px=SIDE_PX,
        mean=half,
        std=half,
    )
    save_checkpoint(classifier, description, folder / CHECKPOINT)
    changed = {"checkpoint_sha256": sha256_of(folder / CHECKPOINT), "classes": classes, "image_size_px": SIDE_PX}
    receipt.model_copy(update=changed).write(folder)
    return folder


def publish(title: str, trained: Path, explained: Path, scratch: Path, number: int) -> Servable:
    folder = scratch / f"servable_{number}"
    logged = SimpleNamespace(artifact_location=str(folder), model_id=f"m-{number:032}", source_run_id=None)
    save_servable(logged, trained, explained, folder)  # type: ignore[arg-type]
    open_store().create_model_version(NAME, str(folder))
    return Servable(title, trained, folder, number)


def measured(servable: Servable, args: argparse.Namespace, scratch: Path) -> Iterator[str]:
    """Prints the model's rows of the table; what is no row comes back in words."""
    contents = draw_files(max(BATCHES))
    began = time.perf_counter()
    with running("flows.serve", scratch, "--version", str(servable.number)) as server:
        wait_until_ready(server)
        answered(server, contents[:1], {})
        yield f"{servable.title}: first answer {time.perf_counter() - began:.1f} s after the start of the process."
        yield from compared(servable, server, contents, args.seconds)
        yield f"{servable.title}: {crowd(server, contents[:CLIENTS], args.crowd_seconds)}"


def compared(servable: Servable, server: Server, contents: list[bytes], seconds: float) -> Iterator[str]:
    model = mlflow.pyfunc.load_model(str(servable.folder))
    plain = {
        "in process": in_process(model, {}),
        "timm alone": timm_alone(servable.trained),
        "HTTP": over_http(server, {}),
    }
    drawn = {"in process, heatmap": in_process(model, HEATMAP), "HTTP, heatmap": over_http(server, HEATMAP)}
    for batch in BATCHES:
        times = taking_turns(plain, contents[:batch], seconds)
        print_rows(servable, batch, times)
        overhead = np.median(np.divide(times["in process"], times["timm alone"])) - 1
        yield f"{servable.title}, batch {batch}: {overhead:+.1%} over timm alone (median of paired rounds)."
        print_rows(servable, batch, taking_turns(drawn, contents[:batch], seconds))


def in_process(model: PyFuncModel, params: dict[str, Any]) -> Way:
    return lambda files: model.predict(pd.DataFrame({"image": files}), params=params)


def over_http(server: Server, params: dict[str, Any]) -> Way:
    return lambda files: answered(server, files, params)


def timm_alone(trained: Path) -> Way:
    """What a user would write without us, for the same answer."""
    classifier, description = load_checkpoint(trained / CHECKPOINT)
    side, mean, std, backbone = description.image_size_px, classifier.mean, classifier.std, classifier.backbone

    def predict(files: list[bytes]) -> object:
        images = [Image.open(BytesIO(file)).convert("RGB").resize((side, side), Image.BICUBIC) for file in files]
        batch = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return backbone((batch / 255 - mean) / std).softmax(dim=1).numpy()

    return predict


def answered(server: Server, files: list[bytes], params: dict[str, Any]) -> bytes:
    answer = server.predict([as_text(file) for file in files], **params)
    assert answer.status == 200, answer.body
    return answer.body


def crowd(server: Server, contents: list[bytes], seconds: float) -> str:
    """Clients that ask one image at a time, every second one for a heatmap, each answer held to the serial one."""
    expected = {
        (index, drawn): answered(server, [file], {"return_heatmap": drawn})
        for index, file in enumerate(contents)
        for drawn in (False, True)
    }
    deadline = time.perf_counter() + seconds

    def client(number: int) -> list[tuple[float, bool]]:
        seen = []
        while time.perf_counter() < deadline:
            key = ((number + len(seen)) % len(contents), (number + len(seen) // len(contents)) % 2 == 1)
            began = time.perf_counter()
            answer = server.predict([as_text(contents[key[0]])], return_heatmap=key[1])
            seen.append((time.perf_counter() - began, answer.body == expected[key]))
        return seen

    with ThreadPoolExecutor(CLIENTS) as clients:
        seen = [each for answers in clients.map(client, range(CLIENTS)) for each in answers]
    times, right = zip(*seen, strict=True)
    lost, median, worst = right.count(False), np.median(times), np.quantile(times, 0.99)
    return (
        f"{CLIENTS} clients for {seconds:.0f} s, one image at a time, half of the time with a heatmap: {len(seen)} "
        f"answers, {lost} lost or different from the serial ones; median {milliseconds(median)}, p99 "
        f"{milliseconds(worst)}."
    )


def taking_turns(ways: Mapping[str, Way], files: list[bytes], seconds: float) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one image that does not count."""
    for way in ways.values():
        way(files[:1])
    times: dict[str, list[float]] = {name: [] for name in ways}
    deadline = time.perf_counter() + seconds
    order = list(ways)
    while len(times[order[0]]) < LEAST_ROUNDS or time.perf_counter() < deadline:
        for name in order:
            began = time.perf_counter()
            ways[name](files)
            times[name].append(time.perf_counter() - began)
        order.reverse()
    return times


def print_rows(servable: Servable, batch: int, times: Mapping[str, Sequence[float]]) -> None:
    for what, found in times.items():
        median, worst = np.median(found), np.quantile(found, 0.99)
        speed = f"{batch / median:.1f}"
        cells = (servable.title, what, batch, milliseconds(median), milliseconds(worst), speed, len(found))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def draw_files(count: int) -> list[bytes]:
    """Smooth noise as PNG files."""
    generator = np.random.default_rng(0)
    return [as_file(generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)) for _ in range(count)]


def as_file(coarse: np.ndarray) -> bytes:
    held = BytesIO()
    Image.fromarray(coarse).resize(IMAGE_PX, Image.BICUBIC).save(held, format="PNG")
    return held.getvalue()


if __name__ == "__main__":
    main()
