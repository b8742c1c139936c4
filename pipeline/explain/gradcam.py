"""Class activation maps: activations of one layer, weighted by how much the target logit grows with them.

With A the activation and G its gradient, k the channel: Grad-CAM weights each channel by the mean of G over the grid,
so a channel counts alike everywhere; HiResCAM and LayerCAM weight each position by its own G.
"""

from jaxtyping import Float
from torch import Tensor

from pipeline.explain.capture import Captured


def gradcam(captured: Captured) -> Float[Tensor, "n h w"]:
    """ReLU(sum_k alpha_k A_k) on the layer's own grid (Selvaraju et al. 2017).

    The scale is the logit's, not stretched to [0, 1], so maps of different images can be compared; a map is all zero
    where every weighted sum is negative.
    """
    return signed_gradcam(captured).relu()


def signed_gradcam(captured: Captured) -> Float[Tensor, "n h w"]:
    """sum_k alpha_k A_k: below zero is evidence against the target."""
    weights = captured.activation_gradient.mean(dim=(1, 2))[:, None, :, None]  # n 1 c 1
    return (captured.activation @ weights).squeeze(-1)


def hirescam(captured: Captured) -> Float[Tensor, "n h w"]:
    """ReLU(sum_k G_k A_k), what each position adds to a linear logit (Draelos & Carin 2020)."""
    return (captured.activation_gradient * captured.activation).sum(dim=-1).relu()


def layercam(captured: Captured) -> Float[Tensor, "n h w"]:
    """ReLU(sum_k max(G_k, 0) A_k), for which early layers stay fine and clean (Jiang et al. 2021)."""
    return (captured.activation_gradient.relu() * captured.activation).sum(dim=-1).relu()
