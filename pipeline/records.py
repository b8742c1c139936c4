"""What crosses a stage border beside the arrays: small typed records, each with the version of its schema.

A record is written whole or not at all, holds no time of day, no path of this machine and no run id, so equal inputs
give equal bytes.
"""

import hashlib
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import StudyError
from pipeline.files import write_text
from pipeline.spec import DatasetSpec

CHECKPOINT = "model.safetensors"  # beside its receipt
ATTRIBUTIONS = "attributions.npz"  # beside explanation.json

TargetRule = Literal["predicted", "true"]
R = TypeVar("R", bound="Record")  # not Self: the run-time type check of the tests does not know it in a method


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    file_name: ClassVar[str]
    schema_version: Literal[1] = 1

    def write(self, folder: Path) -> None:
        self.write_to(folder / self.file_name)

    def write_to(self, path: Path) -> None:
        write_text(path, self.text())

    def text(self) -> str:
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls: type[R], folder: Path) -> R:
        """The record in `folder`.

        Raises:
            StudyError: it is absent or of another schema.
        """
        return cls.read_from(folder / cls.file_name)

    @classmethod
    def read_from(cls: type[R], path: Path) -> R:
        """As `read`, of a record under a name of its own."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(f"{path}: no such file; run `dvc repro` to make it") from None
        except ValidationError as error:
            raise StudyError(
                f"{path}: not a valid {cls.__name__} ({error.error_count()} faults); run `dvc repro -f`"
            ) from None


class Dropped(BaseModel):
    """A file that did not enter the prepared set, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    reason: str


class SourceReceipt(Record):
    """What `fetch` brought: data/raw/<dataset>.json beside the folder."""

    dataset: str
    source: str  # phantom, the name of a folder or archive, or an address without its query
    sha256: str  # of the archive; empty for phantoms and folders
    size_bytes: int  # of the archive; 0 likewise
    images: int
    left_out: int  # files that are no images of the set
    files: int  # in the folder: images, masks, tables
    bytes: int  # of those files together


class PreparedSet(Record):
    """set.json of a prepared set: what decides what is learned from it, and no word that does not.

    Stages that learn or measure depend on this file, not on audit.json, whose titles and reasons may change.
    """

    file_name: ClassVar[str] = "set.json"
    dataset: str
    classes: tuple[str, ...]
    flips: tuple[Literal["horizontal", "vertical"], ...]
    colour: bool
    labelled: bool
    image_size_px: int
    images: int
    images_per_split: dict[str, dict[str, int]]  # split -> class -> count
    masks: int
    data_sha256: str  # of index.csv, images.npy and masks.npy


class Audit(Record):
    """audit.json of a prepared set: what it is, what it holds, what was found in it, what was left out."""

    file_name: ClassVar[str] = "audit.json"
    schema_version: Literal[2] = 2  # type: ignore[assignment]
    spec: DatasetSpec
    image_size_px: int
    data_sha256: str  # of index.csv, images.npy and masks.npy
    images: int
    images_per_class: dict[str, int]
    images_per_split: dict[str, dict[str, int]]  # split -> class -> count
    masks: int
    exact_duplicates: int
    duplicate_groups: tuple[tuple[str, ...], ...]  # files of each group of near-duplicates, two or more
    label_conflicts: tuple[tuple[str, ...], ...]
    dropped: tuple[Dropped, ...]
    flagged: tuple[Dropped, ...]  # kept, but worth a look: empty or huge masks, objections of a curated list
    litter: int = 0  # files that are no images
    traits: dict[str, dict[str, int]] = {}  # trait -> level -> images kept
    duplicate_distance: int = 0  # bits up to which perceptual hashes mean one picture
    overlap_correlation: float | None = None  # from which on two cuts are of one field; None: not sought
    links: dict[str, int] = {}  # method -> pairs of images that belong together
    given_groups: int = 0  # patients, or what else the set's table names; 0 without
    given_splits: bool = False  # whether the set's table says who is in which split
    test_images_near_train: int = 0  # that look like a training image; a split that does not leak has none

    @property
    def dataset(self) -> str:
        return self.spec.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @property
    def prepared_set(self) -> PreparedSet:
        return PreparedSet(
            dataset=self.dataset,
            classes=self.classes,
            flips=self.spec.flips,
            colour=self.spec.colour,
            labelled=self.spec.labelled,
            image_size_px=self.image_size_px,
            images=self.images,
            images_per_split=self.images_per_split,
            masks=self.masks,
            data_sha256=self.data_sha256,
        )


