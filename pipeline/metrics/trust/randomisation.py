"""Parameter randomisation: do the maps change when the model forgets what it learned?

From the head downwards, stage by stage, the weights are drawn anew; a map that stays as it was owes nothing to them
(Adebayo et al. 2018, Sanity Checks for Saliency Maps). Each tensor keeps its own mean and spread: logits, and with them
gradients, stay in the trained model's range, so that a change comes from what was learned and not from its scale.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pipeline.metrics.trust.similarity import Explain, Maps, Measure, Scores, compare
from pipeline.models.build import Classifier
from pipeline.models.family import family_of
from pipeline.seeds import cell_seed

HEAD, EMBEDDING = "head", "embedding"


def randomised_similarity(
    classifier: Classifier,
    explain: Explain,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    maps: Maps,
    measures: Mapping[str, Measure],
    seed: int,
    independent: bool = False,
) -> dict[str, dict[str, Scores]]:
    """How alike each map is to the one after randomisation, by stage (head first), measure and method.

    The images are explained once a stage: a head, the blocks, an embedding. Targets stay, whatever is predicted.

    Args:
        explain: must read `classifier` itself, not a copy; it splits the images into batches if it needs to.
        maps: what it gave for the images and targets before.
        independent: see `randomised`.
    """
    found = {}
    with randomised(classifier, seed, independent) as stages:
        for stage in stages:
            others = explain(images, targets)
            found[stage] = {name: compare(maps, others, measure) for name, measure in measures.items()}
    return found


@contextmanager
def randomised(classifier: Classifier, seed: int, independent: bool = False) -> Iterator[Iterator[str]]:
    """Stages to go through, each randomised when its name comes; on leaving, after an error too, all is as before.

    Cascading: what came before stays random, so the last stage is a model without any learned weight. Independent: one
    stage at a time is random. Draws depend on the seed and the parameter's name only.

    Raises:
        StudyError: the model's family is not known.
    """
    stages = randomisation_stages(classifier.backbone)
    parameters = dict(classifier.backbone.named_parameters())
    learned = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        yield _walk(stages, parameters, learned if independent else {}, seed)
    finally:
        _restore(parameters, learned)


def randomisation_stages(backbone: nn.Module) -> dict[str, list[str]]:
    """All parameters' names by stage: head, last block ... first block, embedding.

    What stands between two blocks (Swin's merging) belongs to the next; what stands behind the last (the final norm)
    to the head; what stands before the first (patches, positions, class token) to the embedding.

    Raises:
        StudyError: the model's family is not known.
    """
    blocks = [name.removesuffix(".attn") for name in family_of(backbone).attention]
    stages: dict[str, list[str]] = {stage: [] for stage in (HEAD, *reversed(blocks), EMBEDDING)}
    stage = HEAD
    for name in reversed([name for name, _ in backbone.named_parameters()]):
        block = next((block for block in blocks if name.startswith(f"{block}.")), None)
        stage = block or (EMBEDDING if stage == blocks[0] else stage)
        stages[stage].append(name)
    return stages


def _walk(
    stages: dict[str, list[str]], parameters: dict[str, nn.Parameter], restored: dict[str, Tensor], seed: int
) -> Iterator[str]:
    for stage, names in stages.items():
        _restore(parameters, restored)
        for name in names:
            _draw_anew(parameters[name], cell_seed(seed, "randomised", name))
        yield stage


def _restore(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def _draw_anew(parameter: nn.Parameter, seed: int) -> None:
    """Normal draws of the parameter's own mean and spread; on the CPU, so that every device gets the same.

    A tensor of equal values, such as a bias that never moved, learned nothing and stays as it is.
    """
    draws = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    spread, mean = torch.std_mean(parameter.detach(), correction=0)
    with torch.no_grad():
        parameter.copy_(draws.to(parameter) * spread + mean)
