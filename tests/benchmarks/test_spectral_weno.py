"""The spectral benchmark's narrow models and tables."""

import pytest
import torch

from spectral_weno import CUT, FIGURES, PAIRS, WIDE, figures_of_shape, narrowed, tables
from wsi_kd.mil.registry import create_model


def built(hidden=12):
    torch.manual_seed(0)
    return create_model(
        "gated_abmil",
        feature_dim=5,
        classes=2,
        hidden_dim=hidden,
        attention_dim=WIDE["attention_dim"],
        dropout=0.25,
        student_hidden_dim=0,
        with_student=True,
    ).eval()


def test_narrow_model_has_the_best_neurons_and_fewer_parameters():
    wide = built()
    narrow = narrowed(wide, 4)
    best = wide.projector.weight.norm(dim=1).topk(4).indices.sort().values
    assert torch.equal(narrow.projector.weight, wide.projector.weight[best])
    # a neuron has 5 + 1 weights of its own, 2 x 64 in the attention, 2 in the bag head, 1 in the student
    assert figures_of_shape(wide)[1] - figures_of_shape(narrow)[1] == 8 * (6 + 128 + 2 + 1)
    assert [figures_of_shape(model)[0] for model in (wide, narrow)] == [12.0, 4.0]


def test_tables_compare_run_by_run():
    names = dict.fromkeys(name for pair in PAIRS for name in pair)
    values = dict(zip(FIGURES, (8.0, 0.9, 0.8, 100.0, 1.5), strict=True))
    runs = [{name: dict(values) for name in names} for _ in range(2)]
    for run in runs:
        for name in CUT:
            run[name]["active"] = 9.0
    runs[0]["gated, cut"]["instance AUC"] = 0.9
    runs[1]["gated, cut"]["instance AUC"] = 0.75
    text = tables(runs)
    assert (
        "| gated, cut | 8 (8 to 8) | 0.900 ± 0.000 | 0.825 ± 0.106 | 100 (100 to 100) | 1.5 ± 0.0 |" in text
    )
    assert "| gated, cut less wide | +0.000 ± 0.000 | +0.025 ± 0.106 | 1 of 2 |" in text
    assert "gated, cut: active neurons of 256 / kept, run by run: 9 / 8, 9 / 8" in text


@pytest.mark.parametrize("keep", [1, 12])
def test_any_width_can_be_kept(keep):
    assert narrowed(built(), keep).projector.out_features == keep
