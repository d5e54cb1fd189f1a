"""Where other programs keep the features of a cohort: which layout a folder has, and each slide's file.

| layout | folder | one slide |
|---|---|---|
| `wsi_kd` | features/ | `<slide_id>.h5`, first line JSON |
| `trident` | job_dir/{mag}x_{size}px_{overlap}px_overlap/features_{encoder}/ | `<slide_id>.h5` |
| `clam` | h5_files/ | `<slide_id>.h5`; tile sizes, where there are any, in patches/`<slide_id>.h5` |
| `clam_pt` | pt_files/ | `<slide_id>.pt`, no coordinates |
| `stamp` | {extractor}-{hash}/ | `**/<slide_id>.h5` with `feats` |
| `torchmil` | features/, coords/, inst_labels/ | `<slide_id>.npy` or `.h5` in each |
| `slide2vec` | tile_embeddings/, tiles/ | `<slide_id>.pt` or `.npz` with `<slide_id>.meta.json` |
| `hdf5` | any other folder of `.h5` | TRIDENT, CLAM or STAMP: each file is asked when it is read |

Only names, and the first byte of one file, are looked at: finding costs as much as listing the folder.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from wsi_kd.core.errors import BadInput, unknown_name

Layout = Literal["wsi_kd", "trident", "clam", "clam_pt", "stamp", "torchmil", "slide2vec", "hdf5"]
LAYOUTS: Final = ("wsi_kd", "trident", "clam", "clam_pt", "stamp", "torchmil", "slide2vec", "hdf5")
AUTO: Final = "auto"
SHOWN: Final = 8
_TRIDENT_TILES = re.compile(r"(\d+(?:\.\d+)?)x_(\d+)px_(\d+)px_overlap")
_STAMP_FOLDER = re.compile(r"(.+)-[0-9a-f]{8}")
_TRIDENT_FEATURES = "features_"


class ForeignSlide(NamedTuple):
    """One slide's file and what its folder tells of it."""

    slide_id: str
    path: Path
    layout: Layout
    told: Mapping[str, Any] = MappingProxyType({})
    """`encoder`, `patch_size`, `overlap`, `target_magnification`, as far as names of folders hold them."""


class ForeignFolder(NamedTuple):
    """The slides of a folder by id, sorted."""

    layout: Layout
    root: Path
    slides: dict[str, ForeignSlide]


def find_foreign(folder: Path, layout: str = AUTO) -> ForeignFolder:
    """List a folder of features, in the layout named or in the one that its names show.

    Raises:
        BadInput: no such folder, no features in it, several sets of features (they are named), an unknown
            layout, or two files of one slide.
    """
    if layout not in {AUTO, *LAYOUTS}:
        raise unknown_name("layout", layout, (AUTO, *LAYOUTS))
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; expected features made by one of: {', '.join(LAYOUTS)}")
    finders = _FINDERS.values() if layout == AUTO else [_FINDERS[layout]]
    try:
        for find in finders:
            found = find(folder)
            if found is not None and found.slides:
                return found
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be listed ({error.strerror}); expected a folder of features"
        ) from None
    expected = "any known layout" if layout == AUTO else f"the layout {layout}"
    raise BadInput(f"{folder}: holds no features in {expected}; docs/interchange.md lists the layouts")


def foreign_slide(path: Path, layout: str = AUTO) -> ForeignSlide:
    """Describe a single feature file by the folder it lies in, or by its ending where that tells nothing.

    Raises:
        BadInput: no such file, or an ending that no layout has.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected one slide's features")
    if layout != AUTO:
        return ForeignSlide(_slide_id(path), path, _known(layout), _told(path.parent))
    if path.suffix == ".h5":
        kind: Layout = "wsi_kd" if _is_own(path) else _hdf5_layout(path)
    elif path.suffix in {".pt", ".npz"}:
        sidecar = path.with_suffix(".meta.json")
        kind = "slide2vec" if sidecar.is_file() or path.suffix == ".npz" else "clam_pt"
    elif path.suffix == ".npy":
        kind = "torchmil"
    else:
        raise BadInput(f"{path}: no feature file; expected .h5, .pt, .npz or .npy")
    return ForeignSlide(_slide_id(path), path, kind, _told(path.parent))


def files_of(slide: ForeignSlide) -> list[Path]:
    """List the files that a slide is read from, its own first; what changes in them changes its features."""
    own, root = slide.path, slide.path.parent.parent
    beside: dict[Layout, list[Path]] = {
        "clam": [root / "patches" / own.name],
        "hdf5": [root / "patches" / own.name],
        "torchmil": [root / "coords" / own.name, root / "inst_labels" / own.name],
        "slide2vec": [
            own.with_name(f"{slide.slide_id}.meta.json"),
            root / "tiles" / f"{slide.slide_id}.coordinates.npz",
            root / "tiles" / f"{slide.slide_id}.coordinates.meta.json",
        ],
    }
    others = [path for path in beside.get(slide.layout, []) if path.is_file() and path != own]
    return [own, *others]


def _hdf5_layout(path: Path) -> Layout:
    if path.parent.name.startswith(_TRIDENT_FEATURES):
        return "trident"
    return "torchmil" if path.parent.name == "features" and _is_torchmil(path.parent.parent) else "hdf5"


def _known(layout: str) -> Layout:
    for name in LAYOUTS:
        if name == layout:
            return name
    raise unknown_name("layout", layout, LAYOUTS)


def _own(folder: Path) -> ForeignFolder | None:
    """Our own files, in a folder of features or in a run's `results_dir`."""
    for place in (folder, folder / "features"):
        files = _files(place, ".h5")
        if files and _is_own(files[0]):
            return _folder("wsi_kd", folder, files)
    return None


