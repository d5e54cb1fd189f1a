"""Every paper's claim is seen in its small setting: what `wsi-kd reproduce` runs, with all of its checks.

`make claims` runs each with all of its seeds; here those of one seed that shows it as clearly run one.
"""

from pathlib import Path

import pytest

from wsi_kd.claims.measured import measure
from wsi_kd.claims.registry import CLAIMS
from wsi_kd.claims.wording import figure_text, required_text
from wsi_kd.kd.registry import METHODS, TOOLS

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "kd"
OTHERS = ("example", "tile_encoder")
"""The file that explains every key, and that of tiles; all others are a method's, by its name or a suffix."""
ONE_SEED = ("vanilla", "variance_reduction", "ae_kd", "factor_transfer", "spectral", "energy_compression")
"""Claims whose every check holds with room to spare on the first seed alone."""


@pytest.mark.slow
@pytest.mark.parametrize("method", CLAIMS)
def test_the_claim_is_seen(method: str) -> None:
    claim = CLAIMS[method]
    measured = measure(claim, seeds=1 if method in ONE_SEED else claim.seeds)
    told = [f"{check.says}: {figure_text(check.found)}, {required_text(check)}" for check in measured.failed]
    assert told == []
    assert measured.found.checks


@pytest.mark.parametrize("method", CLAIMS)
def test_the_claim_says_what_a_reader_needs(method: str) -> None:
    claim = CLAIMS[method]
    assert claim.method == method
    assert claim.paper == {**METHODS, **TOOLS}[method].paper
    assert claim.seeds >= 1
    assert min(len(text) for text in (claim.claims, claim.setting, claim.reference)) > 20


def test_every_method_has_a_claim_and_a_config() -> None:
    assert set(CLAIMS) == {*METHODS, *TOOLS}
    stems = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert set(METHODS) <= stems
    strangers = [stem for stem in stems if not stem.startswith((*OTHERS, *METHODS))]
    assert strangers == []
