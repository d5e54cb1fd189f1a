"""A viewer over drawn slides with made-up scores, served by the real server on this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from synthetic import HEIGHT_PX, SCN_ORIGIN, WIDTH_PX, draw_slide

from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import TileTable, write_tiles_csv
from wsi_kd.viewer.app import create_app
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.guard import new_access
from wsi_kd.viewer.record import ModelAnswer, ModelKey, Viewed, ViewedSlide

CLASSES = ("normal", "tumor")
WENO, ABMIL = ModelKey("weno/seed0/fold0", "weno", 0, 0), ModelKey("abmil/seed0/fold0", "abmil", 0, 0)
OTHER_FOLD = ModelKey("weno/seed0/fold1", "weno", 0, 1)
EDGE_PX = 128.0
MARKUP = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\"'&amp; \u202et \u6f22 "
)
HOSTILE = (4 * MARKUP)[:300]
"""Text that runs where it is taken for markup."""
THRESHOLDS = {"teacher": 0.5, "student": 0.4}


def tile_scores(*, seed: int, origin: tuple[int, int] = (0, 0), student: bool = True) -> TileTable:
    """Score a grid over the whole slide; the third tile has no student score, the fourth is annotated."""
    columns, rows = int(WIDTH_PX / EDGE_PX), int(HEIGHT_PX / EDGE_PX)
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    coords = np.column_stack([x.ravel(), y.ravel()]) * int(EDGE_PX) + np.asarray(origin)
    rng = np.random.default_rng(seed)
    scores = rng.random((len(coords), 3))
    scores[2, 0] = np.nan
    labels = np.zeros(len(coords), np.int8)
    labels[3] = 1
    return TileTable(
        coords=coords.astype(np.int64),
        tile_level0_px=EDGE_PX,
        attention=scores[:, 1] / scores[:, 1].sum(),
        branch_attention=None,
        evidence=scores[:, 2:],
        student_probability=scores[:, :1] if student else None,
        tile_labels=labels,
        attention_logits=np.log(scores[:, 1]),
    )


def answer(
    model: ModelKey, *, teacher: float, student: float | None, right: bool, ood: bool = False
) -> ModelAnswer:
    """What a model says of a slide; calls follow the thresholds."""
    called = student if student is not None else teacher
    limit = THRESHOLDS["student" if student is not None else "teacher"]
    return ModelAnswer(
        model=model.key,
        part="test",
        teacher=teacher,
        student=student,
        teacher_call=CLASSES[teacher >= THRESHOLDS["teacher"]],
        student_call="" if student is None else CLASSES[student >= THRESHOLDS["student"]],
        thresholds={**THRESHOLDS, "student": None if student is None else THRESHOLDS["student"]},
        right=right,
        uncertain=abs(called - limit),
        out_of_distribution=ood,
    )


class ViewMaker:
    """Draws the slides and writes their tables once; `viewed` is what the server shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[tuple[str, str], TileTable] = {}
        self.drawn = {kind: draw_slide(folder, kind) for kind in ("normal", "tumor", "bounds", "empty")}
        self.viewed = Viewed(
            title="drawn run",
            classes=CLASSES,
            models=(ABMIL, WENO, OTHER_FOLD),
            slides=(*self.scored(), *self.failed(), self.hostile()),
            root=folder,
            background="metadata",
            color="as_stored",
        )

    def scored(self) -> Iterator[ViewedSlide]:
        yield self.slide(
            "normal",
            [
                answer(WENO, teacher=0.1, student=0.1, right=True),
                answer(ABMIL, teacher=0.3, student=None, right=True),
            ],
        )
        yield self.slide(
            "tumor",
            [
                answer(OTHER_FOLD, teacher=0.6, student=0.7, right=True)._replace(part="val"),
                answer(WENO, teacher=0.97, student=0.25, right=False),
                answer(ABMIL, teacher=0.9, student=None, right=True),
            ],
        )
        yield self.slide("bounds", [answer(WENO, teacher=0.8, student=0.45, right=True, ood=True)])

    def failed(self) -> Iterator[ViewedSlide]:
        yield self.slide("empty", [])._replace(
            status="empty", reason="no tissue: 0.0 %", step="mask", tiles={}
        )
        yield self.slide("normal", [answer(WENO, teacher=0.2, student=0.05, right=True)])._replace(
            slide_id="gone", path=None
        )

    def hostile(self) -> ViewedSlide:
        slide = self.slide("normal", [answer(WENO, teacher=0.9, student=0.9, right=False)])
        return slide._replace(slide_id=HOSTILE, label=HOSTILE, site=HOSTILE, status="ok", reason=HOSTILE)

    def slide(self, kind: str, answers: list[ModelAnswer]) -> ViewedSlide:
        drawn = self.drawn[kind]
        tiles = {said.model: self.table(kind, said.model) for said in answers if said.part == "test"}
        return ViewedSlide(
            slide_id=kind,
            path=drawn.path,
            status="ok",
            reason="",
            step="embed",
            label=drawn.label,
            site="north" if kind == "normal" else "south",
            slide_mpp=drawn.mpp,
            annotation=drawn.annotation,
            answers=tuple(answers),
            tiles=tiles,
        )

    def table(self, kind: str, model: str) -> Path:
        """Write a slide's tile scores; a slide is scored once a model."""
        path = self.folder / model / f"{kind}.csv"
        if (kind, model) not in self.tables:
            origin = SCN_ORIGIN if kind == "bounds" else (0, 0)
            table = tile_scores(seed=len(self.tables), origin=origin, student=model == WENO.key)
            self.tables[kind, model] = table
            write_tiles_csv(path, table, classes=CLASSES, header=stamp("tile_scores", {}))
        return path


@contextmanager
def served(viewed: Viewed, *, show_labels: bool = False) -> Iterator[str]:
    """Serve to this machine; yields the address with its token."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        access = new_access(host="127.0.0.1", port=port)
        app = create_app(Desk(viewed, show_labels=show_labels), access)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/?token={access.token}"
        finally:
            server.should_exit = True
            thread.join(timeout=60)