class Receipt(Record):
    """receipt.json beside a checkpoint: all that decides what the model is."""

    file_name: ClassVar[str] = "receipt.json"
    dataset: str
    model: str
    arch: str
    arch_options: dict[str, int | float | str | bool | tuple[int, ...]]
    weights: str  # as in params.yaml; of a path outside the checkout only the name
    weights_sha256: str  # of the file that it stands for; this and the next three are empty from scratch
    weights_licence: str
    weights_licence_source: str  # where it was read
    weights_origin: str  # a page, empty where none is known
    classes: tuple[str, ...]
    image_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    parameters: int
    seed: int
    epochs_run: int
    best_epoch: int
    best_validation_macro_f1: float
    augmentation: dict  # albumentations' own serialised form
    precision: str
    compiled: bool = False
    processes: int = 1  # that shared the training
    checkpoint_sha256: str
    data_sha256: str
    packages: dict[str, str]


class PretrainingReceipt(Record):
    """<model>.json beside pre-trained weights: all that decides what they are, and what they have learned."""

    model: str
    strategy: str
    arch: str
    arch_options: dict[str, int | float | str | bool | tuple[int, ...]]
    image_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    parameters: int
    sources: dict[str, str]  # set -> phantom, or the name of the folder or archive
    labels: str  # what the training saw of them: classes, none
    images: dict[str, dict[str, int]]  # set -> split -> count
    data_sha256: dict[str, str]
    seed: int
    phantom_seed: int
    epochs: int
    steps: int
    precision: str
    recipe: dict  # the strategy's section of params.yaml
    history: tuple[dict[str, int | float], ...]  # epoch, learning_rate, train_loss, measures
    probes: dict[
        str, dict[str, float]
    ]  # labelled set -> knn_accuracy, linear_probe_accuracy, chance: on its test split
    checkpoint_sha256: str
    packages: dict[str, str]


class Classification(Record):
    """classification.json: test metrics of a checkpoint; keys as everywhere, `test/accuracy` being test.accuracy."""

    file_name: ClassVar[str] = "classification.json"
    checkpoint_sha256: str
    data_sha256: str
    images: int
    test: dict[str, float]  # accuracy, balanced_accuracy, macro_f1, macro_auroc
    recall: dict[str, float]  # per class
    confusion: tuple[tuple[int, ...], ...]  # rows: true class, columns: predicted class


class Manifest(Record):
    """manifest.json among a run's artifacts: the run's other artifacts by path, with their SHA-256, and its params."""

    file_name: ClassVar[str] = "manifest.json"
    form: int = 3  # raise it when what is published changes, and all is published anew
    subject: str
    params: dict[str, str]
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()


