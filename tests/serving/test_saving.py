"""What MLflow keeps of a model: nothing pickled, all that is needed, and requirements that are true and enough."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import uvicorn
from mlflow.models.container import DEFAULT_INFERENCE_SERVER_PORT
from mlflow.pyfunc import scoring_server
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.files import files_under, sha256_of
from pipeline.records import Receipt
from pipeline.serving import saving
from tests.serving.worlds import in_base64

pytestmark = pytest.mark.slow


def test_the_folder_holds_no_pickle(folder):
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file() and "code" not in path.parts}
    assert kinds <= {"", ".py", ".yaml", ".txt", ".json", ".md", ".safetensors"}
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".pyc", ".bin")]


def test_checkpoint_and_receipt_travel_with_the_model(folder):
    receipt = Receipt.read(folder / "artifacts")
    assert receipt.checkpoint_sha256 == sha256_of(folder / "artifacts" / "model.safetensors")


def test_the_signature_names_every_class_and_every_param_with_its_default(served):
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["image"]
    always = ["label", "probability", "p_normal", "p_benign", "p_malignant"]
    assert signature.outputs.required_input_names() == always
    assert set(signature.outputs.optional_input_names()) == {
        "top_k", "method", "target", "grid", "attribution", "heatmap",
    }  # fmt: skip
    assert {param.name: param.default for param in signature.params} == {
        "method": "gradcam", "target": "", "top_k": 0, "return_heatmap": False,
    }  # fmt: skip


def test_requirements_are_pinned_to_what_any_index_has():
    assert all("==" in line and "+" not in line for line in saving.requirements())


def test_a_process_with_nothing_but_the_folder_and_its_requirements_predicts_and_explains(folder, images, tmp_path):
    (tmp_path / "rows.json").write_text(in_base64(images).to_json(orient="split"))
    required = closure([Requirement(line) for line in (folder / "requirements.txt").read_text().split()])
    script = f"""
import json, sys
from importlib.machinery import PathFinder
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {modules_outside(required)!r} else PathFinder.find_spec(name, path, target)
sys.path[:] = [path for path in sys.path if path]
finders = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.meta_path[:] = [Installed if finder is PathFinder else finder for finder in finders]
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model({str(folder)!r})
answer = model.predict(pd.DataFrame(**json.load(open("rows.json"))), params=dict(return_heatmap=True))
import pipeline
print(json.dumps([pipeline.__file__, len(answer), sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    origin, rows, imported = json.loads(result.stdout.splitlines()[-1])
    assert Path(origin).is_relative_to(folder)
    assert rows == 5
    used = set().union(*(owners_of_modules().get(name, ()) for name in imported))
    assert {canonicalize_name(name) for name in saving.REQUIREMENTS} <= used, "a requirement that nothing imports"


def modules_outside(distributions: set[str]) -> set[str]:
    """Names that can be imported here and come from none of these distributions; `pipeline` is in the folder."""
    owners = owners_of_modules()
    return {name for name, found in owners.items() if not found & distributions} - {"pipeline", "_distutils_hack"}


@cache
def owners_of_modules() -> dict[str, set[str]]:
    """Top-level module -> the distributions that bring it, all that are installed."""
    return {name: {canonicalize_name(owner) for owner in found} for name, found in packages_distributions().items()}


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of the distributions that installing these brings, as far as they are installed here."""
    found: set[str] = set()
    left = list(requirements)
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            left += [each for each in needed_by(name) if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def needed_by(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in distribution(name).requires or ()]
    except ModuleNotFoundError:
        return []


def test_a_container_of_it_installs_the_same_requirements(folder, tmp_path):
    command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", str(folder), "-d", str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    (copied,) = tmp_path.rglob("requirements.txt")
    mlflow, *others = copied.read_text().split()
    assert others == saving.requirements()
    dockerfile = (tmp_path / "Dockerfile").read_text()
    assert f"RUN pip install {mlflow}\n" in dockerfile
    assert f"COPY {copied.parent.relative_to(tmp_path)} /opt/ml/model\n" in dockerfile
    assert "_install_pyfunc_deps('/opt/ml/model'" in dockerfile
    assert re.search(r'^ENTRYPOINT \["python", "-c", ".*container as C; C\._serve\(', dockerfile, re.MULTILINE)
    in_image = {path.relative_to(copied.parent): sha256_of(path) for path in files_under(copied.parent)}
    kept = {path.relative_to(folder): sha256_of(path) for path in files_under(folder)}
    assert in_image == kept, "the image holds what the registry keeps: safetensors, no pickle"


def test_a_container_without_nginx_is_reached_at_port_8000_and_the_host_that_uvicorn_is_told(monkeypatch):
    command, _ = scoring_server.get_cmd("model", port=DEFAULT_INFERENCE_SERVER_PORT)
    monkeypatch.setenv("UVICORN_HOST", "0.0.0.0")
    program, *arguments = shlex.split(command)
    told = uvicorn.main.make_context(program, arguments).params
    assert (told["host"], told["port"]) == ("0.0.0.0", 8000)
