"""Stage `report`: tables, figures, findings and the page, from the files of all cells."""

from flows.layout import DATA, REPORT
from flows.runner import Step, main, stage
from pipeline.params import load_params
from pipeline.report.page import write_report

write_step = Step(write_report)


@stage("report")
def report() -> None:
    """Write the report on all cells of the study."""
    params = load_params()
    sources = {name: params.datasets[name].source for name in params.study.datasets}
    names = params.study.datasets, params.study.models
    write_step(DATA, REPORT, *names, sources, params.report, params.findings, seed=params.study.seed)


if __name__ == "__main__":
    main(report)
