import numpy as np
import pytest
from scored_runs import CLASSES, Run, features_of

from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import write_features
from wsi_kd.steps.scored_models import read_model, read_tiles, tile_scores


def test_attention_is_compared_across_slides_as_attention_times_tiles(tmp_path):
    """Softmax sums to 1 over any slide; times its tiles it sums to their number: big slides count alike."""
    run = Run(tmp_path)
    tumor = next(slide_id for slide_id in run.folds[0].test if run.rows[int(slide_id[1:])].label == "tumor")
    whole = features_of(run.rows[int(tumor[1:])], int(tumor[1:]))
    fewer = whole._replace(
        features=whole.features[:12], coords=whole.coords[:12], tile_labels=whole.tile_labels[:12]
    )
    write_features(run.root / "features" / f"{tumor}.h5", fewer)
    model = read_model(run.predict("abmil", fold=0), CLASSES)
    found = tile_scores(model, read_tiles(model, with_detections=False), "attention")
    sums = np.bincount(found.slide, weights=found.scores)
    sizes = np.bincount(found.slide)
    assert sorted(set(sizes.tolist())) == [12, 30]
    assert sums == pytest.approx(sizes, abs=1e-9)


@pytest.mark.parametrize(
    ("changed", "told"), [({"label": "tumor"}, "'tumor'"), ({"case_id": "other"}, "and 'other'")]
)
def test_predictions_of_other_labels_or_cases_are_refused(tmp_path, changed, told):
    run = Run(tmp_path)
    folders = [run.predict("abmil", fold=fold) for fold in (0, 1)]
    slide = next(one for one in run.folds[0].test if run.rows[int(one[1:])].label == "normal")
    rows = tuple(row._replace(**changed) if row.slide_id == slide else row for row in run.rows)
    run.manifest = run.manifest._replace(rows=rows)
    with pytest.raises(BadInput, match=f"predictions of {slide} with label 'normal'.*{told}.*wsi-kd split"):
        run.evaluate(folders)
    assert not (run.root / "evaluation").exists()
