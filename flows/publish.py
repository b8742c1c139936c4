"""Stage `publish`: brings MLflow in step with the study's files. A second run changes nothing."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from flows.durations import read_durations
from flows.layout import DATA, REPORT
from flows.runner import Step, main, show_table, stage
from flows.servers import page_of
from pipeline.params import load_params
from pipeline.publishing import Context, Published, publish_study
from pipeline.report.publication import Publication, VersionLink, write_published

publish_step = Step(publish_study, retries=2)
page_step = Step(write_published)


@stage("publish")
def publish() -> None:
    """Bring MLflow's runs, models and versions in step with the files."""
    told = context()
    published = publish_step(DATA, load_params(), told)
    rows = [{"model": p.model_name, "version": p.version, "new": p.created} for p in published if p.model_name]
    show_table("model-versions", rows, "Registered model versions")
    page_step(REPORT, Publication(shown_commit(told), links(published, page_of("mlflow")), read_durations()))


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
