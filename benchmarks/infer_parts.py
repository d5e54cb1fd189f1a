"""Memory and processor time of the parts of `infer`: its steps, called as they are, watched one by one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.steps import infer_slide

KIB = 1024
PEAK_FROM_NOW = "5"
CALLED: Final = {
    "mask_slide": "mask",
    "tile_slide": "tile",
    "embed_slide": "embed",
    "score_features": "score",
    "_below_heatmap": "overview",
}
"""What `infer_slide` calls, by the name of the part."""


class Spent(NamedTuple):
    """What one part took."""

    seconds: float
    processor_seconds: float
    most_mib: float
    """The largest resident size of the process, above that before the slide."""
    kept_mib: float
    """What was resident when the part had ended."""


class Watch:
    """Measures parts of a slide's work, each from a peak of its own."""

    def __init__(self) -> None:
        """Take the process's size now as what does not count."""
        self.before_mib = resident_mib("VmRSS")
        self.spent: dict[str, Spent] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        forget_peak()
        started, busy = time.perf_counter(), time.process_time()
        yield
        self.spent[name] = Spent(
            time.perf_counter() - started,
            time.process_time() - busy,
            resident_mib("VmHWM") - self.before_mib,
            resident_mib("VmRSS") - self.before_mib,
        )

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Measure each step that `infer_slide` calls while this runs."""
        former = {name: getattr(infer_slide, name) for name in CALLED}
        for name, step in former.items():
            setattr(infer_slide, name, self._watched(step, CALLED[name]))
        try:
            yield
        finally:
            for name, step in former.items():
                setattr(infer_slide, name, step)

    def _watched(self, step: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return step(*arguments, **options)

        return watched


def resident_mib(name: str) -> float:
    """Return the process's resident size (VmRSS) or the largest since `forget_peak` (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / KIB


def forget_peak() -> None:
    """Let the largest resident size start anew (Linux)."""
    Path("/proc/self/clear_refs").write_text(PEAK_FROM_NOW, encoding="utf-8")
