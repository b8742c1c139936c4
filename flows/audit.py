"""Stage `audit`: what was found in a prepared set, as a page to look at; no later stage waits for it."""

from dataclasses import asdict

from flows.layout import audit_dir, prepared_dir, raw_dir
from flows.runner import Step, main, show_table, stage
from pipeline.report.audit_page import write_audit_page

page_step = Step(write_audit_page)


@stage("audit {dataset}")
def audit(dataset: str) -> None:
    """Show what was found in one dataset: its source, splits, duplicates, shortcuts, masks and files."""
    verdicts = page_step(raw_dir(dataset), prepared_dir(dataset), audit_dir(dataset))
    show_table(f"audit-{dataset}", [asdict(each) for each in verdicts], f"Audit of {dataset}")


if __name__ == "__main__":
    main(audit)
