"""The whole study: what `dvc repro` would run, several stages at a time, watched by Prefect; its table at the end."""

import argparse
import logging
from collections.abc import Collection, Mapping
from itertools import product

from flows.artifacts import show_markdown
from flows.command import run_main
from flows.flow_runs import VERSIONS_PAGE, asked, newest_page
from flows.layout import REPORT, cell_name
from flows.locks import alone
from flows.mending import mend_dvc
from flows.plan import planned
from flows.room import room_here
from flows.runner import stage
from flows.servers import page_of, prefect_server
from flows.stages import run_stages, stale_stages
from pipeline.errors import StudyError
from pipeline.params import StudyParams, load_params

log = logging.getLogger("flows")


@stage("study")
def study(workers: int | None = None, datasets: Collection[str] = (), models: Collection[str] = ()) -> None:
    """Bring the study up to date: every stage that is stale, several at a time; then its table and where to look.

    Args:
        datasets, models: bring only their cells up to date; empty: all, and the report.

    Raises:
        StudyError: a stage failed; stages that do not wait for it have run.
    """
    params = load_params()  # a fault in params.yaml is named here once, not by the first stage that meets it
    with alone("study"):  # two at once would do the same stages twice
        mend_dvc()
        stale = stale_stages()
        waits = stages_of(cells_of(params.study, datasets, models), stale) if datasets or models else stale
        log.info("%d of %d stale stages to run", len(waits), len(stale))
        with planned(waits) as plan:
            failed = run_stages(waits, room_here(params, workers), plan.reproduce)
    if failed:
        raise StudyError(f"{', '.join(failed)} failed; the reason is above, after the stage's name")
    if waits.keys() == stale.keys():
        show_end()


def cells_of(params: StudyParams, datasets: Collection[str], models: Collection[str]) -> set[str]:
    """Those of these datasets and models; of all where none are named."""
    return {cell_name(*each) for each in product(datasets or params.datasets, models or params.models)}


def stages_of(cells: Collection[str], waits: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The stages of the cells, `finetune@busi-dino` or `finetune_seed@busi-dino-1`, and those that they wait for."""
    items = {name: name.partition("@")[2] for name in waits}
    wanted = {name for name, item in items.items() if item in cells or item.rpartition("-")[0] in cells}
    while found := {needed for name in wanted for needed in waits[name]} - wanted:
        wanted |= found
    return {name: needed for name, needed in waits.items() if name in wanted}


def show_end() -> None:
    """The study's table, in the terminal and on its run's page, and where to look."""
    from pipeline.report.console import console_table  # pandas is not needed before

    table, page = console_table(REPORT), REPORT / "index.html"
    versions = asked(lambda client: newest_page(client, VERSIONS_PAGE)) or ""
    places = f"The report is `{page.absolute()}`; the runs and models are in [MLflow]({page_of('mlflow')})."
    show_markdown("study", f"```\n{table}\n```\n\n{places}\n\n{versions}", "What the study found")
    print(f"{table}\n\nreport           {page}\nruns and models  make ui")


def parser() -> argparse.ArgumentParser:
    params = load_params()
    found = argparse.ArgumentParser(
        prog="python -m flows.study", description=(study.function.__doc__ or "").splitlines()[0]
    )
    told = "stages at a time; default: one for each GPU, or as many as have cores of their own"
    found.add_argument("--workers", type=at_least_one, help=told)
    known = {"datasets": params.study.datasets, "models": params.study.models}
    for name, choices in known.items():
        told = f"only cells of these {name}, without the report"
        found.add_argument(f"--{name}", nargs="+", default=[], choices=choices, metavar=name[:-1].upper(), help=told)
    return found


def at_least_one(text: str) -> int:
    """For argparse, which tells of it by this function's name."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main() -> None:
    given = vars(parser().parse_args())
    with prefect_server():
        study(**given)


if __name__ == "__main__":
    run_main(main)
