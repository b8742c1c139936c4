"""Stage `score`: faithfulness, localisation and trust checks of one cell's attributions, beside the baselines'."""

import logging

from flows.artifacts import by_name, progress_of, show_table
from flows.engine import spread
from flows.layout import cell_name, heatmap_dir, model_dir, prepared_dir, score_dir, shards_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline.metrics.scoring import score_cell
from pipeline.params import load_params
from pipeline.shards import Scratch
from pipeline.trust_checks import check_cell

log = logging.getLogger("flows")

score_step = Step(score_cell, called="scores")
check_step = Step(check_cell, called="trust checks", heavy=True)


@stage(lambda dataset, model, seed=None: f"score {cell_name(dataset, model, seed)}", heavy=True)
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
    progress = progress_of(f"score {cell}", "image")
    scratch = Scratch(shards_dir("score", dataset, model, seed), spread())
    summary = score_step(*folders, dataset, model, params.score, params.study, progress=progress, scratch=scratch)
    shown = f"Faithfulness and localisation of {cell}: probabilities and fractions, 0 to 1"
    show_table(f"scores-{cell}", by_name("method", summary.metrics), shown)
    trust = check_step(
        *folders,
        params.score.trust_images,
        params.explain.batch_size,
        params.study,
        progress=progress_of(f"trust {cell}", "check"),
    )
    log.info("%s: scores, curves and trust checks are in %s", cell, score_dir(dataset, model, seed))
    show_table(f"trust-{cell}", by_name("method", trust.metrics), f"Trust checks of {cell}")


if __name__ == "__main__":
    main(score)
