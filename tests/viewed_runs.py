"""A small run to look at: drawn slides, made-up scores, written by the code that reads them back."""

import math
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import anyio
import numpy as np
from starlette.testclient import TestClient

from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.inference.tables import PredictionRow, TileTable, write_predictions, write_tiles_csv
from wsi_kd.steps.status import write_status
from wsi_kd.viewer.app import create_app
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.guard import new_access

CLASSES = ("normal", "tumor")
EDGE = 256.0
HOSTILE = "<script>alert(1)</script>\"'\u2028é" + "x" * 60
TEACHER, STUDENT = "abmil/seed0/fold0", "weno/seed0/fold0"
HOST = "http://127.0.0.1:8000"


def tiles_at(corners, *, student=(), labels=()):
    """A table of tiles whose evidence is 0.1, 0.2, ..."""
    count = len(corners)
    return TileTable(
        coords=np.array(corners, np.int64).reshape(count, 2),
        tile_level0_px=EDGE,
        attention=np.full(count, 1 / count),
        branch_attention=None,
        evidence=np.linspace(0.1, 0.1 * count, count)[:, None],
        student_probability=np.array(student, np.float64)[:, None] if len(student) else None,
        tile_labels=np.array(labels or [-1] * count, np.int8),
    )


def said(slide_id, *, label="", part="test", teacher=0.2, student=None, call="normal", flag=False):
    """One line of predictions.csv; both thresholds are 0.5."""
    with_student = student is not None
    return PredictionRow(
        slide_id=slide_id,
        case_id=slide_id,
        site="",
        label=label,
        part=part,
        teacher_probability=teacher,
        student_probability=student,
        student_max_probability=student,
        student_topk_probability=student,
        teacher_call="normal" if teacher < 0.5 else "tumor",
        student_call=call if with_student else "",
        threshold_teacher=0.5,
        threshold_student=0.5 if with_student else None,
        threshold_student_max=0.5 if with_student else None,
        threshold_student_topk=0.5 if with_student else None,
        feature_distance=1.0,
        out_of_distribution=flag,
        class_probabilities=(1 - teacher, teacher),
    )


def write_model(run, key, rows, tiles):
    """Write one model's predictions; `tiles`: table by slide id."""
    folder = run / "predictions" / key
    write_predictions(folder / "predictions.csv", rows, classes=CLASSES, header=stamp("predictions", {}))
    for slide_id, table in tiles.items():
        header = stamp("tile_scores", {})
        write_tiles_csv(folder / "tiles" / f"{slide_id}.csv", table, classes=CLASSES, header=header)


def write_statuses(run, statuses):
    """Write status.csv; `statuses`: status and reason by slide id."""
    rows = [
        StatusRow(slide_id, SlideStatus(status), reason, "mask", 2, 1.0, 0.5, "tiff", 0.1)
        for slide_id, (status, reason) in statuses.items()
    ]
    write_status(run / "status.csv", rows, stamp("status", {}))


def write_manifest(path, lines):
    path.write_text("slide_id,path,label,annotation\n" + "".join(",".join(line) + "\n" for line in lines))
    return path


UNLIKE = {
    **{"feature_distance": 2.0, "flag": True, "limit": 1.5, "rule": "conformal", "false_flags": 0.05},
    **{"cases": 20, "slides": 20, "chosen_on": "val", "meaning": ""},
}
SECONDS = dict.fromkeys(("mask", "tile", "embed", "score", "files"), 0.1)


def answering_model(fold):
    told = {"teacher": "abmil", "epoch": 1, "weights_sha256": "", "student_pooling": "max", "top_k": 1}
    return {"recipe": "weno", "seed": 0, "fold": fold, **told}


def told_threshold(value):
    return {"value": value, "rule": "youden", "chosen_on": "val"}


def write_answer(folder, slide_id, *, models=1, classes=CLASSES, **members):
    """A prediction.json as infer writes it, of a slide tumor.tiff, and its tiles."""
    probabilities = {score: dict(zip(classes, (0.25, 0.75), strict=True)) for score in ("teacher", "student")}
    thresholds = {"teacher": told_threshold(0.5), "student": told_threshold(0.9)}
    record = {
        **stamp("prediction", {"slides": {"background": "white", "color": "as_stored"}}),
        "slide_id": slide_id,
        "status": "ok",
        "reason": "",
        "step": "infer",
        "classes": list(classes),
        "probabilities": probabilities,
        "calls": {"teacher": classes[1], "student": classes[0]},
        "thresholds": thresholds,
        "uncertainty": {"models": models, "spread": {}, "meaning": ""},
        "out_of_distribution": UNLIKE,
        "tiles": 1,
        "seconds": SECONDS,
        "inputs_hash": "",
        "files": {},
        "research_only": "",
        "slide": {"slide_file": "tumor.tiff", "slide_mpp": 0.5},
        "models": [answering_model(fold) for fold in range(models)],
        **members,
    }
    publish_json(folder / "prediction.json", record)
    table = tiles_at([(0, 0)], student=[0.75])
    write_tiles_csv(folder / "tiles.csv", table, classes=classes, header=stamp("tile_scores", {}))


def open_viewer(viewed, *, show_labels=False, host="127.0.0.1", signed_in=True, nursery=None):
    """A client of a viewer that runs in this process, its cookie set."""
    access = new_access(host=host, port=8000)
    desk = Desk(viewed, show_labels=show_labels, nursery=nursery)
    client = TestClient(create_app(desk, access), base_url=HOST)
    client.token = access.token
    if signed_in:
        client.cookies.set(access.cookie, access.token)
    return client


def places(client):
    """Index of every slide by its id."""
    return {slide["slide_id"]: slide["index"] for slide in client.get("/api/slides").json()}


def ask_raw(client, target, *, method="GET", headers=(), gone=False):
    """Send a request target as it stands, decoded as a server decodes it; returns status, headers, body.

    `gone`: whoever asked has closed the connection.
    """
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", cookie.encode()), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    sent = []

    async def receive():
        return {"type": "http.disconnect"} if gone else {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    async def call():
        await client.app(scope, receive, send)

    with ThreadPoolExecutor(1) as thread:  # after a browser test, its loop goes on in this one
        thread.submit(anyio.run, call).result()
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


def no_nan(value):
    """Whether a JSON value holds numbers only, no NaN."""
    if isinstance(value, dict):
        return all(map(no_nan, value.values()))
    if isinstance(value, list):
        return all(map(no_nan, value))
    return not isinstance(value, float) or math.isfinite(value)
