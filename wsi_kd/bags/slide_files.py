"""From files to slide ids and back: which names are slides, and which ids can name a file."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.dicom_header import series_of

PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg")
"""Endings of what may be a slide, and as often is a thumbnail, a label or a mask beside one."""
FOLDER_EXTENSION = ".zarr"
"""Ending of the one kind of slide that is a folder."""
SLIDE_EXTENSIONS = (
    ".ome.tiff",
    ".ome.tif",
    ".ome.btf",
    ".ome.zarr",
    ".svs",
    ".tiff",
    ".tif",
    ".btf",
    ".qptiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".bif",
    ".avs",
    ".vms",
    ".vmu",
    ".svslide",
    ".czi",
    ".dcm",
    FOLDER_EXTENSION,
    *PICTURE_EXTENSIONS,
)
"""File name endings of whole slides, any case; compound endings first."""

MAX_ID_BYTES = 200
TABLE_NAMES = ("predictions.csv", "predictions.csv.meta.json")
"""What lies beside the slides' folders in an output folder of infer."""
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control, invisible and half characters, and of line ends."""


def slide_id_of(path: Path) -> str:
    """Return the file's name without a slide's ending, `.ome.tif` as a whole.

    >>> slide_id_of(Path("scans/P1.v2.ome.tif")), slide_id_of(Path("P1.SVS")), slide_id_of(Path("P1.v2"))
    ('P1.v2', 'P1', 'P1.v2')
    """
    name = unicodedata.normalize("NFC", path.name)
    for ending in SLIDE_EXTENSIONS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name


def told_name(slide_id: str, path: Path) -> str:
    """Return the name by which outputs call a slide's file: its own where that says no more than the id does.

    A scanner's file name may hold a patient's; the id and the ending stand for such a one.

    >>> told_name("P1", Path("scans/P1.svs")), told_name("P1", Path("scans/P1 John Doe.svs"))
    ('P1.svs', 'P1.svs')
    """
    if slide_id_of(path) == unicodedata.normalize("NFC", slide_id):
        return path.name
    ending = next((ending for ending in SLIDE_EXTENSIONS if path.name.lower().endswith(ending)), "")
    return f"{slide_id}{ending}"


def is_slide_name(path: Path) -> bool:
    """Tell whether the name ends like a slide's and is no hidden file."""
    return path.name.lower().endswith(SLIDE_EXTENSIONS) and not path.name.startswith(".")


def slide_id_fault(slide_id: str) -> str:
    """Say why an id cannot name files (masks/<slide_id>.geojson, ...), or return an empty string.

    >>> slide_id_fault("P1"), slide_id_fault("../P1")
    ('', 'holds a path separator')
    """
    if not slide_id:
        return "is empty"
    if "/" in slide_id or "\\" in slide_id:
        return "holds a path separator"
    plain = slide_id.isascii() and slide_id.isprintable()  # nearly all of 100,000, without a look at letters
    if not plain and any(unicodedata.category(letter) in _INVISIBLE for letter in slide_id):
        return "holds a control or invisible character"
    if slide_id[0] in "-.=+@":
        return f"starts with '{slide_id[0]}'"
    if len(slide_id.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    return "is the name of a table that infer writes" if same_name_key(slide_id) in TABLE_NAMES else ""


def same_name_key(name: str) -> str:
    """Return a key that is equal for names which differ only in case or in Unicode form (NFC, NFD, wide)."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def is_regular_file(path: Path) -> bool:
    """Tell whether a readable-looking file is there; a folder, a pipe or an impossible name is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there; one behind a closed folder, or with an impossible name, is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_slide_path(path: Path) -> bool:
    """Tell whether a slide may be read there: a regular file, or the folder of an OME-Zarr."""
    try:
        return path.is_file() or is_slide_folder(path)
    except (OSError, ValueError):
        return False


def is_slide_folder(path: Path) -> bool:
    """Tell whether a folder is one slide, by its name."""
    return path.name.lower().endswith(FOLDER_EXTENSION) and path.is_dir()


def slides_in(folder: Path) -> list[Path]:
    """List the slides of a folder, sorted by name, without looking into its subfolders.

    Raises:
        BadInput: not a folder, or not readable.
    """
    return slides_among(slide_files_in(folder))


def slide_files_in(folder: Path) -> list[Path]:
    """List what is named like a slide in a folder, sorted.

    Raises:
        BadInput: not a folder, or not readable.
    """
    try:
        return sorted(path for path in folder.iterdir() if is_slide_name(path) and is_slide_path(path))
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be listed ({error.strerror}); expected a folder of slides"
        ) from None


def slides_among(files: Sequence[Path]) -> list[Path]:
    """Choose the slides among files that are named like one.

    MIRAX slides are their `.mrxs` file (the folder beside it is data). The files of one DICOM series are one
    slide: its first file stands for it, and OpenSlide finds the others. Pictures (PNG, JPEG) are slides only
    where there is no other kind: beside scans they are thumbnails, labels or masks.
    """
    scans = [path for path in files if not path.name.lower().endswith(PICTURE_EXTENSIONS)]
    return list(_first_of_series(scans or files))


def _first_of_series(files: Iterable[Path]) -> Iterable[Path]:
    seen: set[bytes] = set()
    for path in files:
        if path.suffix.lower() == ".dcm":
            series = series_of(path)
            if series and series in seen:
                continue
            seen.add(series)
        yield path
