"""A run whose models are trained by the step: features of a made-up encoder, tiny models."""

from scored_runs import Run, features_of

from wsi_kd.features.store import write_features
from wsi_kd.inference.tables import read_predictions
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.train import run_train

TILING = {"tile_px": 256, "tile_mpp": 0.5, "overlap_px": 0}


class TrainedRun(Run):
    """`section` is the section train."""

    def __init__(self, root, section):
        super().__init__(root)
        self.section = section
        for index, row in enumerate(self.rows[:-1]):
            write_features(root / "features" / f"{row.slide_id}.h5", features_of(row, index, **TILING))

    def settings(self, **train):
        values = {"embed": {"encoder": "made_up"}, "train": {**self.section, **train}}
        return parse_settings(values, where="test")

    def model_dir(self, recipe):
        return self.root / "models" / recipe / "seed0" / "fold0"

    def train(self, recipe, *, out_dir=None, large=None, **train):
        """Train the model of seed 0 and fold 0, return its folder; `large` is the recipe that teaches it."""
        run_train(
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            manifest=self.manifest,
            recipe=recipe,
            seed=0,
            fold=0,
            out_dir=out_dir or self.model_dir(recipe),
            settings=self.settings(**train),
            large_dir=None if large is None else self.model_dir(large),
        )
        return out_dir or self.model_dir(recipe)

    def predict_with(self, model_dir):
        """Score the slides of fold 0 and return the rows of its predictions.csv."""
        out_dir = self.root / "predictions" / model_dir.parent.parent.name
        run_predict(
            self.manifest,
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            model_dir=model_dir,
            fold=0,
            out_dir=out_dir,
            settings=self.settings(),
        )
        return read_predictions(out_dir / "predictions.csv").rows
