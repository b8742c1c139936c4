"""What serving costs: the registered model beside timm alone, in process and over HTTP, and eight clients at once.

Run by hand, on an otherwise idle machine, in a checkout whose study is done:
    python -m benchmarks.serving                                  # prints a section for RESULTS.md; 10 minutes
    python -m benchmarks.serving --cell busi/dino --seconds 2 --crowd-seconds 5   # a quick look
Two models are saved as publishing saves them, registered in a store of their own, and served by `flows.serve`: one of
the study's, and a ViT-B/16 at 224 px with random weights. Ours and timm alone take turns.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mlflow.pyfunc  # noqa: TID251
import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.models import SIDE_PX, classifier_of
from benchmarks.timing import machine
from pipeline.files import sha256_of
from pipeline.models.checkpoint import CheckpointDescription, load_checkpoint, save_checkpoint
from pipeline.records import CHECKPOINT, Receipt
from pipeline.registry import CHECKPOINT as CHECKPOINT_TAG
from pipeline.serving import save_servable
from pipeline.tracking import open_store
from tests.serving.servers import Server, running, wait_until_ready
from tests.serving.worlds import as_text

BATCHES = (1, 16)
LEAST_ROUNDS = 3
CLIENTS = 8
HEATMAP = {"return_heatmap": True}
IMAGE_PX = (562, 471)  # a usual size of an ultrasound image


@dataclass(frozen=True)
class Servable:
    title: str
    trained: Path  # checkpoint and receipt
    folder: Path  # what MLflow keeps
    version: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", default="busi/vit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15, help="for each figure; at least three rounds are run")
    parser.add_argument("--crowd-seconds", type=float, default=60)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trained, explained = (Path("data") / stage / args.cell for stage in ("models", "heatmaps"))
    with tempfile.TemporaryDirectory() as scratch, store(Path(scratch)):
        servables = [
            publish("the study's ViT, 64 px", trained, explained, Path(scratch), 1),
            publish("ViT-B/16, 224 px", random_vit(trained, Path(scratch) / "vit_base"), explained, Path(scratch), 2),
        ]
        print(f"## Serving\n\nMeasured by `python -m benchmarks.serving` on: {machine()}.\n")
        print("| model | what | batch | median | p99 | images a second | rounds |\n|---|---|---|---|---|---|---|")
        notes = [note for servable in servables for note in measured(servable, args, Path(scratch))]
    print("\n" + "\n".join(f"- {note}" for note in notes))


@contextmanager
def store(folder: Path) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}):
        open_store().create_registered_model("busi-classifier")
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


def publish(title: str, trained: Path, explained: Path, scratch: Path, version: int) -> Servable:
    folder = scratch / f"servable_{version}"
    logged = SimpleNamespace(artifact_location=str(folder), model_id=f"m-{version:032}", source_run_id=None)
    save_servable(logged, trained, explained, folder)  # type: ignore[arg-type]
    tags = {CHECKPOINT_TAG: Receipt.read(trained).checkpoint_sha256}
    open_store().create_model_version("busi-classifier", str(folder), tags=tags)
    return Servable(title, trained, folder, version)


def measured(servable: Servable, args: argparse.Namespace, scratch: Path) -> Iterator[str]:
    """Prints the model's rows of the table; what is no row comes back in words."""
    contents = draw_files(max(BATCHES))
    for batch in BATCHES:
        yield from beside_timm(servable, contents[:batch], args.seconds)
    print_rows(servable, "in process, heatmap", in_process(servable, HEATMAP), contents, args.seconds)
    began = time.perf_counter()
    with running("flows.serve", scratch, "--version", str(servable.version)) as server:
        wait_until_ready(server)
        answered(server, contents[:1], {})
        yield f"{servable.title}: first answer {time.perf_counter() - began:.1f} s after the start of the process."
        for what, params in (("HTTP", {}), ("HTTP, heatmap", HEATMAP)):
            print_rows(
                servable, what, lambda files, asked=params: answered(server, files, asked), contents, args.seconds
            )
        yield f"{servable.title}: {crowd(server, contents, args.crowd_seconds)}"


def beside_timm(servable: Servable, contents: list[bytes], seconds: float) -> Iterator[str]:
    ours, theirs = in_process(servable, {}), timm_alone(servable.trained)
    times = taking_turns([lambda: ours(contents), lambda: theirs(contents)], seconds)
    for who, found in zip(("in process", "timm alone"), times, strict=True):
        print(row(servable, who, len(contents), found), flush=True)
    overhead = np.median(np.divide(*times)) - 1
    yield f"{servable.title}, batch {len(contents)}: {overhead:+.1%} over timm alone (median of paired rounds)."


def in_process(servable: Servable, params: dict[str, Any]) -> Callable[[list[bytes]], object]:
    model = mlflow.pyfunc.load_model(str(servable.folder))
    return lambda files: model.predict(pd.DataFrame({"image": files}), params=params)


def timm_alone(trained: Path) -> Callable[[list[bytes]], object]:
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


def print_rows(
    servable: Servable, what: str, ask: Callable[[list[bytes]], object], contents: list[bytes], seconds: float
) -> None:
    for batch in BATCHES:
        (times,) = taking_turns([lambda files=contents[:batch]: ask(files)], seconds)
        print(row(servable, what, batch, times), flush=True)


def taking_turns(ways: list[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of each way in each round, after one round that does not count."""
    for way in ways:
        way()
    times: list[list[float]] = [[] for _ in ways]
    deadline = time.perf_counter() + seconds
    while len(times[0]) < LEAST_ROUNDS or time.perf_counter() < deadline:
        for way, found in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            found.append(time.perf_counter() - began)
    return times


def row(servable: Servable, what: str, batch: int, times: list[float]) -> str:
    median, worst = np.median(times), np.quantile(times, 0.99)
    cells = (
        servable.title,
        what,
        batch,
        milliseconds(median),
        milliseconds(worst),
        f"{batch / median:.1f}",
        len(times),
    )
    return f"| {' | '.join(map(str, cells))} |"


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
