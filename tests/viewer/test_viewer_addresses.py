"""What the viewer serves and what it never does: addresses are a short list, slides are places in another."""

import io
from pathlib import Path

import pytest
from PIL import Image
from viewed_runs import STUDENT, ask_raw, open_viewer, places

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed
from wsi_kd.steps.viewed_run import view_run
from wsi_kd.viewer import app, desk


@pytest.mark.parametrize(
    "target",
    [
        *("/dzi/0/11/0_0.jpg", "/dzi/0/10/99_0.jpg", "/dzi/0/10/0_-1.jpg", "/dzi/0/-1/0_0.jpg"),
        *("/dzi/99/0/0_0.jpg", "/dzi/-1/0/0_0.jpg", "/dzi/0/1e3/0_0.jpg", "/dzi/0/0x1/0_0.jpg"),
        *("/dzi/0/999999999/0_0.jpg", f"/dzi/0/{'9' * 5000}/0_0.jpg", f"/dzi/{'9' * 5000}/0/0_0.jpg"),
        *("/dzi/0/10/%D9%A1_0.jpg", "/dzi/0/10/0_0.jpg%00", "/dzi/0/10/+1_0.jpg", "/dzi/0/10/1.0_0.jpg"),
        *("/dzi/0/10/%201_0.jpg", "/dzi/tumor/10/0_0.jpg", "/dzi/0/10/0_0.png", "/dzi/0/10/0_0_0.jpg"),
        *("/api/slides/-1", "/api/slides/99", "/api/slides/tumor", "/api/slides/0/", "/api/slides/%00"),
        *("/api/slides/..", "/api/slides/../run", "/api/slides/0/../../run", "/api/slides/0/tiles.csv"),
        *("/api/slides/0/associated/label.jpg", "/api/slides/0/associated/..%2f..%2fx.jpg"),
        *("/static/", "/static/..", "/static/../app.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py"),
        *(
            "/static/..%5capp.py",
            "/static//etc/passwd",
            "/static/%2fetc%2fpasswd",
            "/static/viewer.js%00.css",
        ),
        *(
            "/static/./viewer.js",
            "/static/viewer.js/",
            "/static/VIEWER.JS",
            "/../../etc/passwd",
            "//etc/passwd",
        ),
        *(
            "/app.py",
            "/slides.csv",
            "/predictions",
            "/etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/index.html",
        ),
        *("/report", "/report/", "/report/metrics.json", "/report/..%2fstatus.csv", "/report/index.html"),
        *("/docs", "/openapi.json", "/favicon.ico", "/static/favicon.ico", "/.well-known/x"),
    ],
)
def test_nothing_outside_the_list_of_addresses_is_served(client, target: str) -> None:
    status, headers, body = ask_raw(client, target)
    assert status == 404
    assert headers["content-type"].startswith("text/plain")
    assert b"root:" not in body
    assert b"import" not in body


def test_a_table_that_is_a_link_out_of_the_run_is_not_read(run: Path, tmp_path: Path) -> None:
    """A slide id is only ever looked up in a listing; a link in that folder may lead anywhere."""
    outside = tmp_path / "secret.csv"
    outside.write_text("x_level0_px\n1\n")
    link = run / "predictions" / STUDENT / "tiles" / "hostile.csv"
    link.symlink_to(outside)
    try:
        sheet = read_rows(run / "slides.csv", slides_dir=None)
        client = open_viewer(view_run(run, sheet=sheet, title=""))
        answer = client.get(f"/api/slides/{places(client)['hostile']}/scores", params={"model": STUDENT})
    finally:
        link.unlink()
    assert (answer.status_code, "leads out of the run" in answer.text) == (404, True)


def test_the_page_and_its_files_are_served_as_they_are(client) -> None:
    folder = Path(__file__).parents[2] / "wsi_kd/viewer/static"
    assert client.get("/").content == (folder / "index.html").read_bytes()
    kinds = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".html": "text/html"}
    names = [path.name for path in folder.iterdir() if path.suffix in kinds]
    assert "openseadragon.min.js" in names
    for name in names:
        answer = client.get(f"/static/{name}")
        assert answer.content == (folder / name).read_bytes()
        assert answer.headers["content-type"].startswith(kinds[Path(name).suffix])


def test_a_report_is_shown_in_a_sandbox(run: Path) -> None:
    page = run / "report" / "index.html"
    page.parent.mkdir()
    page.write_text("<script>1</script>")
    try:
        client = open_viewer(view_run(run, sheet=(), title=""))
        assert client.get("/api/run").json()["report"] is True
        answer = client.get("/report/index.html")
    finally:
        page.unlink()
        page.parent.rmdir()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert answer.headers.get_list("content-security-policy") == [policy]


def test_a_report_that_is_a_link_out_of_the_run_is_not_shown(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.html"
    outside.write_text("secret")
    page = run / "report" / "index.html"
    page.parent.mkdir()
    page.symlink_to(outside)
    try:
        answer = open_viewer(view_run(run, sheet=(), title="")).get("/report/index.html")
    finally:
        page.unlink()
        page.parent.rmdir()
    assert (answer.status_code, "secret" in answer.text) == (404, False)


def test_a_table_of_a_size_that_no_slide_has_is_not_read(run: Path, client, monkeypatch) -> None:
    table = run / "predictions" / STUDENT / "tiles" / "tumor.csv"
    address = f"/api/slides/{places(client)['tumor']}/scores"
    monkeypatch.setattr(desk, "MAX_TABLE_BYTES", table.stat().st_size)
    assert client.get(address, params={"model": STUDENT}).status_code == 200
    monkeypatch.setattr(desk, "MAX_TABLE_BYTES", table.stat().st_size - 1)
    answer = client.get(address, params={"model": STUDENT})
    assert (answer.status_code, answer.text.startswith("tumor.csv: ")) == (409, True)


@pytest.mark.shared_data
def test_label_and_macro_only_where_asked_for(shared_data: Path) -> None:
    viewed = collect_viewed(shared_data / "wsi" / "CMU-1-Small-Region.svs", Sources())
    hidden, shown = open_viewer(viewed), open_viewer(viewed, show_labels=True)
    assert "associated" not in hidden.get("/api/slides/0").json()
    for name in ("label", "macro", "thumbnail"):
        answer = hidden.get(f"/api/slides/0/associated/{name}.jpg")
        assert (answer.status_code, "--show-labels" in answer.text) == (404, True)
    answer = shown.get("/api/slides/0").json()
    assert (answer["associated"], answer["label_image"]) == (["label", "macro", "thumbnail"], True)
    label = Image.open(io.BytesIO(shown.get("/api/slides/0/associated/label.jpg").content))
    assert label.size == (387, 463)
    assert shown.get("/api/slides/0/associated/other.jpg").status_code == 404


def test_only_plain_files_of_known_kinds_are_listed(tmp_path: Path, monkeypatch) -> None:
    """Whatever else a checkout may hold beside the page's files: links, folders, notes, code."""
    for name in ("index.html", "a.js", "notes.md", "app.py", ".env"):
        (tmp_path / name).write_text(name)
    (tmp_path / "below.js").mkdir()
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    monkeypatch.setattr(app, "STATIC", tmp_path)
    assert app.static_files() == {"a.js": b"a.js", "index.html": b"index.html"}
