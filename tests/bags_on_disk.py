"""The same bags as feature files: loaded into memory, or left on disk."""

from pathlib import Path

import numpy as np

from wsi_kd.bags.datasets import load_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, write_features

HEADER = {"status": "ok", "encoder": "e", "slide_mpp": 0.5, "tile_px": 256, "tile_mpp": 0.5, "overlap_px": 0}


def loaded_from_files(bags, folder, *, on_disk):
    """Write each bag of a set to a feature file (where it is not there yet) and load them again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, slide_id in enumerate(bags.slide_ids):
        own, path = slice(*bags.offsets[index : index + 2]), folder / f"{slide_id}.h5"
        arrays = (np.ascontiguousarray(part[own]) for part in (bags.features, bags.coords, bags.tile_labels))
        if not path.is_file():
            header = {**stamp("features", {}), **HEADER, **bags.header}
            write_features(path, FeatureFile(slide_id, *arrays, header))
        rows.append(SlideRow(slide_id, Path(slide_id), str(bags.labels[index]), slide_id, "", None, None, ""))
    return load_bags(folder, rows, sorted({row.label for row in rows}), on_disk=on_disk)
