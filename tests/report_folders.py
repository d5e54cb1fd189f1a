"""A `RunMaker`'s run as files: what the step report reads."""

import numpy as np
from reporting_parts import write_split

from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import TileTable, write_predictions, write_tiles_csv
from wsi_kd.settings.all import Settings
from wsi_kd.steps.status import write_status

COORDS = np.array([[200, 300], [456, 300], [200, 512], [900, 600]], np.int64)
"""The last one reaches beyond the slide, 1024 x 768 px."""


def write_run(maker, root, sections):
    """Write what the steps before the report left; every model has the same tiles."""
    models = maker.models()
    publish_json(root / "evaluation" / "metrics.json", maker.metrics(models))
    write_status(root / "status.csv", maker.statuses(), stamp("status", {}))
    write_split(maker, root / "splits.csv", Settings().split.model_dump(mode="json"))
    (root / "benchmarks" / "train").mkdir(parents=True)
    benchmark = "s\th:m:s\tmax_rss\tcpu_time\n75.5\t0:01:15\t512.25\t70.0\n"
    (root / "benchmarks" / "train" / "weno-seed0-fold1.tsv").write_text(benchmark)
    (root / "benchmarks" / "mask.tsv").write_text(benchmark.replace("512.25", "-"))
    (root / "benchmarks" / "report.tsv").write_text(benchmark)
    for model in models:
        place = f"{model.recipe}/seed{model.seed}/fold{model.fold}"
        write_model(root / "models" / place, model, sections)
        write_scores(maker, root / "predictions" / place, model)


def write_model(folder, model, sections):
    """Write model.json and history.csv."""
    train = {"train": {**Settings().train.model_dump(mode="json"), "recipes": [model.recipe]}}
    header = {**stamp("model", train), "recipe": model.recipe, "sections": sections}
    publish_json(folder / "model.json", header)
    history = {**model.history, "val_student_loss": [*[""] * 7, 0.5], "warning": ["", "guard", *[""] * 6]}
    rows = list(zip(*history.values(), strict=True))
    publish_table(folder / "history.csv", list(history), rows, stamp=stamp("history", train))


def write_scores(maker, folder, model):
    """Write predictions.csv, one validation slide in it, and the tiles of every test slide."""
    thresholds = {"teacher": 0.5, "student": 0.4}
    facts = {"recipe": model.recipe, "seed": model.seed, "fold": model.fold, "thresholds": thresholds}
    header = {**stamp("predictions", {"predict": {"device": "auto"}}), **facts}
    validation = model.test[0]._replace(slide_id="a_validation_slide", part="val")
    write_predictions(
        folder / "predictions.csv", [validation, *model.test], classes=maker.classes, header=header
    )
    for row in model.test:
        student = None if row.student_probability is None else np.array([[0.1], [0.5], [0.9], [1.0]])
        tiles = TileTable(
            COORDS,
            256.0,
            np.array([0.2, 0.3, 0.4, 0.1]),
            None,
            np.array([[0.3], [0.4], [0.5], [0.6]]),
            student,
            np.array([0, 0, 1, -1], np.int8),
        )
        path = folder / "tiles" / f"{row.slide_id}.csv"
        write_tiles_csv(path, tiles, classes=maker.classes, header=stamp("tile_scores", {}))
