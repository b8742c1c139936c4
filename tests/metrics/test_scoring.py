"""Scores of a cell: metrics worked out by hand, and a tiny real cell from checkpoint to summary."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data.prepared import load_prepared, to_tensor
from pipeline.errors import StudyError
from pipeline.explain.attribution import explain_cell
from pipeline.files import sha256_of
from pipeline.metrics.drawing import Subject
from pipeline.metrics.explained import load_explained
from pipeline.metrics.faithfulness import upsampled
from pipeline.metrics.localised import LOCALISATION_COLUMNS
from pipeline.metrics.score_tables import method_metrics
from pipeline.metrics.scoring import score_cell
from pipeline.metrics.substrates import blur, zero
from pipeline.models.checkpoint import CheckpointDescription, load_checkpoint, save_checkpoint
from pipeline.models.provenance import Provenance
from pipeline.params import ExplainParams, ScoreParams, StudyParams
from pipeline.records import Explanation, PreparedSet, Receipt, Summary
from pipeline.shards import Scratch
from tests.metrics.test_faithfulness import rise_run
from tests.models.tiny import ARCHITECTURES, build
from tests.prepared import CLASSES, SIDE_PX, write_prepared

pytestmark = pytest.mark.slow

STUDY = StudyParams(datasets=("colours",), models=("swin",), seed=0, seeds=(), device="cpu", threads=1)
EXPLAIN = ExplainParams(
    methods=("gradcam", "gradient_rollout"), max_images=None, overlays=0, batch_size=32, rollout_mode="corrected",
    cam_layer="auto", discard_ratio=0.9, head_fusion="mean", residual_scaling="none", integrated_gradients_steps=4,
    rise_masks=8,
)  # fmt: skip
SCORE = ScoreParams(
    steps=8, insertion_substrate="blur", deletion_substrate="zero", unit_px=1, order="most_relevant_first",
    calibrated=False, variants={}, batch_size=50, precision="fp32", 
    pointing_tolerance_px=0, trust_images=4, bootstrap_resamples=100,
)  # fmt: skip
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Cell:
    folder: Path

    def score(self, into: str = "scores", **changes: object) -> Summary:
        folders = [self.folder / name for name in ("prepared", "model", "heatmaps", into)]
        return score_cell(
            *folders, "colours", "swin", ScoreParams(**SCORE.model_dump() | changes), STUDY, lambda done, total: None
        )

    def table(self, name: str, of: str = "scores") -> pd.DataFrame:
        return pd.read_csv(self.folder / of / f"{name}.csv")


def give_masks(prepared: Path) -> None:
    """The upper left quarter of the last four images; the first of them has a mask with nothing in it."""
    about, index = PreparedSet.read(prepared), pd.read_csv(prepared / "index.csv")
    masks = np.zeros((about.images, SIDE_PX, SIDE_PX), np.uint8)
    masks[-3:, : SIDE_PX // 2, : SIDE_PX // 2] = 1
    np.save(prepared / "masks.npy", masks)
    index["has_mask"] = index["row"] >= about.images - 4
    index.to_csv(prepared / "index.csv", index=False)
    about.model_copy(update={"masks": 4}).write(prepared)


def give_model(folder: Path) -> None:
    arch, options = ARCHITECTURES["swin"]
    description = CheckpointDescription(
        arch=arch, arch_options=options, weights="none", classes=CLASSES, image_size_px=SIDE_PX, mean=HALF, std=HALF
    )
    classifier = build("swin")
    with torch.no_grad():  # an untrained head hardly tells its classes apart
        classifier.backbone.get_classifier().weight.mul_(20)
    save_checkpoint(classifier, description, folder / "model.safetensors")
    Receipt(
        dataset="colours", model="swin", arch=arch, arch_options=options, weights="none", **asdict(Provenance()),
        classes=CLASSES,
        image_size_px=SIDE_PX, mean=HALF, std=HALF, parameters=1, seed=0, epochs_run=1, best_epoch=1,
        best_validation_macro_f1=0.5, augmentation={}, precision="fp32",
        checkpoint_sha256=sha256_of(folder / "model.safetensors"), data_sha256="d" * 64, packages={},
    ).write(folder)  # fmt: skip


def make_cell(folder: Path) -> Cell:
    give_masks(write_prepared(folder / "prepared"))
    give_model(folder / "model")
    folders = [folder / name for name in ("prepared", "model", "heatmaps")]
    explain_cell(*folders, "colours", "swin", EXPLAIN, STUDY, lambda done, total: None)
    return Cell(folder)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A cell of twelve test images, scored; not to be changed."""
    cell = make_cell(tmp_path_factory.mktemp("cell"))
    cell.score()
    return cell


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A cell to be spoilt."""
    return make_cell(tmp_path)


MAPS = (
    "gradcam", "gradient_rollout", "random", "centre", "edge", "random_8x8", "random_32x32", "swapped_gradcam",
    "swapped_gradient_rollout", "oracle",
)  # fmt: skip


def test_every_map_has_both_curves_for_both_rules(scored: Cell):
    scores, explanation = scored.table("scores"), Explanation.read(scored.folder / "heatmaps")
    assert explanation.misclassified > 1
    of_masks = scores[scores["method"] == "oracle"]
    assert len(scores) - len(of_masks) == (12 + explanation.misclassified) * (len(MAPS) - 1) * 2
    assert set(of_masks["row"]) == {32, 33, 34}
    assert not scores.duplicated(["row", "target_rule", "method", "curve"]).any()
    assert set(scores["method"]) == set(MAPS)
    assert scores[scores["target_rule"] == "true"]["correct"].sum() == 0
    assert not scores.drop(columns="normalised_auc").isna().any().any()


def test_scores_say_what_was_explained(scored: Cell):
    scores = scored.table("scores")
    predicted, true = (scores[scores["target_rule"] == rule] for rule in ("predicted", "true"))
    assert (predicted["target"] == predicted["predicted"]).all()
    assert (true["target"] == true["label"]).all()
    assert (scores["correct"] == (scores["predicted"] == scores["label"])).all()
    assert scores.groupby("curve")["substrate"].unique().map(list).to_dict() == {
        "deletion": ["zero"],
        "insertion": ["blur"],
    }
    assert scores.groupby("method")["grid"].first()[["gradcam", "random", "random_8x8"]].tolist() == [
        "4x4",
        "4x4",
        "8x8",
    ]


@pytest.mark.parametrize(("method", "rule"), [("gradcam", "predicted"), ("gradient_rollout", "true"), ("edge", "true")])
@pytest.mark.parametrize("mode", ["ins", "del"])
def test_a_cells_curves_are_those_of_rises_loop(scored: Cell, method: str, rule: str, mode: str):
    classifier, _ = load_checkpoint(scored.folder / "model" / "model.safetensors")
    curve = {"ins": "insertion", "del": "deletion"}[mode]
    with np.load(scored.folder / "heatmaps" / "attributions.npz") as arrays:
        row, target = arrays[f"rows_{rule}"][1], int(arrays[f"targets_{rule}"][1])
        saliency = upsampled(torch.from_numpy(arrays[f"{method}/{rule}"][1:2]), (SIDE_PX, SIDE_PX))[0]
    image = to_tensor(load_prepared(scored.folder / "prepared").images[row : row + 1])
    substrate = (blur if mode == "ins" else zero)(image)[0]
    with torch.inference_mode():
        points, area = rise_run(
            lambda images: classifier(images).softmax(1), image[0], substrate, saliency, target, 128, mode
        )
    with np.load(scored.folder / "scores" / "curves.npz") as curves:
        assert np.allclose(curves[f"{method}/{rule}/{curve}"][1], points, atol=1e-6)
    wanted = {"row": row, "method": method, "target_rule": rule, "curve": curve}
    found = scored.table("scores").set_index(list(wanted)).loc[tuple(wanted.values())]
    assert found["auc"] == pytest.approx(area, abs=1e-6)
    ends = points[[0, -1]] if mode == "del" else points[[-1, 0]]
    assert found[["probability_full", "probability_substrate"]].tolist() == pytest.approx(ends, abs=1e-6)


def test_every_line_says_what_it_depends_on(scored: Cell):
    scores, explanation = scored.table("scores"), Explanation.read(scored.folder / "heatmaps")
    expected = {
        "steps": 8, "tie_rule": "stable, reading order", "precision": "fp32", "unit_px": 1, "temperature": 1.0,
        "order": "most_relevant_first", "checkpoint_sha256": explanation.checkpoint_sha256,
        "data_sha256": explanation.data_sha256, "attributions_sha256": explanation.attributions_sha256,
    }  # fmt: skip
    assert (scores[list(expected)] == pd.Series(expected)).all(axis=None)
    assert scores[["method", "grid", "curve", "substrate", "target_rule", "target"]].notna().all(axis=None)
    assert {"torch", "timm"} <= explanation.packages.keys()
    assert (explanation.cam_layer, explanation.settings["rollout_mode"]) == ("norm", "corrected")


def test_the_summary_is_that_of_the_tables(scored: Cell):
    summary, scores = Summary.read(scored.folder / "scores"), scored.table("scores")
    chosen = scores[(scores["target_rule"] == "predicted") & (scores["method"] == "gradcam")]
    means = chosen.groupby("curve")["auc"].mean()
    metrics = summary.metrics["gradcam"]
    assert (metrics["insertion_auc"], metrics["deletion_auc"]) == pytest.approx((means["insertion"], means["deletion"]))
    assert metrics["insertion_auc_low"] < metrics["insertion_auc"] < metrics["insertion_auc_high"]
    assert summary.probability_full == pytest.approx(chosen.drop_duplicates("row")["probability_full"].mean())
    assert set(summary.probability_substrate) == {"blur", "zero"}
    assert (summary.steps, summary.images, summary.tie_rule) == (8, 12, "stable, reading order")
    assert summary.attributions_sha256 == sha256_of(scored.folder / "heatmaps" / "attributions.npz")


def test_misclassified_images_have_metrics_of_their_own(scored: Cell):
    summary, scores = Summary.read(scored.folder / "scores"), scored.table("scores")
    wrong = scores[~scores["correct"] & (scores["method"] == "edge") & (scores["curve"] == "deletion")]
    assert set(summary.metrics_misclassified) == {
        f"{method}/{rule}" for method in MAPS for rule in ("predicted", "true")
    }
    for rule, mean in wrong.groupby("target_rule")["auc"].mean().items():
        assert summary.metrics_misclassified[f"edge/{rule}"]["deletion_auc"] == pytest.approx(mean)


def test_mean_curves_run_over_all_fractions(scored: Cell):
    table = scored.table("curves_mean")
    with np.load(scored.folder / "scores" / "curves.npz") as curves:
        expected = curves["centre/predicted/insertion"].mean(0)
    chosen = table[(table["curve"] == "insertion") & (table["method"] == "centre")]
    assert list(table.columns) == ["curve", "method", "fraction", "probability"]
    assert chosen["fraction"].tolist() == pytest.approx(np.linspace(0, 1, 9))
    assert chosen["probability"].tolist() == pytest.approx(expected, abs=1e-6)


def test_only_images_with_something_in_their_mask_are_localised(scored: Cell):
    table, summary = scored.table("localisation"), Summary.read(scored.folder / "scores")
    predicted = table[table["target_rule"] == "predicted"]
    assert list(table.columns) == LOCALISATION_COLUMNS
    assert set(predicted["row"]) == {32, 33, 34}
    assert len(predicted) == 3 * len(MAPS)
    assert (table["mask_fraction"] == 0.25).all()
    metrics = summary.metrics["gradcam"]
    assert metrics["pointing_chance"] == 0.25
    assert metrics["mass_ratio"] == pytest.approx(predicted[predicted["method"] == "gradcam"]["mass_ratio"].mean())


def test_the_centre_puts_a_quarter_into_a_quarter(scored: Cell):
    table = scored.table("localisation")
    assert table[table["method"] == "centre"]["mass_ratio"].tolist() == pytest.approx(
        [0.25] * (table["method"] == "centre").sum()
    )


def test_scoring_again_gives_equal_bytes(scored: Cell):
    scored.score("again")
    for path in sorted((scored.folder / "scores").iterdir()):
        assert path.read_bytes() == (scored.folder / "again" / path.name).read_bytes(), path.name


def test_the_batch_size_does_not_change_the_scores(scored: Cell):
    scored.score("chunked", batch_size=3)
    pd.testing.assert_frame_equal(scored.table("scores"), scored.table("scores", of="chunked"), atol=1e-5, rtol=0)


def test_half_precision_stays_near(scored: Cell):
    summary = scored.score("half", precision="bf16")
    assert summary.precision == "bf16"
    assert 0 < summary.disagreement < 0.05
    difference = scored.table("scores")["auc"] - scored.table("scores", of="half")["auc"]
    assert difference.abs().max() < 0.05


def test_one_substrate_may_serve_both_curves(scored: Cell):
    assert set(scored.score("mean", insertion_substrate="mean", deletion_substrate="mean").probability_substrate) == {
        "mean"
    }


def test_a_number_of_steps_that_cannot_be_equal_is_said(scored: Cell, caplog: pytest.LogCaptureFixture):
    assert scored.score("uneven", steps=100).steps == 94  # 1024 px, 11 a step
    assert "94" in caplog.text


def test_adaptive_steps_give_the_areas_of_all_for_fewer_passes(scored: Cell):
    full, bent = scored.score("full", steps=224), scored.score("bent", steps="adaptive")
    areas, rough = scored.table("scores", of="full"), scored.table("scores", of="bent")
    assert (bent.adaptive, bent.steps) == (True, full.steps)
    assert bent.passes < full.passes / 3
    assert ((areas["auc"] - rough["auc"]).abs() <= rough["error"] + 0.005).mean() > 0.95
    with np.load(scored.folder / "bent" / "curves.npz") as curves:
        points = curves["gradcam/predicted/deletion"]
    assert points.shape == (12, full.steps + 1)
    found = rough.query("method == 'gradcam' and curve == 'deletion' and target_rule == 'predicted'")
    assert np.allclose(found["auc"], np.trapezoid(points, axis=1) / full.steps, atol=1e-5)


def test_passes_are_those_of_the_model(scored: Cell):
    rows = 12 + Explanation.read(scored.folder / "heatmaps").misclassified
    assert Summary.read(scored.folder / "scores").passes == rows * (3 + len(MAPS) * 2 * 7)


VARIANTS = {
    "patches": {"unit_px": 8, "steps": 4},
    "reversed": {"order": "least_relevant_first"},
    "calibrated": {"calibrated": True},
    "imputed": {"insertion_substrate": "noisy_linear", "deletion_substrate": "another_image", "steps": 2},
}


@pytest.fixture(scope="module")
def varied(scored: Cell) -> Summary:
    return scored.score("varied", variants=VARIANTS)


def test_variants_stand_beside_the_protocol_and_leave_it_as_it_is(scored: Cell, varied: Summary):
    pd.testing.assert_frame_equal(scored.table("scores"), scored.table("scores", of="varied"))
    variants = scored.table("variants", of="varied")
    assert variants.groupby("variant").size().to_dict() == dict.fromkeys(VARIANTS, len(scored.table("scores")))
    assert {name: scores.steps for name, scores in varied.variants.items()} == {
        "patches": 4, "reversed": 8, "calibrated": 8, "imputed": 2,
    }  # fmt: skip
    assert set(varied.variants["imputed"].probability_substrate) == {"noisy_linear", "another_image"}
    assert scored.table("variants").empty


def test_the_least_relevant_first_is_the_curve_of_the_negated_map(scored: Cell, varied: Summary):
    """Nothing but ties stands otherwise, and the centre map has them only in mirrored pairs."""
    both = scored.table("scores"), scored.table("variants", of="varied").query("variant == 'reversed'")
    key = ["row", "target_rule", "method", "curve"]
    most, least = (table.query("method == 'random_32x32'").set_index(key)["auc"] for table in both)
    assert not np.allclose(most, least)
    metrics, main = varied.variants["reversed"].metrics["edge"], varied.metrics
    gain = metrics["insertion_auc"] - varied.variants["reversed"].metrics["random"]["insertion_auc"]
    assert metrics["insertion_gain"] == pytest.approx(-gain)
    assert main["edge"]["insertion_gain"] == pytest.approx(
        main["edge"]["insertion_auc"] - main["random"]["insertion_auc"]
    )


def test_calibrated_probabilities_are_at_the_validation_temperature(varied: Summary):
    scores = varied.variants["calibrated"]
    assert scores.temperature == varied.calibration["temperature"] != 1
    assert varied.temperature == 1
    assert scores.probability_full != varied.probability_full


def test_an_image_is_replaced_by_one_predicted_to_be_something_else(scored: Cell):
    explained = load_explained(scored.folder / "heatmaps" / "attributions.npz")
    subject = Subject(build("swin"), load_prepared(scored.folder / "prepared"), explained, torch.device("cpu"))
    for part in explained:
        partners = subject.partner_rows(part, slice(0, len(part.rows)))
        said = dict(zip(explained[0].rows, explained[0].targets, strict=True))
        differ = [said[partner] != target for partner, target in zip(partners, part.targets, strict=True)]
        assert all(differ)
        assert not (partners == part.rows).any()


def test_without_masks_localisation_has_only_its_header(cell: Cell):
    about = PreparedSet.read(cell.folder / "prepared")
    about.model_copy(update={"masks": 0}).write(cell.folder / "prepared")
    summary = cell.score()
    assert (cell.folder / "scores" / "localisation.csv").read_text() == ",".join(LOCALISATION_COLUMNS) + "\n"
    assert "mass_ratio" not in summary.metrics["gradcam"]


def test_progress_ends_at_all_images(cell: Cell):
    told = []
    folders = [cell.folder / name for name in ("prepared", "model", "heatmaps", "scores")]
    score_cell(*folders, "colours", "swin", SCORE, STUDY, lambda done, total: told.append((done, total)))
    total = 12 + Explanation.read(cell.folder / "heatmaps").misclassified
    assert told == [(12, total), (total, total)]


def test_shards_on_disk_give_the_same_bytes_and_a_killed_run_goes_on(scored: Cell, tmp_path: Path):
    def kill(done: int, total: int) -> None:
        raise KeyboardInterrupt

    scratch = Scratch(tmp_path / "scratch")
    folders = [scored.folder / name for name in ("prepared", "model", "heatmaps")]
    arguments = (*folders, tmp_path / "scores", "colours", "swin", SCORE, STUDY)
    with pytest.raises(KeyboardInterrupt):
        score_cell(*arguments, kill, scratch)
    finished = {path: path.stat().st_ino for path in (tmp_path / "scratch").rglob("curves-*.npz")}
    seen = []
    score_cell(*arguments, lambda done, total: seen.append({path: path.stat().st_ino for path in finished}), scratch)
    assert len(finished) == 1
    assert all(each == finished for each in seen)
    assert not (tmp_path / "scratch").exists()
    for path in (scored.folder / "scores").iterdir():
        assert (tmp_path / "scores" / path.name).read_bytes() == path.read_bytes(), path.name


def change(path: Path, key: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "0" * 64}))


@pytest.mark.parametrize(
    ("record", "key", "message"),
    [
        ("model/receipt.json", "checkpoint_sha256", "not the checkpoint"),
        ("heatmaps/explanation.json", "checkpoint_sha256", "not the checkpoint"),
        ("heatmaps/explanation.json", "attributions_sha256", "not the arrays"),
        ("heatmaps/explanation.json", "data_sha256", "not the set"),
        ("prepared/set.json", "data_sha256", "not the set"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(cell: Cell, record: str, key: str, message: str):
    change(cell.folder / record, key)
    with pytest.raises(StudyError, match=message):
        cell.score()
    assert not (cell.folder / "scores").exists()


def test_another_checkpoint_is_refused(cell: Cell):
    with (cell.folder / "model" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(StudyError, match="not the checkpoint"):
        cell.score()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1025}, "score.steps: 1025.*1024"),
        ({"unit_px": 5}, "score.unit_px: squares of 5 px"),
        ({"variants": {"wide": {"unit_px": 8, "steps": 17}}}, "score.variants.wide.steps: 17.*16"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(scored: Cell, changes: dict, message: str):
    with pytest.raises(StudyError, match=message):
        scored.score("refused", **changes)


def save_maps(path: Path, **maps: np.ndarray) -> Path:
    rows = {name: np.arange(2) for name in ("rows_predicted", "targets_predicted")}
    none = {name: np.arange(0) for name in ("rows_true", "targets_true")}
    np.savez(path, **rows, **none, **{f"{name}/predicted": values.astype(np.float32) for name, values in maps.items()})
    return path


def test_maps_without_values_are_refused(tmp_path: Path):
    path = save_maps(tmp_path / "maps.npz", random=np.ones((2, 3, 3)), gradcam=np.full((2, 3, 3), np.nan))
    with pytest.raises(StudyError, match="gradcam are not finite"):
        load_explained(path)


def test_maps_without_a_random_map_of_their_grid_are_refused(tmp_path: Path):
    path = save_maps(tmp_path / "maps.npz", random=np.ones((2, 3, 3)), gradcam=np.ones((2, 4, 5)))
    with pytest.raises(StudyError, match="random_4x5 to compare gradcam"):
        load_explained(path)


NO_MASKS = pd.DataFrame(columns=LOCALISATION_COLUMNS)


def areas(**methods: tuple[str, list[float], list[float]]) -> pd.DataFrame:
    """Lines of scores.csv from each method's grid, insertion areas and deletion areas."""
    return pd.DataFrame(
        {"row": row, "method": method, "grid": grid, "curve": curve, "auc": area, "normalised_auc": np.nan}
        for method, (grid, *both) in methods.items()
        for curve, values in zip(("insertion", "deletion"), both, strict=True)
        for row, area in enumerate(values)
    )


