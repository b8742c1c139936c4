"""What the report costs as images grow: time and peak memory for made-up scores of four models by six methods.

Run by hand, on an otherwise idle machine:
    python -m benchmarks.report            # 625, 1,250 and 2,500 explained images, a process each
Scores, maps and curves are random numbers on the right grids; only as many images are drawn as the page embeds.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.params import load_params
from tests.report import made_study

METHODS = ("gradcam", "gradient_rollout", "hirescam", "layercam", "chefer", "legrad")
MODELS = ("vit", "deit", "dino", "swin")
SIDE, GRID, STEPS = 64, 14, 224


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="*", default=[625, 1250, 2500])
    parser.add_argument("--one", type=int, help="this many, in this process")
    args = parser.parse_args()
    if args.one:
        print(measured(args.one), flush=True)
        return
    for images in args.images:  # a process each, as peak memory never falls
        subprocess.run([sys.executable, "-m", "benchmarks.report", "--one", str(images)], check=True)


def measured(images: int) -> str:
    """Half of a made-up set is its test split, all of which counts as explained."""
    made_study.METHODS, made_study.SIDE, made_study.GRID, made_study.STEPS = METHODS, SIDE, GRID, STEPS
    with tempfile.TemporaryDirectory() as folder:
        study = made_study.make_study(Path(folder) / "data", ("busi",), MODELS, images=2 * images)
        resamples = load_params().findings.resamples
        began = time.monotonic()
        shown = {"gallery_images": 8, "browser_images": 40}
        page = study.write_report(Path(folder) / "report", resamples=resamples, **shown)
        seconds, size = time.monotonic() - began, page.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{images} images: {seconds:.0f} s, peak {peak:.2f} GiB, page {size:.1f} MB ({resamples} resamples)"


if __name__ == "__main__":
    main()
