"""Devices by name, precision by what the processor has."""

from collections.abc import Callable

import pytest
import torch

from pipeline.device import (
    autocast,
    batch_within,
    in_batches_that_fit,
    peak_bytes,
    resolve_device,
    resolve_precision,
    set_threads,
)
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


def short_of_memory(most: int) -> Callable[[slice], list[int]]:
    def work(part: slice) -> list[int]:
        if part.stop - part.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(range(part.start, part.stop))

    return work


@pytest.mark.parametrize(("most", "sizes"), [(100, [8, 2]), (8, [8, 2]), (5, [4, 4, 2]), (1, [1] * 10)])
def test_out_of_memory_halves_the_batch_and_goes_on(most: int, sizes: list[int]):
    parts = list(in_batches_that_fit(short_of_memory(most), 10, 8))
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == list(range(10))


def test_the_cpus_way_of_saying_it_counts_too():
    failures = iter([RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])

    def work(part: slice) -> int:
        for failure in failures:
            raise failure
        return part.stop - part.start

    assert list(in_batches_that_fit(work, 4, 4)) == [2, 2]


def test_a_batch_of_one_that_does_not_fit_is_told():
    with pytest.raises(StudyError, match="batch of one"):
        list(in_batches_that_fit(short_of_memory(0), 3, 2))


def test_other_errors_pass():
    def broken(part: slice) -> int:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches_that_fit(broken, 3, 2))


def test_bytes_are_those_alive_together():
    item = torch.zeros(1, 1000)
    assert peak_bytes(lambda x: (x * 2).relu(), item) == 8000  # the product lives until the next exists
    assert peak_bytes(lambda x: ((x * 2).relu() + 1).sum(), item) == 8000
    assert peak_bytes(lambda x: [x * i for i in range(3)], item) == 12000
    assert peak_bytes(lambda x: (x * 2).view(10, 100).T, item) == 4000  # views own nothing


def test_the_batch_follows_from_the_budget():
    item = torch.zeros(1, 2**18)  # 1 MiB, twice of which is alive
    assert [batch_within(lambda x: (x * 2).relu(), item, budget) for budget in (1, 8, 9, 2000)] == [1, 4, 4, 512]