def _trident(folder: Path) -> ForeignFolder | None:
    patterns = ("", f"{_TRIDENT_FEATURES}*", f"*_overlap/{_TRIDENT_FEATURES}*")
    places = [place for pattern in patterns for place in (folder.glob(pattern) if pattern else [folder])]
    found = sorted(place for place in places if place.is_dir() and place.name.startswith(_TRIDENT_FEATURES))
    full = [place for place in found if _files(place, ".h5")]
    layout: Layout = "wsi_kd" if full and _is_own(_files(full[0], ".h5")[0]) else "trident"
    return _only(layout, folder, full)


def _clam(folder: Path) -> ForeignFolder | None:
    places = [place for place in (folder, folder / "h5_files") if place.name == "h5_files"]
    return _only("clam", folder, [place for place in places if _files(place, ".h5")])


def _clam_pt(folder: Path) -> ForeignFolder | None:
    if (folder / "pt_files").is_dir():
        return _folder("clam_pt", folder, _files(folder / "pt_files", ".pt"))
    files = _files(folder, ".pt")
    return _folder("clam_pt", folder, files) if files else None


def _stamp(folder: Path) -> ForeignFolder | None:
    """STAMP keeps the slides' subfolders: ids are the files' names, so names must be unique."""
    places = [folder] if _STAMP_FOLDER.fullmatch(folder.name) else sorted(folder.iterdir())
    found = [place for place in places if place.is_dir() and _STAMP_FOLDER.fullmatch(place.name)]
    if len(found) > 1:
        raise _several(folder, found)
    place = found[0] if found else folder
    files = sorted(path for path in place.rglob("*.h5") if path.is_file() and not path.name.startswith("."))
    return _folder("stamp", folder, files) if files else None


def _stamp_by_name(folder: Path) -> ForeignFolder | None:
    named = [folder, *(place for place in folder.iterdir() if place.is_dir())]
    return _stamp(folder) if any(_STAMP_FOLDER.fullmatch(place.name) for place in named) else None


def _torchmil(folder: Path) -> ForeignFolder | None:
    if not _is_torchmil(folder):
        return None
    arrays = folder / "features"
    return _folder("torchmil", folder, _files(arrays, ".npy") or _files(arrays, ".h5"))


def _slide2vec(folder: Path) -> ForeignFolder | None:
    place = folder / "tile_embeddings" if (folder / "tile_embeddings").is_dir() else folder
    described = _files(place, ".meta.json")
    files = [_payload(path) for path in described if not path.name.endswith(".coordinates.meta.json")]
    return _folder("slide2vec", folder, files) if files else None


def _payload(sidecar: Path) -> Path:
    """Name the file that a slide2vec sidecar describes; a slide without tiles has the sidecar alone."""
    stem = sidecar.name.removesuffix(".meta.json")
    candidates = [sidecar.with_name(f"{stem}{ending}") for ending in (".npz", ".pt")]
    return next((path for path in candidates if path.is_file()), sidecar)


def _hdf5(folder: Path) -> ForeignFolder | None:
    files = _files(folder, ".h5")
    return _folder("hdf5", folder, files) if files else None


_FINDERS: Final[dict[str, Callable[[Path], ForeignFolder | None]]] = {
    "wsi_kd": _own,
    "trident": _trident,
    "clam": _clam,
    "torchmil": _torchmil,
    "slide2vec": _slide2vec,
    "clam_pt": _clam_pt,
    "stamp": _stamp_by_name,
    "hdf5": _hdf5,
}
"""In the order in which `auto` asks: what a folder's names say goes before what any folder could be."""


def _is_torchmil(folder: Path) -> bool:
    beside = ("labels", "inst_labels", "coords")
    return (folder / "features").is_dir() and any((folder / name).is_dir() for name in beside)


def _is_own(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return handle.read(1) == b"{"
    except OSError:
        return False


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.endswith(ending) and path.is_file()]
    return sorted(path for path in found if not path.name.startswith((".", "chunk-")))


def _only(layout: Layout, folder: Path, places: list[Path]) -> ForeignFolder | None:
    if len(places) > 1:
        raise _several(folder, places)
    return _folder(layout, folder, _files(places[0], ".h5")) if places else None


def _several(folder: Path, places: list[Path]) -> BadInput:
    named = ", ".join(str(place.relative_to(folder)) for place in places[:SHOWN])
    return BadInput(f"{folder}: holds {len(places)} sets of features: {named}; name one of these folders")


def _folder(layout: Layout, root: Path, files: list[Path]) -> ForeignFolder:
    slides: dict[str, ForeignSlide] = {}
    for path in files:
        slide_id = _slide_id(path)
        if slide_id in slides:
            first = slides[slide_id].path
            raise BadInput(f"{root}: two files of slide '{slide_id}': {first} and {path}; keep one of them")
        slides[slide_id] = ForeignSlide(slide_id, path, layout, _told(path.parent))
    return ForeignFolder(layout, root, dict(sorted(slides.items())))


def _slide_id(path: Path) -> str:
    name = unicodedata.normalize("NFC", path.name)
    for ending in (".meta.json", ".h5", ".pt", ".npz", ".npy"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _told(folder: Path) -> dict[str, Any]:
    """Read the names of TRIDENT's and STAMP's folders."""
    told: dict[str, Any] = {}
    if folder.name.startswith(_TRIDENT_FEATURES):
        told["encoder"] = folder.name.removeprefix(_TRIDENT_FEATURES)
        tiles = _TRIDENT_TILES.fullmatch(folder.parent.name)
        if tiles:
            told |= {
                "target_magnification": float(tiles[1]),
                "patch_size": int(tiles[2]),
                "overlap": int(tiles[3]),
            }
    return told
