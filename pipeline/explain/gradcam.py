"""Grad-CAM: activation channels weighted by how much the target logit grows with each (Selvaraju et al. 2017)."""

from jaxtyping import Float
from torch import Tensor

from pipeline.explain.capture import Captured


def gradcam(captured: Captured) -> Float[Tensor, "n h w"]:
    """ReLU(sum_k alpha_k A_k) on the layer's own grid, alpha_k being the gradient's mean over the grid.

    The scale is the logit's, not stretched to [0, 1], so maps of different images can be compared; a map is all zero
    where every weighted sum is negative.
    """
    weights = captured.activation_gradient.mean(dim=(1, 2))[:, None, :, None]  # n 1 c 1
    return (captured.activation @ weights).squeeze(-1).relu()
