"""The Python blocks of docs/mlflow.md, for the tests that run them as they stand."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/mlflow.md").read_text(encoding="utf-8")


def run_documented(line: str) -> dict:
    """What the block that holds `line` defines."""
    world: dict = {}
    exec(next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if line in block), world)
    return world
