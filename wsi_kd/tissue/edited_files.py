"""Which file of a folder is a slide's edited tissue. Light: the workflow's plan asks it for every slide."""

from pathlib import Path

from wsi_kd.core.errors import BadInput

RASTER_SUFFIXES = (".png", ".tif", ".tiff")
EDITED_SUFFIXES = (".geojson", *RASTER_SUFFIXES)


def find_edited(folder: Path, slide_id: str) -> Path | None:
    """Return the file of a slide in a folder of edited tissue, if there is one.

    Raises:
        BadInput: there are two, say a mask and an outline.
    """
    files = [path for suffix in EDITED_SUFFIXES if (path := folder / f"{slide_id}{suffix}").is_file()]
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise BadInput(f"{folder}: {names} for one slide; keep the one that shall count")
    return files[0] if files else None
