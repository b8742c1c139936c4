"""The whole study: `dvc repro`, watched by a Prefect server that is up while it runs, and its table at the end."""

import argparse
import subprocess
import sys

from flows.layout import REPORT
from flows.runner import run_main
from flows.servers import prefect_server
from pipeline.params import load_params


def study() -> None:
    """Reproduce what is stale, then print the table and where to look."""
    load_params()  # a fault in params.yaml is named here once, not by the first stage that meets it
    with prefect_server():
        if code := subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode:
            sys.exit(code)
    from pipeline.report.tables import console_table

    print(console_table(REPORT))
    print(f"\nreport          {REPORT / 'index.html'}\nruns and models make ui")


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m flows.study", description=study.__doc__).parse_args()
    run_main(study)
