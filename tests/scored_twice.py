"""A run and what `infer` says of the same slide with the same model, for heatmaps of both."""

import shutil

import numpy as np
from untrained_models import SECTIONS, write_model

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import read_tiles_csv, write_tiles_csv
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.heatmap import run_heatmap
from wsi_kd.steps.heatmap_files import Choice
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.tile import run_tile
from wsi_kd.training.checkpoint import load_model, save_model

CLASSES = ("normal", "tumor")
SETTINGS = parse_settings(SECTIONS, where="test")
KEY = "weno/seed0/fold0"


class Scored:
    """A run's folder, and what `infer` says of the same slide with the same model."""

    def __init__(self, root, slides):
        self.root, self.run, self.answer = root, root / "run", root / "answer"
        self.rows = [
            SlideRow(name, slide.path, "tumor", name, "", None, None, "") for name, slide in slides.items()
        ]
        self.model = self.run / "models" / KEY
        self.embed()
        self.predict(0.5)
        student = read_tiles_csv(self.run / "predictions" / KEY / "tiles" / "shifted.csv").student_score
        self.threshold = float(np.sort(student)[len(student) // 2])  # a tile's own score: it reaches it
        self.predict(self.threshold)
        run_infer([self.rows[0]], model_dir=self.model, out_dir=self.answer, device="cpu")

    def embed(self):
        folders = {name: self.run / name for name in ("masks", "tiles", "features")}
        status = self.root / "status.csv"
        run_mask(self.rows, masks_dir=folders["masks"], status_path=status, settings=SETTINGS)
        run_tile(
            self.rows,
            masks_dir=folders["masks"],
            tiles_dir=folders["tiles"],
            status_path=status,
            settings=SETTINGS,
        )
        run_embed(
            self.rows,
            tiles_dir=folders["tiles"],
            features_dir=folders["features"],
            status_path=status,
            settings=SETTINGS,
        )
        lines = [[row.slide_id, row.slide_id, row.label, "test"] for row in self.rows]
        header = {**stamp("splits", {}), "classes": list(CLASSES)}
        publish_table(
            self.run / "splits.csv", ["slide_id", "case_id", "label", "fold_0"], lines, stamp=header
        )

    def predict(self, threshold):
        """Predict with a model of this threshold; its weights are always the same."""
        names = ("teacher", "student", "student_max", "student_topk")
        write_model(self.model, thresholds=dict.fromkeys(names, threshold))
        loaded = load_model(self.model)
        header = {name: value for name, value in loaded.header.items() if name != "weights_sha256"}
        save_model(self.model, "last", loaded.model, header=header)
        run_predict(
            Manifest(tuple(self.rows), CLASSES),
            features_dir=self.run / "features",
            splits_path=self.run / "splits.csv",
            model_dir=self.model,
            fold=0,
            out_dir=self.run / "predictions" / KEY,
            settings=SETTINGS,
        )

    def draw(self, out, choice=None, *, target=None, slide_ids=(), **changes):
        slides = tuple(row.path for row in self.rows[:1])
        return run_heatmap(
            target or self.run,
            Sources(slides=slides),
            choice or Choice(um_per_px=4.0),
            slide_ids=slide_ids or [self.rows[0].slide_id],
            out=out,
            **changes,
        )


def scored_elsewhere(made, folder, coords):
    """The run of one slide with its tiles moved to `coords`, one score each."""
    tiles = read_tiles_csv(made.answer / "tiles.csv")
    few = tiles._replace(
        coords=np.array(coords, np.int64),
        **{
            name: getattr(tiles, name)[: len(coords)]
            for name in ("attention", "attention_logits", "evidence", "student_probability", "tile_labels")
        },
    )
    folder.mkdir()
    shutil.copy(made.answer / "prediction.json", folder)
    write_tiles_csv(folder / "tiles.csv", few, classes=CLASSES, header=stamp("tile_scores", {}))
    return folder
