"""Temperature scaling: probabilities that say how often the model is right, with its predictions unchanged.

A model that is too sure has flat insertion and deletion curves with a cliff; two models compare better where their
probabilities mean the same. The temperature is fitted on validation images, never on those that are scored.
"""

import math
from collections.abc import Callable

from jaxtyping import Float, Int64
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from pipeline.metrics.faithfulness import Predict
from pipeline.metrics.maps import require_finite

TEMPERATURES = (0.05, 20.0)  # where none is best, as for a set without one error, the end of the range is taken
PRECISION = 1e-6  # of the logarithm
BINS = 15

PredictLogits = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n classes"]]


def fit_temperature(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """The temperature, from 0.05 to 20, whose probabilities softmax(logits / temperature) fit the labels best.

    The likelihood has one peak, so a bounded search finds it; in float64 and without any draw.

    Raises:
        ValueError: a logit is NaN or infinite, or there are none.
    Source: Guo et al. 2017.
    """
    require_finite(logits, "logits")
    if not len(logits):
        raise ValueError("logits: a temperature needs at least one image")
    exact = logits.double()
    low, high = (math.log(end) for end in TEMPERATURES)
    found = minimize_scalar(
        lambda log: functional.cross_entropy(exact / math.exp(log), labels).item(),
        bounds=(low, high),
        method="bounded",
        options={"xatol": PRECISION},
    )
    return math.exp(found.x)


def calibrated(predict_logits: PredictLogits, temperature: float) -> Predict:
    """The model's probabilities at a temperature, for the curves of `pipeline.metrics.faithfulness`.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not positive")

    def predict(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return (predict_logits(images).float() / temperature).softmax(dim=1)

    return predict


def expected_calibration_error(probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """Mean distance between confidence and accuracy over 15 bins of equal width, weighted by their images; in [0, 1].

    A bin holds its upper end.

    Raises:
        ValueError: a probability is NaN or infinite, or there are none.
    Source: Naeini et al. 2015, as in Guo et al. 2017.
    """
    require_finite(probabilities, "probabilities")
    if not len(probabilities):
        raise ValueError("probabilities: an error needs at least one image")
    confidence, predicted = probabilities.double().max(dim=1)
    bins = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    surplus = confidence - (predicted == labels).double()
    # |sum of surplus| is a bin's distance times its images
    return surplus.new_zeros(BINS).index_add(0, bins, surplus).abs().sum().item() / len(labels)
