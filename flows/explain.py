"""Stage `explain`: attributions of one cell's test predictions, by every method from one pass, and their pictures."""

from flows.layout import heatmap_dir, model_dir, prepared_dir
from flows.runner import Step, main, progress_of, show_picture, stage
from pipeline.explain.attribution import explain_cell
from pipeline.params import load_params
from pipeline.report.overlays import draw_cell_overlays

attribute_step = Step(explain_cell)
draw_step = Step(draw_cell_overlays)


@stage("explain {dataset}-{model}")
def explain(dataset: str, model: str) -> None:
    """Explain the test predictions of one cell."""
    params = load_params()
    folders = prepared_dir(dataset), model_dir(dataset, model), heatmap_dir(dataset, model)
    attribute_step(
        *folders, dataset, model, params.explain, params.study, progress=progress_of(f"explain {dataset}-{model}")
    )
    draw_step(*folders, params.explain.overlays)
    sheet = heatmap_dir(dataset, model) / "overlays" / "contact_sheet.jpg"
    if sheet.exists():
        show_picture(f"heatmaps-{dataset}-{model}", sheet, f"Heatmaps of {dataset}-{model}")


if __name__ == "__main__":
    main(explain)