class HeatmapLineage(BaseModel):
    """What a heatmap's file says of itself, so that a stray copy still leads to the model version it explains.

    In attributions.npz it is an array of that name, in a PNG a text chunk, in a JPEG the comment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    dataset: str
    model: str
    checkpoint_sha256: str
    data_sha256: str | None = None  # None where the image is not one of the study's
    file: str | None = None  # the image explained; this and what follows is None where the file holds several
    method: str | None = None
    target: str | None = None  # the class explained

    def text(self) -> str:
        return self.model_dump_json(exclude_none=True)

    def told(self) -> list[str]:
        """`method gradcam`, ...: what it says, for people."""
        return [f"{name} {value}" for name, value in self.model_dump(exclude_none=True).items()]


LINEAGE = "lineage"  # the name under which it is kept


class Explanation(Record):
    """explanation.json beside attributions.npz."""

    file_name: ClassVar[str] = "explanation.json"
    dataset: str
    model: str
    checkpoint_sha256: str
    data_sha256: str
    attributions_sha256: str
    methods: tuple[str, ...]
    baselines: tuple[str, ...]
    grids: dict[str, tuple[int, int]]  # method or baseline -> rows, columns of its native grid
    cam_layer: str
    settings: dict[str, str | int | float]  # what the methods were told, as in params.yaml
    images: int
    misclassified: int
    seed: int
    packages: dict[str, str]


ORACLE = "oracle"  # the mask as a map; blank where an image has none, and then neither scored nor localised
SWAPPED = "swapped_"  # and a method's name: the map that the method gave to another image


def random_twin(grid: str, random_grid: str) -> str:
    """Name of the random map on a grid such as "8x8", which gains on that grid are measured against."""
    return "random" if grid == random_grid else f"random_{grid}"


Metrics = dict[str, dict[str, float]]  # method -> metric -> value


class ProtocolScores(BaseModel):
    """Mean scores by one protocol of insertion and deletion, with all that they depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int
    adaptive: bool  # only some of the steps were taken, `passes` says how many
    insertion_substrate: str
    deletion_substrate: str
    unit_px: int
    order: str
    temperature: float
    precision: str
    disagreement: float  # of probabilities with those in fp32: the largest on a few images
    passes: int  # forward images in all
    probability_full: float  # mean probability of the predicted class on the untouched images
    probability_substrate: dict[str, float]  # the same on each substrate
    normalised_images: dict[str, int]  # by curve: images whose substrate says enough less for a normalised AUC
    metrics: Metrics  # predicted-class maps of all images


class Summary(Record, ProtocolScores):
    """summary.json of a cell's scores."""

    file_name: ClassVar[str] = "summary.json"
    dataset: str
    model: str
    checkpoint_sha256: str
    data_sha256: str
    attributions_sha256: str
    tie_rule: str
    images: int
    misclassified: int
    localised: int  # images with a mask; the others have no finding to localise
    pointing_tolerance_px: int
    calibration: dict[str, float]  # temperature of the validation images; the test images' ECE without and with it
    metrics_misclassified: Metrics  # `<method>/<target rule>` on the misclassified images
    variants: dict[str, ProtocolScores]
    seed: int
    packages: dict[str, str]


class Shortcut(BaseModel):
    """What predictions owe to the place beside the evidence that sways them most, found blindly on validation images.

    Measured on test images whose evidence touches neither that place nor its control; shortcut.csv has each of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    region_px: tuple[int, int, int, int]  # top, left, bottom, right; the last two are the first outside
    control_px: tuple[int, int, int, int]  # another place of that size
    image_size_px: int
    area: float  # of the region, as a share of the image
    images: int
    followed: float  # share of images given the donor's class with its pixels, of another class, in the region
    followed_control: float  # the same with its pixels in the control
    accuracy: float
    accuracy_neutral: float  # without what the region shows
    focus: dict[str, float]  # method -> mean share of positive attribution in the region; chance is the area
    localised: int  # of the images, those explained and with a mask; the two lines below are theirs
    pointing_game: dict[str, float]  # method -> share of maps whose peak lies on the evidence, no pixel beside it
    pointing_game_neutral: dict[str, float]  # the same without what the region shows, for the class predicted then


class Trust(Record):
    """trust.json of a cell's explanations: means over some images, for the class predicted; trust.csv has each image.

    Undefined values (a flat map orders nothing) are left out of the means and counted.
    """

    file_name: ClassVar[str] = "trust.json"
    dataset: str
    model: str
    checkpoint_sha256: str
    attributions_sha256: str
    images: int
    chance: dict[str, dict[str, float]]  # the same for a map that knows nothing, of the checks where it is a number
    metrics: dict[str, dict[str, float]]  # method -> check -> mean
    undefined: dict[str, dict[str, int]]  # method -> check -> images
    shortcut: Shortcut | None = None  # none where masks do not tell what lies beside the evidence
    seed: int
