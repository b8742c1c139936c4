"""Lineage: everything behind a registered version, and the version that a heatmap's file belongs to."""

import argparse
import subprocess
from pathlib import Path

from flows.command import run_main
from flows.layout import PROMOTIONS
from flows.servers import page_of
from pipeline.params import load_params


def lineage(dataset: str, version: str, as_json: bool) -> None:
    """Print what is behind a version, found by number or alias."""
    from pipeline.lineage import lineage_of, lineage_text  # MLflow takes a second and a half
    from pipeline.tracking import open_store

    found = lineage_of(open_store(), dataset, version, PROMOTIONS)
    revision = revision_holding(found.dvc_md5) if found.dvc_md5 else None
    print(found.model_dump_json(indent=2) if as_json else lineage_text(found, revision, page_of("mlflow")))


def lineage_of_file(file: Path, as_json: bool) -> None:
    """Print what a heatmap's file says of itself, then what is behind the version that it explains."""
    from pipeline.lineage import lineage_in, version_of_heatmap
    from pipeline.tracking import open_store

    heatmap = lineage_in(file)
    version = version_of_heatmap(open_store(), heatmap)
    if not as_json:
        print(f"{file}: {', '.join(heatmap.told())}\n")
    lineage(heatmap.dataset, str(version.version), as_json)


def revision_holding(md5: str) -> str | None:
    """The newest commit whose dvc.lock holds that hash; None outside git, or where it was never committed."""
    changed = git("log", "--format=%H", f"-S{md5}", "--", "dvc.lock").split()
    return next((commit for commit in changed if md5 in git("show", f"{commit}:dvc.lock")), None)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout


def command() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.lineage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", choices=tuple(load_params().datasets))
    parser.add_argument("--version", default="champion", help="a number or an alias; default: champion")
    parser.add_argument("--file", type=Path, help="a heatmap instead: attributions.npz, an overlay, a served PNG")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (given.dataset is None) == (given.file is None):
        parser.error("give --dataset with --version, or --file")
    if given.file:
        lineage_of_file(given.file, given.json)
    else:
        lineage(given.dataset, given.version, given.json)


if __name__ == "__main__":
    run_main(command)
