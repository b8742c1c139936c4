"""Stage `audit`: what was found in a prepared set, as a page to look at; no later stage waits for it."""

import logging
from dataclasses import asdict

from flows.artifacts import show_table
from flows.layout import audit_dir, prepared_dir, raw_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline.report.audit_page import PAGE, TO_HEED, write_audit_page

log = logging.getLogger("flows")

page_step = Step(write_audit_page, called="audit page")


@stage("audit {dataset}")
def audit(dataset: str) -> None:
    """Show what was found in one dataset: its source, splits, duplicates, shortcuts, masks and files."""
    verdicts = page_step(raw_dir(dataset), prepared_dir(dataset), audit_dir(dataset))
    for each in verdicts:
        if each.sign in TO_HEED:
            log.warning("%s: %s: %s: %s", dataset, each.sign, each.check, each.found)
    log.info("%s: the audit is %s", dataset, audit_dir(dataset) / PAGE)
    show_table(f"audit-{dataset}", [asdict(each) for each in verdicts], f"Audit of {dataset}")


if __name__ == "__main__":
    main(audit)
