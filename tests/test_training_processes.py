"""Two real processes share a fine-tuning: they learn what one learns, and go on with equal bytes after a kill."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.data import DATASETS
from pipeline.files import sha256_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import load_params
from pipeline.records import Receipt
from pipeline.training import fit_cell
from pipeline.training.processes import Share
from tests.models.tiny import ARCHITECTURES, draw_images
from tests.prepared import CLASSES, write_prepared
from tests.study import ROOT, merge, study_environment

pytestmark = pytest.mark.slow

CELL = ("--dataset", "busi", "--model", "vit")
WRITTEN = ("model.safetensors", "history.csv", "receipt.json", "predictions.csv")


def make_project(folder):
    """14 training images in batches of 5: the shares are 3 and 2, in an epoch's last batch 2 and 2."""
    arch, options = ARCHITECTURES["vit"]
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    merge(
        tree,
        {
            "study": {"datasets": ["busi"], "models": ["vit"], "device": "cpu"},
            "models": {"vit": {"arch": arch, "arch_options": options, "weights": "none", "learning_rate": 3e-3}},
            "finetune": {"epochs": 4, "batch_size": 5, "processes": 2, "class_balance": "loss", "label_smoothing": 0.1},
        },
    )
    write_prepared(folder / "data/prepared/busi", spec=replace(DATASETS["busi"], classes=CLASSES))
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return folder


def run(folder, module, *arguments):
    environment = study_environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *CELL, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The model folder that two processes wrote."""
    folder = make_project(tmp_path_factory.mktemp("two"))
    result = run(folder, "flows.finetune")
    assert result.returncode == 0, result.stderr
    return folder / "data/models/busi/vit"


def test_two_processes_learn_what_one_learns(two, tmp_path):
    params = load_params(make_project(tmp_path) / "params.yaml")
    folders = (tmp_path / "data/prepared/busi", tmp_path / "one", tmp_path / "state")
    fit_cell(*folders, "vit", params.models["vit"], params.finetune, params.study, lambda done, total: None)
    histories = [pd.read_csv(folder / "history.csv") for folder in (two, tmp_path / "one")]
    pd.testing.assert_frame_equal(*histories, check_exact=False, rtol=1e-5)
    # Not the weights: the keys' biases have no gradient but rounding, which Adam makes steps of.
    answers = [load_checkpoint(folder / "model.safetensors")[0](draw_images()) for folder in (two, tmp_path / "one")]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)
    assert [Receipt.read(folder).processes for folder in (two, tmp_path / "one")] == [2, 1]


def test_a_process_killed_in_the_middle_ends_all_and_a_rerun_ends_with_the_same_bytes(two, tmp_path):
    folder = make_project(tmp_path)
    broken = run(folder, "tests.training_worker", "--at", "8")  # the second batch of the third epoch
    assert (broken.returncode, broken.stderr.splitlines()[-1].split(" (")[0]) == (
        2, "error: one of 2 processes was ended from outside"
    )  # fmt: skip
    assert "Traceback" not in broken.stderr
    again = run(folder, "flows.finetune")
    assert (again.returncode, again.stderr.count("going on after epoch 2")) == (0, 1), again.stderr
    written = folder / "data/models/busi/vit"
    assert [sha256_of(written / name) for name in WRITTEN] == [sha256_of(two / name) for name in WRITTEN]


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_shares_of_a_batch_are_the_batch(processes):
    rows = np.array([4, 8, 1, 0, 9])
    shares = [Share(position, processes).of(rows) for position in range(processes)]
    np.testing.assert_array_equal(np.concatenate(shares), rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
