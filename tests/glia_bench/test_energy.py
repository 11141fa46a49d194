"""The packages' energy is counted once, whatever else the driver counts, and the GPU's is added."""

from pathlib import Path

import pytest

from glia_bench import energy, nvidia


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a client CPU: a package, a part of it, the board around it, and the package once more."""
    zones = {
        "intel-rapl:0": ("package-0", 5_000_000),
        "intel-rapl:0:0": ("core", 3_000_000),
        "intel-rapl:1": ("psys", 9_000_000),
        "intel-rapl-mmio:0": ("package-0", 5_000_000),
    }
    for zone, (name, microjoules) in zones.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    monkeypatch.setattr(nvidia, "energy_joules", lambda: None)
    return tmp_path


def test_a_package_is_counted_once(powercap: Path) -> None:
    assert energy.joules() == 5.0


def test_every_package_counts(powercap: Path) -> None:
    (powercap / "intel-rapl:1" / "name").write_text("package-1\n")
    assert energy.joules() == 14.0


def test_the_gpu_is_added(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "energy_joules", lambda: 2.5)
    assert energy.joules() == 7.5


def test_no_driver_tells(powercap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = powercap / "intel-rapl:0" / "energy_uj"
    counter.unlink()
    counter.mkdir()  # what cannot be read, to root as well
    assert energy.joules() is None
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path / "none")
    assert energy.joules() is None
