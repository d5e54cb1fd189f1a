"""Energy from counters that are drawn: a package that starts anew, one that may not be read, none at all."""

import pytest

from wsi_kd.core.energy import EnergyMeter


def package(folder, number, *, microjoules, most):
    place = folder / f"intel-rapl:{number}"
    place.mkdir()
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    return place / "energy_uj"


def test_packages_are_summed_and_start_anew_at_their_largest_value(tmp_path):
    first = package(tmp_path, 0, microjoules=1_000, most=10**9)
    second = package(tmp_path, 1, microjoules=999_000_000, most=10**9)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0: it would count twice
    meter = EnergyMeter(powercap=tmp_path)
    first.write_text("36001000")  # 36 J
    second.write_text("35000000")  # 1 J up to its end, then 35 J
    assert meter.lap_kwh() == pytest.approx(72 / 3.6e6)
    assert meter.lap_kwh() == 0.0
    first.write_text("72001000")
    assert meter.lap_kwh() == pytest.approx(1e-5)
    assert meter.source == "processor packages (RAPL)"


def test_what_cannot_be_counted_is_told(tmp_path):
    meter = EnergyMeter(powercap=tmp_path)
    assert meter.lap_kwh() is None
    assert meter.source == "processor not available: no RAPL counters"
    package(tmp_path, 0, microjoules="", most=10)  # as unreadable as one that only root may read
    assert EnergyMeter(powercap=tmp_path).source == "processor not available: only root may read its counters"


def test_a_gpu_that_is_not_there_is_told(tmp_path):
    meter = EnergyMeter("GPU-00000000-0000-0000-0000-000000000000", powercap=tmp_path)
    assert meter.source.endswith("GPU not available: NVML gives no energy counter")
    assert meter.lap_kwh() is None
