"""`wsi-kd` with an OpenSlide that dies of slides by their names: as a program, so that signals are real."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from wsi_kd.cli.app import GROUPS, run
from wsi_kd.cli.crash_guard import Limits, stand_guard
from wsi_kd.cli.words import take_words

LIMITS = Limits(hang_s=20.0, budget_bytes=2**29, look_s=0.1)
"""Impatient, yet a slide that is slow because the machine is does not count as one that hangs."""


def crash() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def swell() -> None:
    """Ask for more than the budget, use it and hold it until the guard has looked."""
    time.sleep(3)
    held = bytearray(2**30)
    held[::4096] = b"1" * len(held[::4096])
    time.sleep(600)


def kill() -> None:
    """Be chosen by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


FATAL = {"crash": crash, "abort": os.abort, "swell": swell, "hang": lambda: time.sleep(600), "kill": kill}


def make_fatal() -> None:
    """Let reading end as the name of the slide says."""
    from wsi_kd.slides import openslide_reader

    read = openslide_reader._pixels

    def read_or_die(slide, where):
        FATAL.get(Path(str(slide._filename)).stem, lambda: None)()
        return read(slide, where)

    openslide_reader._pixels = read_or_die


def main() -> None:
    """Do what `wsi_kd.cli.app.main` does, with limits for the impatient."""
    given = sys.argv[1:]
    innocent = given[0] == "--innocent"
    make_fatal()
    stand_guard(take_words(given[innocent:], groups=GROUPS).words, limits=LIMITS)
    if innocent:  # the command itself crashes, whatever it has read
        from wsi_kd.steps import mask

        mask.write_tissue = lambda *_: crash()
    sys.exit(run(given[innocent:]))


if __name__ == "__main__":
    main()
