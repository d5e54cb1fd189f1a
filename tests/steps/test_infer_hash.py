import torch

from wsi_kd.bags.manifest import bare_row
from wsi_kd.core.provenance import KIND_VERSIONS
from wsi_kd.settings.all import Settings
from wsi_kd.steps.infer_model import Inference
from wsi_kd.steps.infer_slide import slide_hash


def test_an_answer_that_stands_on_a_former_kind_of_mask_is_not_kept(synthetic_slide, monkeypatch):
    row = bare_row(synthetic_slide("normal").path, None)
    inference = Inference((), None, Settings(), torch.device("cpu"), None)
    first = slide_hash(row, inference)
    assert slide_hash(row, inference) == first != ""
    monkeypatch.setitem(KIND_VERSIONS, "mask", KIND_VERSIONS["mask"] + 1)
    assert slide_hash(row, inference) != first
