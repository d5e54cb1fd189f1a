"""What `wsi-kd doctor` finds of the libraries that decode files: each loaded version beside its floor."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from wsi_kd.cli.diagnosis import Check, State, compare
from wsi_kd.core.floors import FLOORS


def check_libraries() -> list[Check]:
    """Load each library, ask it for its version, and compare that with the floor."""
    return [_check(name, ask) for name, ask in _ASKED]


def _check(name: str, ask: Callable[[], str]) -> Check:
    library = name.partition(" ")[0]
    floor = FLOORS[library]
    try:
        found = ask()
    except (ImportError, OSError, KeyError) as error:
        told = " ".join(str(error).split())
        return Check(name, State.BROKEN, f"does not say its version: {told}", floor.remedy)
    return compare(name, found, floor=floor.version, remedy=f"{floor.remedy}; an older one {floor.why}")


def _libtiff_of_pillow() -> str:
    from PIL import features

    return str(features.version("libtiff"))


def _libtiff_of_imagecodecs() -> str:
    import imagecodecs

    return str(imagecodecs.version(dict)["libtiff"])


def _hdf5() -> str:
    from wsi_kd.features.store import HDF5_VERSION

    return HDF5_VERSION


_ASKED: tuple[tuple[str, Callable[[], str]], ...] = (
    ("libtiff of Pillow", _libtiff_of_pillow),
    ("libtiff of imagecodecs", _libtiff_of_imagecodecs),
    ("HDF5", _hdf5),
    ("Pillow", partial(version, "pillow")),
    ("safetensors", partial(version, "safetensors")),
)
