"""Stage `publish`: brings MLflow in step with the study's files. A second run changes nothing."""

import subprocess
from pathlib import Path

from flows.layout import DATA
from flows.runner import Step, main, show_table, stage
from pipeline.params import load_params
from pipeline.publishing import Context, publish_study

publish_step = Step(publish_study, retries=2)


@stage("publish")
def publish() -> None:
    """Bring MLflow's runs, models and versions in step with the files."""
    published = publish_step(DATA, load_params(), context())
    rows = [{"model": p.model_name, "version": p.version, "new": p.created} for p in published if p.model_name]
    show_table("model-versions", rows, "Registered model versions")


def context() -> Context:
    """The commit the files were made from, None outside git, and DVC's hashes."""
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return Context(result.stdout.strip() or None, Path("dvc.lock"))


if __name__ == "__main__":
    main(publish)
