"""Stage `explain`: attributions of one cell's test predictions, by every method from one pass, and their pictures."""

import logging

from flows.artifacts import progress_of, show_picture
from flows.engine import spread
from flows.layout import cell_name, heatmap_dir, model_dir, prepared_dir, shards_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline.explain.attribution import explain_cell
from pipeline.params import load_params
from pipeline.report.overlays import draw_cell_overlays
from pipeline.shards import Scratch

log = logging.getLogger("flows")

attribute_step = Step(explain_cell, called="attributions")
draw_step = Step(draw_cell_overlays, called="overlays")


@stage(lambda dataset, model, seed=None: f"explain {cell_name(dataset, model, seed)}", heavy=True)
def explain(dataset: str, model: str, seed: int | None = None) -> None:
    """Explain the test predictions of one cell."""
    params, cell = load_params(), cell_name(dataset, model, seed)
    folders = prepared_dir(dataset), model_dir(dataset, model, seed), heatmap_dir(dataset, model, seed)
    # A repeat is explained with study.seed too: on the same images, beside the same random maps.
    progress = progress_of(f"explain {cell}", "map")
    scratch = Scratch(shards_dir("explain", dataset, model, seed), spread())
    attribute_step(*folders, dataset, model, params.explain, params.study, progress=progress, scratch=scratch)
    draw_step(*folders, params.explain.overlays)
    log.info("%s: attributions and their pictures are in %s", cell, heatmap_dir(dataset, model, seed))
    sheet = heatmap_dir(dataset, model, seed) / "overlays" / "contact_sheet.jpg"
    if sheet.exists():
        show_picture(f"heatmaps-{cell}", sheet, f"Heatmaps of {cell}")


if __name__ == "__main__":
    main(explain)
