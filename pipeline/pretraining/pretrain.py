"""One model pre-trained: from prepared sources to weights, their receipt and their card."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.data.fetching.source import source_name
from pipeline.device import resolve_device, resolve_precision, set_threads
from pipeline.errors import errors_under
from pipeline.files import sha256_of, write_text
from pipeline.keys import key_of
from pipeline.models.build import Classifier
from pipeline.models.weights import FROM_SCRATCH, normalisation, save_weights
from pipeline.packages import package_versions
from pipeline.params import ModelParams, Params, StrategyParams
from pipeline.pretraining.card import card
from pipeline.pretraining.corpus import Corpus, load_corpus
from pipeline.pretraining.dino import build_dino
from pipeline.pretraining.distilled import build_distilled
from pipeline.pretraining.probes import probe
from pipeline.pretraining.recipe import Recipe, Run, build_trainer
from pipeline.pretraining.supervised import build_supervised
from pipeline.records import PretrainingReceipt
from pipeline.seeds import cell_seed
from pipeline.training.cell import LEARNING
from pipeline.training.loop import fit
from pipeline.training.state import Course, StateFile

Build = Callable[[Corpus, ModelParams, Any, Run], Recipe]  # the parameters are the strategy's own

# A new strategy is one file like `supervised.py`, a section of params and an entry here.
STRATEGIES: dict[str, Build] = {"supervised": build_supervised, "distilled": build_distilled, "dino": build_dino}
WITHOUT_LABELS = ("dino",)


def pretrain_model(
    model: str,
    params: Params,
    prepared: Sequence[Path],
    weights: Path,
    state_dir: Path,
    progress: Callable[[int, int], None],
) -> PretrainingReceipt:
    """Write the weights and beside them, under the same name, the receipt (.json) and the card (.md).

    Args:
        prepared: the folder of each source, in the order of params.yaml.
        state_dir: holds the state of an unfinished training; a rerun goes on from there and ends with equal bytes.

    Raises:
        StudyError: the sources do not suit the strategy, the loss is not finite, or the training has collapsed.
    """
    set_threads(params.study.threads)
    corpus = load_corpus(prepared)
    strategy = params.pretraining.strategies[model]
    section: StrategyParams = getattr(params.pretraining, strategy)
    run = _run(model, params, section, corpus, state_dir)
    sections = dict.fromkeys(("arch", "arch_options"), f"models.{model}")
    with errors_under(dict.fromkeys(type(section).model_fields, f"pretraining.{strategy}") | sections):
        recipe = STRATEGIES[strategy](corpus, params.models[model], section, run)
        trainer = build_trainer(recipe.objective, section, corpus, run)
        course = fit(trainer, StateFile(state_dir / "state.safetensors", run.key), progress)
    _round_to_half(recipe.classifier)
    save_weights(recipe.classifier.backbone, weights)
    receipt = _receipt(model, params, recipe, course, corpus, run, sha256_of(weights))
    receipt.write_to(weights.with_suffix(".json"))
    write_text(weights.with_suffix(".md"), card(receipt))
    shutil.rmtree(state_dir, ignore_errors=True)
    return receipt


def _run(model: str, params: Params, section: StrategyParams, corpus: Corpus, state_dir: Path) -> Run:
    device, seed = resolve_device(params.study.device), cell_seed(params.pretraining.seed, "pretraining", model)
    deciding = {
        "data": [one.about.data_sha256 for one in corpus.sets],
        "model": params.models[model].model_dump(mode="json", include={"arch", "arch_options"}),
        "recipe": section.model_dump(mode="json", exclude={"workers"}),
        "run": [seed, str(device), params.study.threads],
    }
    return Run(seed, device, state_dir, key_of(deciding, code=(*LEARNING, "pretraining"), packages=("lightly",)))


def _round_to_half(module: nn.Module) -> None:
    """To what the file will hold, so that the probes measure just that."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())


def _receipt(
    model: str, params: Params, recipe: Recipe, course: Course, corpus: Corpus, run: Run, checkpoint_sha256: str
) -> PretrainingReceipt:
    own, strategy = params.pretraining, params.pretraining.strategies[model]
    arch, options = params.models[model].arch, params.models[model].arch_options
    mean, std = normalisation(arch, FROM_SCRATCH)
    steps = build_trainer(recipe.objective, recipe.params, corpus, run).steps_per_epoch * course.epochs_run
    return PretrainingReceipt(
        model=model,
        strategy=strategy,
        arch=arch,
        arch_options=options,
        image_size_px=corpus.image_size_px,
        mean=mean,
        std=std,
        parameters=_count_parameters(recipe.classifier),
        sources={name: source_name(source) for name, source in own.sources.items()},
        labels="none" if strategy in WITHOUT_LABELS else "classes",
        images={one.about.dataset: _split_sizes(one.about.images_per_split) for one in corpus.sets},
        data_sha256={one.about.dataset: one.about.data_sha256 for one in corpus.sets},
        seed=run.seed,
        phantom_seed=own.seed,
        epochs=course.epochs_run,
        steps=steps,
        precision=resolve_precision(run.device, recipe.params.precision),
        recipe=recipe.params.model_dump(mode="json"),
        history=tuple(row.flat() for row in course.history),
        probes=_probes(recipe.classifier, corpus, run),
        checkpoint_sha256=checkpoint_sha256,
        packages=package_versions("lightly"),
    )


def _split_sizes(images_per_split: dict[str, dict[str, int]]) -> dict[str, int]:
    return {split: sum(classes.values()) for split, classes in images_per_split.items()}


def _probes(classifier: Classifier, corpus: Corpus, run: Run) -> dict[str, dict[str, float]]:
    accuracies = probe(classifier, corpus, "train", "test", run.device)
    chance = {one.dataset: 1 / len(one.classes) for one in corpus.about}
    return {name: {**found, "chance": chance[name]} for name, found in accuracies.items()}


def _count_parameters(classifier: Classifier) -> int:
    """Without the heads."""
    heads = ("head", "head_dist")
    body = (tensor for name, tensor in classifier.backbone.named_parameters() if name.split(".")[0] not in heads)
    return sum(tensor.numel() for tensor in body)
