"""Stage `fetch`: one dataset's archive, from where `datasets.<d>.source` says, to data/raw/<dataset>."""

from flows.artifacts import progress_of
from flows.layout import raw_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline import data
from pipeline.data.fetching.source import fetch_source
from pipeline.params import load_params

fetch_step = Step(fetch_source, retries=2, called="fetch")


@stage("fetch {dataset}")
def fetch(dataset: str) -> None:
    """Bring one dataset's archive to data/raw."""
    params = load_params()
    fetch_step(
        data.spec_of(dataset, params.datasets[dataset]),
        params.datasets[dataset],
        params.phantom,
        raw_dir(dataset),
        processes=params.study.threads,
        progress=progress_of(f"fetch {dataset}"),
        key=f"datasets.{dataset}.source",
    )


if __name__ == "__main__":
    main(fetch)
