"""Stage `report`: tables, figures, findings, model cards and the page, from the files of all cells."""

import json

from flows.artifacts import show_picture, show_table
from flows.layout import DATA, REPORT
from flows.options import main
from flows.runner import Step, stage
from pipeline.params import load_params
from pipeline.report.page import write_report

write_step = Step(write_report, called="tables, figures, findings, page")


@stage("report")
def report() -> None:
    """Write the report on all cells of the study."""
    write_step(DATA, REPORT, load_params())
    findings = json.loads((REPORT / "findings.json").read_text(encoding="utf-8"))
    rows = [{key: each[key] for key in ("id", "verdict", "claim", "would_change")} for each in findings]
    show_table("verdicts", rows, "The claims, answered by this run")
    for sheet in sorted((REPORT / "figures").glob("*_gallery.jpg")):
        dataset = sheet.stem.removesuffix("_gallery")
        show_picture(sheet.stem, sheet, f"Heatmaps of the same images by all models, {dataset}")


if __name__ == "__main__":
    main(report)
