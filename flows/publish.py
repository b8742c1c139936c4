"""Stage `publish`: brings MLflow in step with the study's files. A second run changes nothing.

`--check` only looks: it lists where MLflow and the files disagree, and ends with exit code 1 if they do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from flows.artifacts import show_markdown
from flows.durations import read_durations, slug
from flows.flow_runs import VERSIONS_PAGE, asked, hang_page
from flows.layout import DATA, PROMOTIONS, REPORT
from flows.options import main
from flows.revisions import commit, has_changes, revision_holding
from flows.runner import Step, stage
from flows.servers import page_of
from pipeline.errors import OutOfStepError
from pipeline.params import load_params
from pipeline.promotion.rendering import markdown_table
from pipeline.publishing import Context, Drift, Published, Study, check_study, publish_study
from pipeline.report.publication import Publication, VersionLink, write_published

if TYPE_CHECKING:
    from flows.flow_runs import SyncPrefectClient

patient_step = partial(Step, retries=4, pause_s=8)  # two minutes for a server to be back

publish_step = patient_step(publish_study, called="runs and versions in MLflow")
check_step = Step(check_study, called="compare with MLflow")
page_step = Step(write_published, called="links in the report")


@stage("publish")
def publish(check: bool = False, thorough: bool = False) -> None:
    """Bring MLflow's runs, models and versions in step with the files.

    --check only tells where they are not; --thorough reads the files that MLflow keeps behind a server too.
    """
    study = Study(DATA, load_params(), context(), PROMOTIONS)
    if check:
        return tell(check_step(study))
    published = publish_step(study, thorough)
    found = links(published, page_of("mlflow"))
    show_versions(found, published)
    page_step(REPORT, Publication(study.context.told_commit, found, read_durations()))


def show_versions(found: Sequence[VersionLink], published: Iterable[Published]) -> None:
    """All of them on this run's page, and each on the pages of the newest runs of its cell."""
    told = {each.subject: each for each in published}
    rows = [linked(each) | {"now": what_was_done(told[each.cell])} for each in found]
    show_markdown(VERSIONS_PAGE, markdown_table(rows), "Registered model versions")
    asked(lambda client: hang_versions(client, found))


def hang_versions(client: "SyncPrefectClient", found: Iterable[VersionLink]) -> None:
    for link, name in product(found, ("finetune", "explain", "score")):
        tags = [f"stage: {name}", f"cell: {link.cell}"]
        key, title = slug(f"version-{link.cell}"), f"The model version of {link.cell}"
        hang_page(client, tags, key, markdown_table([linked(link)]), title)


def linked(link: VersionLink) -> dict[str, str]:
    """A row of a Markdown table."""
    return {
        "cell": link.cell,
        "version": f"[{link.model_name} {link.version}]({link.version_url})",
        "run": f"[its run in MLflow]({link.run_url})",
    }


def what_was_done(published: Published) -> str:
    return "new" if published.created else "; ".join(published.repaired) or "in step already"


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
