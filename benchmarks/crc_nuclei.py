"""Turn the CRC nuclei mosaics into a cohort of slides: the whole workflow on real tissue with tile truth.

Each of the 60 patients becomes one tiled pyramidal TIFF (lossless, 0.55 um/px); every 27 x 27 px nucleus is
one tile. The truth of a nucleus travels as an annotation, the occupied cells of the mosaic as a mask edited
by hand: the ordinary roads.
Source of the images: CRCHistoPhenotypes (Sirinukunwattana et al., IEEE TMI 2016), for research.

    python benchmarks/crc_nuclei.py --data ../shared/data --out results/crc-cohort
    snakemake -c2 --configfile configs/crc_nuclei.yaml
"""

import argparse
import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from wsi_kd.core.files import publish, publish_json, publish_table

CELL_PX = 27
SLIDE_MPP = 0.55


class Nucleus(NamedTuple):
    """One 27 x 27 px cell of a patient's mosaic."""

    row: int
    column: int
    cancerous: bool


def read_instances(archive: zipfile.ZipFile) -> dict[int, list[Nucleus]]:
    """Read `instances.csv` of the archive: patient -> nuclei."""
    patients: dict[int, list[Nucleus]] = defaultdict(list)
    text = archive.read("instances.csv").decode("utf-8")
    for line in csv.DictReader(io.StringIO(text)):
        nucleus = Nucleus(int(line["row"]), int(line["col"]), line["isCancerous"] == "1")
        patients[int(line["patientID"])].append(nucleus)
    return patients


def write_slide(path: Path, mosaic: Image.Image) -> None:
    """Write a mosaic as a tiled, lossless TIFF of two levels with its resolution."""
    per_centimeter = 1e4 / SLIDE_MPP
    with publish(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        for level in range(2):
            writer.write(
                np.asarray(mosaic.reduce(2**level)),
                photometric="rgb",
                tile=(256, 256),
                compression="deflate",
                subfiletype=level,
                resolution=(per_centimeter / 2**level,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def cell_features(nuclei: Sequence[Nucleus], name: str) -> dict[str, Any]:
    """Describe nuclei as a GeoJSON FeatureCollection of squares classified as `name`."""
    return {"type": "FeatureCollection", "features": [_square(nucleus, name) for nucleus in nuclei]}


def write_cohort(data: Path, out: Path) -> Path:
    """Write slides, masks, annotations and the manifest below `out`; return the manifest's path."""
    with zipfile.ZipFile(data / "patches" / "crchisto_main_mosaics.zip") as archive:
        patients = read_instances(archive)
        for patient, nuclei in sorted(patients.items()):
            slide_id = f"patient_{patient:03d}"
            mosaic = Image.open(io.BytesIO(archive.read(f"{slide_id}.png"))).convert("RGB")
            write_slide(out / "slides" / f"{slide_id}.tiff", mosaic)
            publish_json(out / "masks" / f"{slide_id}.geojson", cell_features(nuclei, "Tissue"))
            cancerous = [nucleus for nucleus in nuclei if nucleus.cancerous]
            publish_json(out / "annotations" / f"{slide_id}.geojson", cell_features(cancerous, "Tumor"))
    rows = [_manifest_row(patient, nuclei) for patient, nuclei in sorted(patients.items())]
    columns = ("slide_id", "path", "label", "case_id", "annotation")
    publish_table(out / "slides.csv", columns, rows, stamp={"kind": "manifest"})
    return out / "slides.csv"


def _manifest_row(patient: int, nuclei: Sequence[Nucleus]) -> tuple[str, ...]:
    slide_id = f"patient_{patient:03d}"
    label = "cancer" if any(nucleus.cancerous for nucleus in nuclei) else "benign"
    return slide_id, f"slides/{slide_id}.tiff", label, slide_id, f"annotations/{slide_id}.geojson"


def _square(nucleus: Nucleus, name: str) -> dict[str, Any]:
    left, top = nucleus.column * CELL_PX, nucleus.row * CELL_PX
    right, bottom = left + CELL_PX, top + CELL_PX
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def main() -> None:
    """Write the cohort named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds patches/crchisto_main_mosaics.zip"
    )
    parser.add_argument("--out", type=Path, default=Path("results/crc-cohort"))
    arguments = parser.parse_args()
    print(write_cohort(arguments.data, arguments.out))


if __name__ == "__main__":
    main()
