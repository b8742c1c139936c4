"""Stage `publish`: brings MLflow in step with the study's files. A second run changes nothing.

`--check` only looks: it lists where MLflow and the files disagree, and ends with exit code 1 if they do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from flows.artifacts import show_table
from flows.durations import read_durations
from flows.layout import DATA, PROMOTIONS, REPORT
from flows.options import main
from flows.revisions import commit, has_changes, revision_holding
from flows.runner import Step, stage
from flows.servers import page_of
from pipeline.errors import OutOfStepError
from pipeline.params import load_params
from pipeline.publishing import Context, Drift, Published, Study, check_study, publish_study
from pipeline.report.publication import Publication, VersionLink, write_published

publish_step = Step(publish_study, retries=2)
check_step = Step(check_study)
page_step = Step(write_published)


@stage("publish")
def publish(check: bool = False, thorough: bool = False) -> None:
    """Bring MLflow's runs, models and versions in step with the files.

    --check only tells where they are not; --thorough reads the files that MLflow keeps behind a server too.
    """
    study = Study(DATA, load_params(), context(), PROMOTIONS)
    if check:
        return tell(check_step(study))
    published = publish_step(study, thorough)
    rows = [
        {"model": p.model_name, "version": p.version, "new": p.created, "set right": "; ".join(p.repaired)}
        for p in published
        if p.model_name
    ]
    show_table("model-versions", rows, "Registered model versions")
    told = Publication(study.context.told_commit, links(published, page_of("mlflow")), read_durations())
    page_step(REPORT, told)


def tell(drifts: Sequence[Drift]) -> None:
    """Raises OutOfStepError unless there are none."""
    for drift in drifts:
        print(drift)
    if drifts:
        remedy = "`python -m flows.publish --thorough` mends what it can"
        raise OutOfStepError(f"MLflow and the files disagree in {len(drifts)} places; {remedy}")
    print("MLflow and the files agree")


def context() -> Context:
    """What git and DVC tell of the files."""
    found = Context(commit(), Path("dvc.lock"), has_changes())
    prepared = {md5 for path, md5 in found.dvc_md5s.items() if path.parent == (DATA / "prepared").resolve()}
    revisions = {md5: revision for md5 in prepared if (revision := revision_holding(md5))}
    return replace(found, data_revisions=revisions)


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
