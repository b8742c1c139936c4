"""The card of pre-trained weights: what they are, what they learned, and what they must not be taken for."""

from pipeline.data.fetching.source import PHANTOM
from pipeline.records import PretrainingReceipt

STRATEGIES = {
    "supervised": "supervised: cross-entropy over the classes of all sets together",
    "distilled": "DeiT's hard-label distillation from a convolutional teacher, which learned the same labels",
    "dino": "DINO, self-distillation without labels: student and averaged teacher, multi-crop, centring, sharpening",
}
LIMITS = {
    True: (
        "Phantoms are not patients. These weights have seen drawings of cells and of ultrasound only. They know "
        "nothing of stains, scanners, artefacts or disease; they are made so that the embedded study compares "
        "pre-training strategies in minutes. No clinical claim can rest on them, and for real images the weights of "
        "the paper study, or weights pre-trained on images of your own, are the better start."
    ),
    False: (
        "The weights know what their sources show, with the biases of how those images were collected and chosen. "
        "Their accuracies below were measured on images of the same sources and say nothing of another hospital's."
    ),
}


def card(receipt: PretrainingReceipt) -> str:
    """Markdown."""
    only_phantoms = set(receipt.sources.values()) == {PHANTOM}
    lines = [
        f"# {receipt.model}: pre-trained weights",
        "",
        f"{receipt.arch} for images of {receipt.image_size_px} px, {receipt.parameters:,} parameters, fp16.",
        f"Strategy: {STRATEGIES[receipt.strategy]}.",
        "",
        f"Trained on {_sources(receipt)}: {receipt.epochs} epochs, {receipt.steps:,} steps in {receipt.precision}.",
        f"Of the labels the training saw: {receipt.labels}.",
        "",
        *_probes(receipt),
        "## Limits",
        "",
        LIMITS[only_phantoms],
        "",
        f"Made by `python -m flows.pretrain --model {receipt.model}`; all that decided them stands in "
        f"`{receipt.model}.json`. SHA-256 of the file: `{receipt.checkpoint_sha256}`.",
    ]
    return "\n".join(lines) + "\n"


def _sources(receipt: PretrainingReceipt) -> str:
    seed = f", drawn with seed {receipt.phantom_seed}, which no image of the study shares"
    texts = [
        f"{receipt.images[name]['train']:,} images of {name} ({source}{seed if source == PHANTOM else ''})"
        for name, source in receipt.sources.items()
    ]
    return " and ".join(texts)


def _probes(receipt: PretrainingReceipt) -> list[str]:
    if not receipt.probes:
        return []
    rows = [
        f"| {name} | {found['knn_accuracy']:.3f} | {found['linear_probe_accuracy']:.3f} | {found['chance']:.3f} |"
        for name, found in receipt.probes.items()
    ]
    return [
        "Frozen features, balanced accuracy on test images that the training never saw:",
        "",
        "| set | 20 nearest neighbours | linear probe | chance |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
