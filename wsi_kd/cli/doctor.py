"""Command doctor: is everything there, before hours are spent?"""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.cli.diagnosis import (
    Check,
    State,
    check_copies,
    check_cpus,
    check_disk,
    check_drawings,
    check_encoder,
    check_folds,
    check_given_features,
    check_manifest,
    check_openslide,
    check_packages,
    check_timm,
    check_torch,
)
from wsi_kd.cli.libraries import check_libraries
from wsi_kd.cli.options import ConfigFile
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import Settings, read_settings

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.BROKEN: "bold red"}
_BYTES = {"uint8": 1, "float16": 2, "float32": 4}
_BYTES_BESIDE_FEATURES = 33
"""Of a tile in its feature file: two int64 coordinates, an int8 label, its tissue and three measures."""


def doctor(*, config: ConfigFile = None) -> None:
    """Check the installation; with --config the manifest, folds, drawings, encoder and disk too."""
    checks = installation()
    if config is not None:
        checks += cohort(read_settings(config))
    Console().print(_table(checks))
    broken = [check.name for check in checks if check.state is State.BROKEN]
    if broken:
        raise BadInput(
            f"{len(broken)} of {len(checks)} checks failed: {', '.join(broken)}; the table says the remedies"
        )


def installation() -> list[Check]:
    """Check what needs no settings."""
    readers = [check_openslide(), *check_libraries()]
    return [check_cpus(), *readers, *check_torch(), check_timm(), check_packages()]


def cohort(settings: Settings) -> list[Check]:
    """Check what the settings name."""
    manifest_check, manifest = check_manifest(settings)
    if settings.adopt.folder is not None:
        folds = [] if manifest is None else [check_folds(settings, manifest)]
        return [manifest_check, *folds, check_given_features(settings, manifest)]
    encoder_check, feature_dim = check_encoder(settings)
    from wsi_kd.steps.encoder import stored_dtype

    bytes_per_tile = feature_dim * _BYTES[stored_dtype(settings.embed)] + _BYTES_BESIDE_FEATURES
    cohort_checks = (
        []
        if manifest is None
        else [check_copies(manifest), check_folds(settings, manifest), check_drawings(settings, manifest)]
    )
    disk_check = check_disk(settings, manifest, bytes_per_tile=bytes_per_tile)
    return [manifest_check, *cohort_checks, encoder_check, disk_check]


def _table(checks: list[Check]) -> Table:
    table = Table("check", "state", "found", "remedy")
    for check in checks:
        table.add_row(
            check.name, Text(check.state, style=_STYLES[check.state]), Text(check.found), Text(check.remedy)
        )
    return table