def test_gains_are_paired_and_positive_where_better_than_random():
    scores = areas(random=("2x2", [0.5, 0.7], [0.4, 0.6]), gradcam=("2x2", [0.6, 0.9], [0.1, 0.2]))
    metrics = method_metrics(scores, NO_MASKS, 0, 100)
    assert metrics["gradcam"]["insertion_gain"] == pytest.approx((0.1 + 0.2) / 2)
    assert metrics["gradcam"]["deletion_gain"] == pytest.approx((0.3 + 0.4) / 2)
    assert metrics["gradcam"]["deletion_gain_low"] == pytest.approx(0.3)
    assert "insertion_gain" not in metrics["random"]


def test_a_method_is_compared_with_the_random_map_of_its_own_grid():
    scores = areas(
        random=("2x2", [0.5, 0.7], [0.4, 0.6]), random_4x4=("4x4", [0.1, 0.2], [0.9, 0.8]),
        gradient_rollout=("4x4", [0.2, 0.5], [0.5, 0.6]),
    )  # fmt: skip
    metrics = method_metrics(scores, NO_MASKS, 0, 100)
    assert metrics["gradient_rollout"]["insertion_gain"] == pytest.approx((0.1 + 0.3) / 2)
    assert metrics["gradient_rollout"]["deletion_gain"] == pytest.approx((0.4 + 0.2) / 2)
    assert "insertion_gain" not in metrics["random_4x4"]


def test_one_image_has_means_and_no_intervals():
    metrics = method_metrics(areas(random=("2x2", [0.5], [0.4]), centre=("2x2", [0.7], [0.1])), NO_MASKS, 0, 100)
    assert metrics["centre"] == pytest.approx(
        {"insertion_auc": 0.7, "deletion_auc": 0.1, "insertion_gain": 0.2, "deletion_gain": 0.3}
    )


def test_localisation_is_averaged_beside_its_chance():
    scores = areas(random=("2x2", [0.5, 0.7], [0.4, 0.6]))
    lines = {"method": "random", "pointing_hit": [True, False], "mass_ratio": [0.2, 0.4], "mask_fraction": [0.1, 0.3]}
    localisation = pd.DataFrame({**dict.fromkeys(LOCALISATION_COLUMNS, 0.0), **lines}, index=[0, 1])
    metrics = method_metrics(scores, localisation, 0, 100)["random"]
    found = [metrics[name] for name in ("pointing_game", "pointing_chance", "mass_ratio")]
    assert found == pytest.approx([0.5, 0.2, 0.3])
