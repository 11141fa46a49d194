"""Without a GPU there is no answer; with one, its clock is the host's."""

import time

import pytest
import torch

from glia_bench import nvidia
from glia_bench.energy import joules

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def test_no_gpu_is_no_error() -> None:
    found = nvidia.describe()
    assert (found is None) == (nvidia.memory_bytes() is None)
    energy = joules()
    assert energy is None or energy >= 0


@pytest.mark.gpu
@needs_gpu
def test_cuda_events_agree_with_the_host() -> None:
    block = torch.ones(4096, 4096, device="cuda")
    timer = nvidia.CudaTimer()
    block @ block
    timer.start()
    begun = time.perf_counter()
    for _ in range(50):
        block @ block
    taken = timer.stop()
    # Both clocks saw the same 50 products; the host also saw their launch and the wait.
    assert taken == pytest.approx(time.perf_counter() - begun, rel=0.2)


@pytest.mark.gpu
@needs_gpu
def test_the_driver_tells_name_memory_and_energy() -> None:
    found = nvidia.describe()
    assert found is not None and found["name"]
    before = nvidia.energy_joules()
    time.sleep(0.5)
    after = nvidia.energy_joules()
    assert before is not None and after is not None and after > before
