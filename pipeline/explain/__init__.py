"""Explanations of vision transformers: which parts of an image speak for a class.

    from pipeline.explain import explain
    maps = explain(timm.create_model("vit_small_patch16_224.dino", pretrained=True, num_classes=8), images)

`registry` lists the methods, `public` is the function above, `capture` the one pass that most methods share, and
`attribution` explains the test images of a cell of the study.
"""

from pipeline.explain.public import explain
from pipeline.explain.registry import METHODS, Method, check_methods, explain_batch, get

__all__ = ["METHODS", "Method", "check_methods", "explain", "explain_batch", "get"]
