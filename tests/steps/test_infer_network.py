"""A model whose slides were segmented by a network asks for that network again."""

import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash
from wsi_kd.core.places import without_paths
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.infer_model import _mask_network, _settings
from wsi_kd.training.checkpoint import LoadedModel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, by torch itself


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.pt"
    torch.jit.script(nn.Conv2d(3, 2, 1)).save(str(path))
    return path


def trained_with(path, sha256, **mask):
    mask = {"source": "network", "network": str(path), **mask}
    sections = {"slides": {}, "mask": mask, "tile": {}, "embed": {}}
    return LoadedModel(nn.Identity(), {"sections": sections, "network_sha256": sha256})


def load(loaded, tmp_path, *, network=None):
    settings = _settings(loaded, device="cpu", weights=None, network=network, where=tmp_path / "model.json")
    return _mask_network(loaded, settings)


def test_the_network_of_the_training_is_loaded_wherever_it_lies(network, tmp_path):
    loaded = trained_with(network, file_hash(network))
    assert load(loaded, tmp_path).sha256 == file_hash(network)
    moved = network.rename(tmp_path / "moved.pt")
    with pytest.raises(BadInput, match=r"network\.pt: no such file; .* --mask-network"):
        load(loaded, tmp_path)
    assert load(loaded, tmp_path, network=moved).path == moved


def test_another_network_is_refused(network, tmp_path):
    with pytest.raises(BadInput, match=r"at training it was 00aa; .* --mask-network"):
        load(trained_with(network, "00aa"), tmp_path)


def test_models_of_thumbnails_need_none(tmp_path):
    loaded = LoadedModel(nn.Identity(), {"sections": {"slides": {}, "mask": {}, "tile": {}, "embed": {}}})
    assert load(loaded, tmp_path) is None
    with pytest.raises(BadInput, match=r"no segmentation network found the tissue; leave --mask-network out"):
        load(loaded, tmp_path, network=tmp_path / "network.pt")


def test_where_the_network_lay_is_not_told_in_predictions(network):
    sections = parse_settings({"mask": {"source": "network", "network": str(network)}}, where="t")
    told = without_paths({"mask": sections.mask.model_dump(mode="json")})
    assert told["mask"]["network"] == "network.pt"
