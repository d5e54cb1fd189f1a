"""Energy that the processor's packages and one GPU have taken, from the counters that the machine offers."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")
JOULES_PER_KWH: Final = 3.6e6
_NVML_OK: Final = 0


class EnergyMeter:
    """Sums counters from the moment it is made: of all processors, whoever uses them, and of one GPU."""

    def __init__(self, gpu_uuid: str | None = None, *, powercap: Path = POWERCAP) -> None:
        """Find the counters.

        Args:
            gpu_uuid: of the GPU whose energy counts too, as the driver names it (GPU-...).
            powercap: folder of the kernel's power counters.
        """
        self._counters: list[Callable[[], float]] = []
        told = []
        packages = sorted(powercap.glob("intel-rapl:?"))  # AMD's processors are listed there too
        readable = [_Package(folder) for folder in packages if _number(folder / "energy_uj") is not None]
        if readable:
            self._counters += [package.joules for package in readable]
            told.append("processor packages (RAPL)")
        else:
            why = "only root may read its counters" if packages else "no RAPL counters"
            told.append(f"processor not available: {why}")
        if gpu_uuid is not None:
            gpu = _gpu_counter(gpu_uuid)
            self._counters += [] if gpu is None else [gpu]
            told.append("GPU (NVML)" if gpu else "GPU not available: NVML gives no energy counter")
        self.source = "; ".join(told)
        """What is counted, and why something is not."""
        self._before = self._joules()

    def lap_kwh(self) -> float | None:
        """Return the energy since the last call; None where nothing can be counted."""
        if not self._counters:
            return None
        now = self._joules()
        used, self._before = now - self._before, now
        return used / JOULES_PER_KWH

    def _joules(self) -> float:
        return sum(counter() for counter in self._counters)


class _Package:
    """One processor package's counter, which starts anew at its largest value."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj") or 0
        self._last = _number(self._file) or 0
        self._total = 0

    def joules(self) -> float:
        now = _number(self._file)
        if now is not None:
            step = now - self._last
            self._total += step if step >= 0 else step + self._range
            self._last = now
        return self._total / 1e6


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _gpu_counter(uuid: str) -> Callable[[], float] | None:
    """Return what reads the millijoules that a GPU has taken since the driver was loaded; None without."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
    asked = (
        nvml.nvmlInit_v2(),
        nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)),
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)),
    )
    if any(status != _NVML_OK for status in asked):
        return None

    def joules() -> float:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return millijoules.value / 1e3

    return joules
