"""Stage `score`: faithfulness, localisation and trust checks of one cell's attributions, beside the baselines'."""

from flows.artifacts import progress_of, show_table
from flows.layout import cell_name, heatmap_dir, model_dir, prepared_dir, score_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline.metrics.scoring import score_cell
from pipeline.params import load_params
from pipeline.trust_checks import check_cell

score_step = Step(score_cell)
check_step = Step(check_cell)


@stage(lambda dataset, model, seed=None: f"score {cell_name(dataset, model, seed)}")
def score(dataset: str, model: str, seed: int | None = None) -> None:
    """Score the heatmaps of one cell."""
    params, cell = load_params(), cell_name(dataset, model, seed)
    folders = (
        prepared_dir(dataset),
        model_dir(dataset, model, seed),
        heatmap_dir(dataset, model, seed),
        score_dir(dataset, model, seed),
    )
    # A repeat is scored with study.seed too, so that it differs from the study's own cell by its model alone.
    summary = score_step(*folders, dataset, model, params.score, params.study, progress=progress_of(f"score {cell}"))
    rows = [{"method": method, **values} for method, values in summary.metrics.items()]
    show_table(f"scores-{cell}", rows, f"Faithfulness and localisation of {cell}")
    trust = check_step(
        *folders,
        params.score.trust_images,
        params.explain.batch_size,
        params.study,
        progress=progress_of(f"trust {cell}"),
    )
    rows = [{"method": method, **values} for method, values in trust.metrics.items()]
    show_table(f"trust-{cell}", rows, f"Trust checks of {cell}")


if __name__ == "__main__":
    main(score)
