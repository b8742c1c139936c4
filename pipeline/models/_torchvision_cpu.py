"""Lets torchvision be imported beside a torch it was not compiled for.

The torchvision of the package index is a CUDA build. Beside a CPU-only torch its compiled library cannot be loaded
(`libcudart` and the CUDA half of torch are missing), and then `import torchvision`, which timm needs, stops with
`operator torchvision::nms does not exist`: it attaches shape functions to two operators that only that library
declares. Declaring the two is enough; nothing in this project calls them.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"  # torchvision/csrc/ops/nms.cpp


def declare_missing_operators() -> None:
    """Declare what torchvision's own library cannot; do nothing where it loads. To be called before the import."""
    if _missing():
        _load_own_library()
    for name in _missing():
        torch.library.define(f"torchvision::{name}", SCHEMA)


def _missing() -> list[str]:
    return [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]


def _load_own_library() -> None:
    spec = find_spec("torchvision")  # finds, does not import
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in sorted([*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")]):
            try:
                torch.ops.load_library(library)
            except OSError:  # built for another torch
                continue
