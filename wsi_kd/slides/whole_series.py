"""Whether the finest file of a DICOM series is among those that were found."""

from collections.abc import Mapping
from typing import Final

_IMAGE_TYPE: Final = "dicom.ImageType[3]"
_RESAMPLED: Final = "RESAMPLED"


def series_doubt(properties: Mapping[str, str]) -> str:
    """Say so where level 0 of a DICOM slide was made from a finer level, which is not there; else nothing.

    Value 4 of ImageType (DICOM PS3.3, C.8.12.4.1.1) is RESAMPLED for a level that another was shrunk to. No
    file tells how many there should be.

    >>> series_doubt({"dicom.ImageType[3]": "NONE"}), series_doubt({})
    ('', '')
    """
    if properties.get(_IMAGE_TYPE) != _RESAMPLED:
        return ""
    return (
        "its finest DICOM file was shrunk from a finer one, which is not in the folder; was all of it copied?"
    )
