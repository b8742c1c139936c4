"""Devices by name, precision by what the processor has."""

import pytest
import torch

from pipeline.device import autocast, resolve_device, resolve_precision, set_threads
from pipeline.errors import StudyError

CPU = torch.device("cpu")


def test_auto_takes_the_gpu_if_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_absent_gpu_is_refused():
    with pytest.raises(StudyError, match=r"study\.device: cuda:99: this torch sees \d+ GPUs"):
        resolve_device("cuda:99")


def test_auto_is_fp32_on_a_cpu():
    assert [resolve_precision(CPU, name) for name in ("auto", "fp32", "bf16")] == ["fp32", "fp32", "bf16"]


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_models_compute_in_the_precision_asked(precision, dtype):
    with autocast(CPU, precision):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_threads_are_those_asked():
    before = torch.get_num_threads()
    set_threads(1)
    assert torch.get_num_threads() == 1
    set_threads(before)
