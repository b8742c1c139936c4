"""Stage `publish`: brings MLflow in step with the study's files. A second run changes nothing.

`--check` only looks: it lists where MLflow and the files disagree, and ends with exit code 1 if they do.
"""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from flows.durations import read_durations
from flows.layout import DATA, PROMOTIONS, REPORT
from flows.runner import Step, main, show_table, stage
from flows.servers import page_of
from pipeline.errors import OutOfStepError
from pipeline.params import load_params
from pipeline.publishing import Context, Drift, Published, check_study, publish_study
from pipeline.report.publication import Publication, VersionLink, write_published

publish_step = Step(publish_study, retries=2)
check_step = Step(check_study)
page_step = Step(write_published)


@stage("publish")
def publish(check: bool = False) -> None:
    """Bring MLflow's runs, models and versions in step with the files; with --check, only tell where they are not."""
    told = context()
    if check:
        return tell(check_step(DATA, load_params(), told, PROMOTIONS))
    published = publish_step(DATA, load_params(), told, PROMOTIONS)
    rows = [
        {"model": p.model_name, "version": p.version, "new": p.created, "set right": "; ".join(p.repaired)}
        for p in published
        if p.model_name
    ]
    show_table("model-versions", rows, "Registered model versions")
    page_step(REPORT, Publication(shown_commit(told), links(published, page_of("mlflow")), read_durations()))


def tell(drifts: Sequence[Drift]) -> None:
    """Raises OutOfStepError unless there are none."""
    for drift in drifts:
        print(drift)
    if drifts:
        raise OutOfStepError(f"MLflow and the files disagree in {len(drifts)} places; `python -m flows.publish` mends")
    print("MLflow and the files agree")


def context() -> Context:
    """The commit that is checked out, None outside git, and DVC's hashes."""
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return Context(result.stdout.strip() or None, Path("dvc.lock"))


def shown_commit(told: Context) -> str | None:
    """With a word where files differ from it; dvc.lock does after every run that made something."""
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock"]
    changed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{told.git_commit}, with changes" if told.git_commit and changed else told.git_commit


def links(published: Iterable[Published], page: str) -> list[VersionLink]:
    """The addresses in MLflow's pages of each cell's version and run."""
    return [
        VersionLink(
            each.subject,
            each.model_name,
            each.version,
            f"{page}/#/models/{each.model_name}/versions/{each.version}",
            f"{page}/#/experiments/{each.experiment}/runs/{each.run_id}",
        )
        for each in published
        if each.model_name and each.version
    ]


if __name__ == "__main__":
    main(publish)
