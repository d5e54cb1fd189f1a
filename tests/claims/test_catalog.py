"""The lists of `wsi-kd methods` are the registries, with the references that stand in the losses' files."""

from wsi_kd.claims.catalog import loss_paper, losses, methods, tools
from wsi_kd.kd.registry import LOSSES, METHODS, TOOLS

WITHOUT_PAPER = {"bce", "ce"}


def test_methods_are_the_registry() -> None:
    listed = methods()
    assert [entry.name for entry in listed] == list(METHODS)
    assert all(entry.needs == tuple(sorted(METHODS[entry.name].needs)) for entry in listed)
    assert all(entry.paper == METHODS[entry.name].paper for entry in listed)
    assert {entry.name: entry.checked_by for entry in listed}["slam"] == "wsi-kd reproduce slam"


def test_tools_are_the_registry() -> None:
    assert {entry.name: entry.what for entry in tools()} == {name: tool.what for name, tool in TOOLS.items()}


def test_losses_are_the_registry() -> None:
    listed = losses()
    assert [entry.name for entry in listed] == sorted(LOSSES)
    assert {entry.name for entry in listed if not entry.paper} == WITHOUT_PAPER
    assert {entry.name: entry.needs for entry in listed}["dkd"] == ("labels", "logits")
    assert all(entry.what and "\n" not in entry.what for entry in listed)


def test_a_reference_ends_with_its_year() -> None:
    assert loss_paper(LOSSES["dkd"]) == 'Zhao et al., "Decoupled knowledge distillation", CVPR 2022'
    assert loss_paper(LOSSES["kd"]).endswith("NeurIPS 2023")
    assert loss_paper(LOSSES["ft"]).endswith("NeurIPS 2018")
