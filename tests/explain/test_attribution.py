"""One cell from files to files: which images, for which classes, what is written, what is refused."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data import DATASETS
from pipeline.data.prepared import load_prepared, to_tensor
from pipeline.errors import StudyError
from pipeline.explain import explain_batch
from pipeline.explain.attribution import choose_rows, explain_cell
from pipeline.files import sha256_of
from pipeline.models.build import build_classifier
from pipeline.models.checkpoint import CheckpointDescription, load_checkpoint, save_checkpoint
from pipeline.models.provenance import Provenance
from pipeline.params import ExplainParams, StudyParams
from pipeline.records import Audit, Explanation, Receipt
from pipeline.shards import IN_MEMORY, Scratch
from tests.prepared import write_audit

CLASSES = ("benign", "malignant", "normal")
SIDE_PX = 32
OPTIONS = {
    "deit_tiny_distilled_patch16_224": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {
        "patch_size": 4, "window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3),
    },
}  # fmt: skip
PARAMS = ExplainParams(
    methods=("gradcam", "gradient_rollout"),
    max_images=9,
    overlays=0,
    batch_size=4,
    rollout_mode="corrected",
    cam_layer="auto",
    discard_ratio=0.9,
    head_fusion="mean",
    residual_scaling="none",
    integrated_gradients_steps=4,
    rise_masks=8,
)
STUDY = StudyParams(datasets=("busi",), models=("deit",), seed=0, seeds=(), device="cpu", threads=1)


def write_prepared(folder, num_images=60):
    """Noise; class 0 is half of the images; two thirds of the rows are test rows."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    labels = generator.choice(3, size=num_images, p=(0.5, 0.25, 0.25))
    np.save(folder / "images.npy", generator.integers(256, size=(num_images, SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    rows = np.arange(num_images)
    index = pd.DataFrame({"row": rows, "file": [f"{row}.png" for row in rows], "class": np.array(CLASSES)[labels]})
    index = index.assign(
        label=labels, split=np.where(rows % 3, "test", "train"), group=rows, sha256="0", has_mask=False
    )
    index.to_csv(folder / "index.csv", index=False)
    index[["row"]].to_csv(folder / "traits.csv", index=False)
    counts = {name: int((labels == label).sum()) for label, name in enumerate(CLASSES)}
    nothing = {"exact_duplicates": 0, "duplicate_groups": (), "label_conflicts": (), "dropped": (), "flagged": ()}
    audit = Audit(
        spec=replace(DATASETS["busi"], classes=CLASSES), image_size_px=SIDE_PX, data_sha256="d" * 64, images=num_images,
        images_per_class=counts, images_per_split={}, masks=0, **nothing,
    )  # fmt: skip
    write_audit(audit, folder)


def write_model(folder, arch):
    folder.mkdir()
    classifier = build_classifier(arch, OPTIONS[arch], "none", 3, SIDE_PX, seed=0)
    for parameter in classifier.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25, generator=torch.Generator().manual_seed(parameter.numel()))
    facts = {"arch": arch, "arch_options": OPTIONS[arch], "weights": "none", "classes": CLASSES}
    facts |= {"image_size_px": SIDE_PX, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    save_checkpoint(classifier, CheckpointDescription(**facts), folder / "model.safetensors")
    Receipt(
        dataset="busi", model="deit", parameters=1, seed=0, epochs_run=1, best_epoch=1, best_validation_macro_f1=0.5,
        augmentation={}, precision="fp32", checkpoint_sha256=sha256_of(folder / "model.safetensors"),
        data_sha256="d" * 64, packages={}, **facts, **asdict(Provenance()),
    ).write(folder)  # fmt: skip


@pytest.fixture(params=OPTIONS)
def cell(tmp_path, request):
    write_prepared(tmp_path / "prepared")
    write_model(tmp_path / "model", request.param)
    return tmp_path


def explain(cell, folder="heatmaps", params=PARAMS, progress=lambda done, total: None, scratch=IN_MEMORY):
    folders = (cell / "prepared", cell / "model", cell / folder)
    return explain_cell(*folders, "busi", "deit", params, STUDY, progress, scratch)


@pytest.fixture
def arrays(cell):
    explain(cell)
    with np.load(cell / "heatmaps" / "attributions.npz") as file:
        return dict(file)


def test_targets_are_the_predicted_classes_and_the_missed_true_ones(cell, arrays):
    labels = load_prepared(cell / "prepared").index["label"].to_numpy()
    assert len(arrays["rows_predicted"]) == 9
    assert (arrays["targets_predicted"] == arrays["probabilities"].argmax(axis=1)).all()
    wrong = arrays["targets_predicted"] != labels[arrays["rows_predicted"]]
    assert wrong.any()
    assert (arrays["rows_true"] == arrays["rows_predicted"][wrong]).all()
    assert (arrays["targets_true"] == labels[arrays["rows_true"]]).all()


def test_probabilities_are_the_models(cell, arrays):
    classifier, _ = load_checkpoint(cell / "model" / "model.safetensors")
    images = to_tensor(load_prepared(cell / "prepared").images[arrays["rows_predicted"]])
    expected = classifier(images).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(arrays["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("rule", ["predicted", "true"])
def test_maps_are_those_of_the_methods(cell, arrays, rule):
    classifier, _ = load_checkpoint(cell / "model" / "model.safetensors")
    images = to_tensor(load_prepared(cell / "prepared").images[arrays[f"rows_{rule}"]])
    targets = torch.from_numpy(arrays[f"targets_{rule}"])
    expected = explain_batch(classifier, images, targets, PARAMS.methods, PARAMS)
    for name, maps in expected.items():
        assert arrays[f"{name}/{rule}"].dtype == np.float32
        np.testing.assert_allclose(arrays[f"{name}/{rule}"], maps.numpy(), rtol=1e-3, atol=1e-6)


def test_the_record_tells_what_the_arrays_hold(cell, arrays):
    record = Explanation.read(cell / "heatmaps")
    assert record.attributions_sha256 == sha256_of(cell / "heatmaps" / "attributions.npz")
    assert record.images == len(arrays["rows_predicted"])
    assert record.misclassified == len(arrays["rows_true"])
    assert {"random", "centre", "edge"} <= set(record.baselines)
    for name in (*record.methods, *record.baselines):
        assert arrays[f"{name}/predicted"].shape == (record.images, *record.grids[name])
        assert arrays[f"{name}/true"].shape == (record.misclassified, *record.grids[name])


def test_baselines_lie_on_the_grids_of_the_methods(cell, arrays):
    grids = Explanation.read(cell / "heatmaps").grids
    assert grids["random"] == grids["centre"] == grids["edge"] == grids["gradcam"]
    rows, columns = grids["gradient_rollout"]
    assert grids["gradient_rollout"] == grids["random"] or f"random_{rows}x{columns}" in grids


def test_equal_inputs_give_equal_bytes_and_leave_nothing_else(cell):
    explain(cell, "one")
    explain(cell, "two")
    names = ["attributions.npz", "explanation.json"]
    assert sorted(path.name for path in (cell / "one").iterdir()) == names
    for name in names:
        assert (cell / "one" / name).read_bytes() == (cell / "two" / name).read_bytes()


def test_progress_reaches_its_total(cell):
    calls = []
    record = explain(cell, progress=lambda done, total: calls.append((done, total)))
    total = record.images + record.misclassified
    assert calls == [(min(done + 32, total), total) for done in range(0, total, 32)]


@pytest.mark.parametrize("batch_size", [4, 20])
def test_shards_on_disk_give_the_same_bytes_and_leave_nothing(cell, batch_size):
    params = PARAMS.model_copy(update={"max_images": None, "batch_size": batch_size})
    explain(cell, "whole", params)
    explain(cell, "in_shards", params, scratch=Scratch(cell / "scratch"))
    whole, in_shards = ((cell / name / "attributions.npz").read_bytes() for name in ("whole", "in_shards"))
    assert in_shards == whole
    assert not (cell / "scratch").exists()


def test_a_killed_run_goes_on_with_the_same_bytes(cell):
    def kill(done, total):
        raise KeyboardInterrupt

    params, scratch = PARAMS.model_copy(update={"max_images": None}), Scratch(cell / "scratch")
    with pytest.raises(KeyboardInterrupt):
        explain(cell, "killed", params, kill, scratch)
    assert not (cell / "killed").exists()
    finished = {path: path.stat().st_ino for path in (cell / "scratch").rglob("explain-*.npz")}
    seen = []
    explain(
        cell, "again", params, lambda done, total: seen.append({each: each.stat().st_ino for each in finished}), scratch
    )
    assert len(finished) == 1
    assert all(each == finished for each in seen)
    explain(cell, "whole", params)
    assert (cell / "again" / "attributions.npz").read_bytes() == (cell / "whole" / "attributions.npz").read_bytes()


def test_another_checkpoint_than_the_receipts_is_refused(cell):
    receipt = json.loads((cell / "model" / "receipt.json").read_text())
    (cell / "model" / "receipt.json").write_text(json.dumps({**receipt, "checkpoint_sha256": "0" * 64}))
    with pytest.raises(StudyError, match=r"model\.safetensors: not the checkpoint of the receipt"):
        explain(cell)
    assert not (cell / "heatmaps").exists()


def test_another_prepared_set_than_the_receipts_is_refused(cell):
    about = json.loads((cell / "prepared" / "set.json").read_text())
    (cell / "prepared" / "set.json").write_text(json.dumps({**about, "data_sha256": "0" * 64}))
    with pytest.raises(StudyError, match="prepared: not the set that"):
        explain(cell)


def test_an_unknown_method_is_refused(cell):
    with pytest.raises(StudyError, match=r"explain\.methods: unknown method lime"):
        explain(cell, params=PARAMS.model_copy(update={"methods": ("gradcam", "lime")}))


@pytest.fixture
def prepared(tmp_path):
    write_prepared(tmp_path / "prepared")
    return load_prepared(tmp_path / "prepared")


def test_chosen_rows_are_test_rows_balanced_over_classes(prepared):
    rows = choose_rows(prepared, 9, seed=0)
    chosen = prepared.index.iloc[rows]
    assert (np.diff(rows) > 0).all()
    assert (chosen["split"] == "test").all()
    assert chosen["label"].value_counts().to_dict() == {0: 3, 1: 3, 2: 3}


def test_a_class_that_runs_out_leaves_its_place_to_the_others(prepared):
    available = prepared.index[prepared.index["split"] == "test"]["label"].value_counts()
    chosen = prepared.index.iloc[choose_rows(prepared, 35, seed=0)]["label"].value_counts()
    assert chosen.sum() == 35
    assert (chosen[available < 35 // 3] == available[available < 35 // 3]).all()


def test_without_a_limit_all_test_rows_are_explained(prepared):
    assert (choose_rows(prepared, None, seed=0) == prepared.rows("test")).all()


def test_the_choice_depends_on_the_seed_only(prepared):
    assert (choose_rows(prepared, 9, seed=0) == choose_rows(prepared, 9, seed=0)).all()
    assert (choose_rows(prepared, 9, seed=0) != choose_rows(prepared, 9, seed=1)).any()
