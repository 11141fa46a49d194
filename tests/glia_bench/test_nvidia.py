"""Without a GPU there is no answer; with one, its clock is the host's."""

import sys
import time
from types import ModuleType

import pytest
import torch

from glia_bench import nvidia

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


class NoDriver(ModuleType):
    """An installed pynvml on a machine without a driver."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None:  # noqa: N802
        raise self.NVMLError("Driver Not Loaded")


@pytest.mark.parametrize("is_installed", [True, False])
def test_no_gpu_is_no_error(is_installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "is_installed", lambda package: is_installed)
    monkeypatch.setitem(sys.modules, "pynvml", NoDriver("pynvml"))
    assert (nvidia.describe(), nvidia.memory_bytes(), nvidia.energy_joules()) == (None, None, None)


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
