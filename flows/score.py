"""Stage `score`: faithfulness, localisation and trust checks of one cell's attributions, beside the baselines'."""

from flows.layout import heatmap_dir, model_dir, prepared_dir, score_dir
from flows.runner import Step, main, progress_of, show_table, stage
from pipeline.metrics.scoring import score_cell
from pipeline.params import load_params
from pipeline.trust_checks import check_cell

score_step = Step(score_cell)
check_step = Step(check_cell)


@stage("score {dataset}-{model}")
def score(dataset: str, model: str) -> None:
    """Score the heatmaps of one cell."""
    params = load_params()
    summary = score_step(
        prepared_dir(dataset),
        model_dir(dataset, model),
        heatmap_dir(dataset, model),
        score_dir(dataset, model),
        dataset,
        model,
        params.score,
        params.study,
        progress=progress_of(f"score {dataset}-{model}"),
    )
    rows = [{"method": method, **values} for method, values in summary.metrics.items()]
    show_table(f"scores-{dataset}-{model}", rows, f"Faithfulness and localisation of {dataset}-{model}")
    trust = check_step(
        prepared_dir(dataset),
        model_dir(dataset, model),
        heatmap_dir(dataset, model),
        score_dir(dataset, model),
        params.score.trust_images,
        params.explain.batch_size,
        params.study,
        progress=progress_of(f"trust {dataset}-{model}"),
    )
    rows = [{"method": method, **values} for method, values in trust.metrics.items()]
    show_table(f"trust-{dataset}-{model}", rows, f"Trust checks of {dataset}-{model}")


if __name__ == "__main__":
    main(score)
