"""params.yaml: both shipped files load; every fault is refused by its full key."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from pipeline.errors import StudyError
from pipeline.params import MethodName, SubstrateName, load_params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def edited(tmp_path):
    """Writes params.yaml with one value changed (a dotted key; `None` removes it) and gives its path."""

    def edit(key: str, value: object) -> Path:
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        *parents, last = key.split(".")
        section = tree
        for name in parents:
            section = section[name]
        section[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        return path

    return edit


@pytest.mark.parametrize("name", ["params.yaml", "params/paper.yaml"])
def test_the_shipped_studies_load(name):
    params = load_params(ROOT / name)
    assert params.study.models == ("vit", "deit", "dino", "swin")
    assert params.study.datasets == ("pbc", "busi")


def test_both_studies_have_the_same_keys():
    embedded, paper = (load_params(ROOT / name).model_dump() for name in ("params.yaml", "params/paper.yaml"))
    assert _keys(embedded) == _keys(paper)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("finetune.epoch", 3, "finetune.epoch: unknown key"),
        ("finetune.epochs", "many", "finetune.epochs: Input should be a valid integer"),
        ("finetune.label_smoothing", 1.5, "finetune.label_smoothing: Input should be less than 1"),
        ("finetune.class_balance", "lots", "'loss', 'sampling' or 'none'"),
        ("models.vit.learning_rate", -1.0, "models.vit.learning_rate: Input should be greater than 0"),
        ("study.models", ["vit", "resnet"], "study.models: unknown resnet; choose from vit, deit, dino, swin"),
        ("study.datasets", ["pbc", "pbc"], "study.datasets: a name stands twice"),
        ("study.device", "gpu", "study.device"),
        ("runner.kind", "dask", "runner: address: 'none' is none of a dask runner; give tcp:// or tls://"),
        ("runner.address", "tcp://127.0.0.1:8786", "is none of a local runner; give none"),
        (
            "runner",
            {"kind": "dask", "address": "tcp://head:x"},
            "'tcp://head:x' ends with no port; give tcp://host:port",
        ),
        ("study.seeds", [1, 0], "study: seeds holds study.seed (0), which is fine-tuned anyway"),
        ("study.seeds", [1, 2, 1], "study: seeds holds a seed twice"),
        ("study.seeds", [-1], "study.seeds.0: Input should be greater than or equal to 0"),
        ("explain.methods", ["gradcam", "lime"], "explain.methods.1: Input should be 'gradcam', "),
        ("score.insertion_substrate", "fog", "score.insertion_substrate: Input should be 'zero', 'mean', 'blur', "),
        ("finetune.warmup_epochs", 99, "warmup_epochs (99) must be less than epochs"),
        ("pretraining.strategies.vit", "magic", "'supervised', 'distilled' or 'dino'"),
        ("pretraining.strategies", {"resnet": "dino"}, "pretraining.strategies: unknown resnet; choose from vit"),
        ("pretraining.stages", ["resnet"], "pretraining.stages: unknown resnet; choose from vit"),
        ("pretraining.seed", 0, "pretraining.seed: must differ from phantom.seed"),
        ("pretraining.dino.views.global_scale", [0.4, 2.0], "pretraining.dino.views.global_scale.1: Input should be"),
        ("score.steps", 1, "score.steps: Input should be greater than or equal to 2"),
        ("score.variants", {"wide": {"unit": 8}}, "score: variants.wide.unit: unknown key"),
        ("score.variants", {"Wide": {}}, "score.variants.Wide"),
    ],
)
def test_a_fault_is_refused_by_its_full_key(edited, key, value, words):
    with pytest.raises(StudyError) as refusal:
        load_params(edited(key, value))
    assert words in str(refusal.value)


def test_a_repeat_differs_from_the_study_by_its_seed_only(edited):
    study = load_params(edited("study.seeds", [1, 2])).study
    assert study.of_repeat(None) == study
    assert study.of_repeat(2) == study.model_copy(update={"seed": 2})
    with pytest.raises(StudyError, match=r"study\.seeds: 3 is not among them"):
        study.of_repeat(3)


def test_the_names_that_params_allow_are_those_of_the_registries():
    from pipeline.explain import METHODS
    from pipeline.metrics.substrates import NAMES

    assert set(get_args(MethodName)) == set(METHODS)
    assert set(get_args(SubstrateName)) == set(NAMES)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(StudyError, match="run from the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_is_said_to_be_broken(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("study: [1, 2")
    with pytest.raises(StudyError, match="not valid YAML"):
        load_params(path)


def test_a_loaded_section_cannot_be_changed():
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.finetune.epochs = 1


def _keys(tree: dict) -> set[str]:
    free_form = ("arch_options", "variants")
    keys = set()
    for name, value in tree.items():
        keys.add(name)
        if isinstance(value, dict) and name not in free_form:
            keys |= {f"{name}.{key}" for key in _keys(value)}
    return keys
