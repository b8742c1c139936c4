"""The whole study: what `dvc repro` would run, several stages at a time, watched by Prefect; its table at the end."""

import argparse

from flows.command import run_main
from flows.layout import REPORT
from flows.room import room_here
from flows.servers import prefect_server
from flows.stages import run_stages, stale_stages
from pipeline.errors import StudyError
from pipeline.params import load_params


def study(workers: int | None = None) -> None:
    """Bring the whole study up to date, then print its table and where to look.

    Raises:
        StudyError: a stage failed; stages that do not wait for it have run.
    """
    params = load_params()  # a fault in params.yaml is named here once, not by the first stage that meets it
    with prefect_server():
        failed = run_stages(stale_stages(), room_here(params, workers))
    if failed:
        raise StudyError(f"{', '.join(failed)} failed; the reason is above, after the stage's name")
    from pipeline.report.console import console_table  # pandas is not needed before

    print(f"{console_table(REPORT)}\n\nreport           {REPORT / 'index.html'}\nruns and models  make ui")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.study", description=(study.__doc__ or "").splitlines()[0])
    told = "stages at a time; default: one for each GPU, or cores / study.threads"
    parser.add_argument("--workers", type=int, help=told)
    run_main(lambda: study(parser.parse_args().workers))


if __name__ == "__main__":
    main()
