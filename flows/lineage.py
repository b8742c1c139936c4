"""Lineage: everything behind a registered version, and the version that a heatmap's file belongs to."""

import argparse
from pathlib import Path

from flows.command import run_main
from flows.layout import PROMOTIONS
from flows.revisions import revision_holding
from flows.servers import page_of
from pipeline.params import load_params


def lineage(dataset: str, version: str, as_json: bool) -> None:
    """Print what is behind a version, found by number or alias."""
    from pipeline.lineage import lineage_of, lineage_text  # MLflow takes a second and a half
    from pipeline.tracking import open_store

    found = lineage_of(open_store(), dataset, version, PROMOTIONS)
    if found.dvc_md5 and (revision := revision_holding(found.dvc_md5)):
        found = found.model_copy(update={"data_revision": revision})
    print(found.model_dump_json(indent=2) if as_json else lineage_text(found, page_of("mlflow")))


def lineage_of_file(file: Path, as_json: bool) -> None:
    """Print what a heatmap's file says of itself, then what is behind the version that it explains."""
    from pipeline.lineage import lineage_in, version_of_heatmap
    from pipeline.tracking import open_store

    heatmap = lineage_in(file)
    version = version_of_heatmap(open_store(), heatmap)
    if not as_json:
        print(f"{file}: {', '.join(heatmap.told())}\n")
    lineage(heatmap.dataset, str(version.version), as_json)


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
