"""Stage `preprocess`: a raw archive to arrays, an index with a leak-free split, and an audit of what was found."""

from flows.artifacts import progress_of, show_table
from flows.layout import prepared_dir, raw_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline import data
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.params import load_params

prepare_step = Step(prepare_dataset, called="index, audit, split, resize")


@stage("preprocess {dataset}")
def preprocess(dataset: str) -> None:
    """Index, audit, split and resize one dataset."""
    params = load_params()
    audit = prepare_step(
        data.spec_of(dataset, params.datasets[dataset]),
        params.datasets[dataset],
        params.preprocess,
        params.study.seed,
        raw_dir(dataset),
        prepared_dir(dataset),
        processes=params.study.threads,
        progress=progress_of(f"preprocess {dataset}"),
    )
    counts = [{"split": split, **classes} for split, classes in audit.images_per_split.items()]
    show_table(f"split-{dataset}", counts, f"Images of {dataset} per split and class")


if __name__ == "__main__":
    main(preprocess)
