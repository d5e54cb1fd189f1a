"""A small run and a viewer of it."""

import pytest
from viewed_runs import (
    HOSTILE,
    STUDENT,
    TEACHER,
    open_viewer,
    said,
    tiles_at,
    write_manifest,
    write_model,
    write_statuses,
)

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.steps.viewed_run import view_run


@pytest.fixture(scope="session")
def run(tmp_path_factory, synthetic_slide):
    """Slides tumor, bounds, damaged, lost (no such file), failed, hostile, and their scores by two models."""
    root = tmp_path_factory.mktemp("viewed")
    slides = {kind: synthetic_slide(kind) for kind in ("tumor", "bounds", "damaged_tiles", "normal")}
    lines = [
        ("tumor", str(slides["tumor"].path), "tumor", str(slides["tumor"].annotation)),
        ("bounds", str(slides["bounds"].path), "tumor", str(slides["bounds"].annotation)),
        ("damaged", str(slides["damaged_tiles"].path), "tumor", str(root / "gone.geojson")),
        ("lost", "nowhere/lost.svs", "normal", ""),
        ("failed", str(slides["normal"].path), "normal", ""),
        ("hostile", str(slides["normal"].path), "normal", ""),
    ]
    write_manifest(root / "slides.csv", lines)
    write_statuses(root, {"tumor": ("ok", ""), "failed": ("empty", HOSTILE), "left": ("unreadable", "gone")})
    write_model(
        root,
        STUDENT,
        [
            said("tumor", label="tumor", teacher=0.9, student=0.75, call="tumor", flag=True),
            said("bounds", label="tumor", teacher=float("nan"), student=0.45),
            said("lost", label="normal", part="val", student=0.1),
        ],
        {
            "tumor": tiles_at([(0, 0), (256, 512)], student=[float("nan"), 1 / 3], labels=[0, 1]),
            "bounds": tiles_at([(2048, 1024), (2304, 1280)], student=[0.25, 0.5]),
            "lost": tiles_at([(0, 0)], student=[0.5]),
        },
    )
    write_model(root, TEACHER, [said("tumor", label="tumor", part="val", teacher=0.2)], {})
    return root


@pytest.fixture(scope="session")
def client(run):
    sheet = read_rows(run / "slides.csv", slides_dir=None)
    return open_viewer(view_run(run, sheet=sheet, title=HOSTILE))
