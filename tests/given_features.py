"""Features as TRIDENT, CLAM, STAMP, torchmil and slide2vec write them, drawn: positive slides are shifted."""

import json
from pathlib import Path

import h5py
import numpy as np
import torch

DIMENSION = 6
LEVEL0_PX = 512
TRIDENT_FOLDER = "20x_256px_0px_overlap/features_uni_v1"
TRIDENT_ATTRIBUTES = {
    "patch_size": 256,
    "patch_size_level0": LEVEL0_PX,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "level0_width": 4096,
    "level0_height": 4096,
}


def draw_features(seed: int, *, positive: bool = False, tiles: int = 12) -> np.ndarray:
    """(tiles, 6) float32; in a positive bag the first half of the tiles is 2 higher."""
    values = np.random.default_rng(seed).normal(size=(tiles, DIMENSION)).astype(np.float32)
    if positive:
        values[: tiles // 2] += 2.0
    return values


def draw_coords(tiles: int = 12) -> np.ndarray:
    """(tiles, 2) int64: rows of four tiles of 512 level-0 px."""
    index = np.arange(tiles)
    return np.column_stack([index % 4, index // 4]).astype(np.int64) * LEVEL0_PX


def write_trident(job_dir: Path, slide_id: str, features: np.ndarray, **attributes: object) -> Path:
    """As TRIDENT does: one row a chunk, growable, sizes on `coords`, the maker on `features`."""
    path = job_dir / TRIDENT_FOLDER / f"{slide_id}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    coords = draw_coords(len(features))
    with h5py.File(path, "w") as file:
        for name, values in (("features", features), ("coords", coords)):
            file.create_dataset(
                name, data=values, chunks=(1, values.shape[1]), maxshape=(None, values.shape[1])
            )
        shared = {"name": slide_id, "savetodir": "/someone/elses/folder"}
        file["coords"].attrs.update({**TRIDENT_ATTRIBUTES, **shared, **attributes})
        file["features"].attrs.update({**shared, "encoder": "uni_v1"})
    return path


def write_clam(folder: Path, slide_id: str, features: np.ndarray, *, patch_size: int = 0) -> Path:
    """As CLAM does: int32 positions without attributes; sizes, if any, in the file of positions."""
    path = folder / "h5_files" / f"{slide_id}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    coords = draw_coords(len(features)).astype(np.int32)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features, chunks=(min(32, len(features)), features.shape[1]))
        file.create_dataset("coords", data=coords)
    if patch_size:
        (folder / "patches").mkdir(exist_ok=True)
        with h5py.File(folder / "patches" / path.name, "w") as file:
            dataset = file.create_dataset("coords", data=coords.astype(np.int64))
            dataset.attrs.update({"patch_size": patch_size, "patch_level": 1, "downsample": [2.0, 2.0]})
    return path


def write_clam_pt(folder: Path, slide_id: str, features: np.ndarray) -> Path:
    path = folder / "pt_files" / f"{slide_id}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(features), path)
    return path


def write_stamp(folder: Path, slide_id: str, features: np.ndarray, *, slide_mpp: float = 0.25) -> Path:
    """As STAMP does: `feats` in float16, positions in um."""
    path = folder / "ctranspath-1a2b3c4d" / f"{slide_id}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["feats"] = features.astype(np.float16)
        file["coords"] = (draw_coords(len(features)) * slide_mpp).astype(np.float32)
        file.attrs.update(
            {
                "stamp_version": "2.5.0",
                "extractor": "ctranspath",
                "unit": "um",
                "tile_size_um": LEVEL0_PX * slide_mpp,
                "tile_size_px": 224,
            }
        )
    return path


def write_torchmil(folder: Path, slide_id: str, features: np.ndarray, *, labels: np.ndarray | None) -> Path:
    arrays = {"features": features, "coords": draw_coords(len(features)), "labels": np.array([1])}
    if labels is not None:
        arrays["inst_labels"] = labels
    for name, values in arrays.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{slide_id}.npy", values)
    return folder / "features" / f"{slide_id}.npy"


def write_slide2vec(folder: Path, slide_id: str, features: np.ndarray, *, ending: str = "npz") -> Path:
    """As slide2vec does, the positions as hs2p does: its tiles run down each column first."""
    place, tiles = folder / "tile_embeddings", folder / "tiles"
    for part in (place, tiles):
        part.mkdir(parents=True, exist_ok=True)
    path = place / f"{slide_id}.{ending}"
    count = len(features)
    if ending == "pt":
        torch.save(torch.from_numpy(features), path)
    else:
        np.savez_compressed(path, features=features, tile_index=np.arange(count))
    meta = {
        "encoder_name": "virchow2",
        "requested_tile_size_px": 256,
        "requested_spacing_um": 0.5,
        "tile_size_lv0": LEVEL0_PX,
        "feature_dim": features.shape[1],
        "num_tiles": count,
        "image_path": "/someone/elses/slide.svs",
    }
    (place / f"{slide_id}.meta.json").write_text(json.dumps(meta))
    x, y = draw_coords(count).T
    np.savez_compressed(tiles / f"{slide_id}.coordinates.npz", x=x, y=y, tile_index=np.arange(count))
    sections = {"slide": {"base_spacing_um": 0.25}, "tiling": {"overlap": 0.0}}
    (tiles / f"{slide_id}.coordinates.meta.json").write_text(json.dumps(sections))
    return path
