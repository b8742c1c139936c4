"""torchvision can be imported in a fresh process, whatever torch it was compiled for."""

import subprocess
import sys

import pytest
import torch

from pipeline.models._torchvision_cpu import OPERATORS, declare_missing_operators

pytestmark = pytest.mark.slow


def test_a_second_call_does_nothing():
    declare_missing_operators()
    assert all(hasattr(torch.ops.torchvision, name) for name in OPERATORS)


def test_torchvision_imports_after_our_models():
    code = "import pipeline.models, torchvision.models.feature_extraction"
    subprocess.run([sys.executable, "-c", code], check=True)
