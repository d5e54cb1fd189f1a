"""Nobody without the token, from a foreign host, or with another method gets an answer."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from viewed_runs import HOST, ask_raw, open_viewer

from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.guard import MAX_FIELDS, Guard, new_access
from wsi_kd.viewer.record import Viewed

EMPTY = Viewed("t", (), (), (), root=None, background="metadata", color="as_stored")
ADDRESSES = (
    "/",
    "/api/run",
    "/api/slides",
    "/api/slides/0",
    "/static/viewer.js",
    "/report/index.html",
    "/dzi/0/0/0_0.jpg",
)


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    client = open_viewer(EMPTY, signed_in=False)
    answer = client.get(f"/?token={client.token}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"wsi-kd-view-8000={client.token};")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "path=/",
        "samesite=strict",
    }
    assert client.get("/").status_code == 200
    assert client.get("/api/run").json()["title"] == "t"


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_given_without_the_token(address: str) -> None:
    client = open_viewer(EMPTY, signed_in=False)
    wrong = f"{client.token[:-1]}{'a' if client.token[-1] != 'a' else 'b'}"
    for attempt in ({}, {"cookies": f"wsi-kd-view-8000={wrong}"}, {"cookies": f"other={client.token}"}):
        headers = {"cookie": attempt["cookies"]} if attempt else {}
        answer = client.get(address, headers=headers)
        assert answer.status_code == 403
        assert answer.text.count("\n") == 1
        assert "token is missing or wrong" in answer.text


@pytest.mark.parametrize("query", ["token=", "token=x", "token=x&token=y", "token=%00", "token=%ff"])
def test_a_wrong_token_gets_no_cookie(query: str) -> None:
    client = open_viewer(EMPTY, signed_in=False)
    answer = client.get(f"/?{query}")
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_an_address_of_many_fields_is_refused_and_no_bug() -> None:
    """Whoever has no token must not be able to fill the terminal with tracebacks."""
    client = open_viewer(EMPTY, signed_in=False)
    fields = "&".join(f"x{number}=1" for number in range(MAX_FIELDS))
    for query in (f"{fields}&token={client.token}", f"token={client.token}&{fields}", f"{fields}&y=1"):
        answer = client.get(f"/?{query}")
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert open_viewer(EMPTY).get(f"/?{fields}").status_code == 200


def test_the_right_token_twice_is_refused_as_is_one_of_another_viewer() -> None:
    client, other = open_viewer(EMPTY, signed_in=False), open_viewer(EMPTY, signed_in=False)
    assert client.token != other.token
    assert len(client.token) >= 43  # 256 bits
    assert client.get(f"/?token={client.token}&token={client.token}").status_code == 403
    assert client.get(f"/?token={other.token}").status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil:8000",
        "",
        "127.1",
        "localhost:evil",
        "[::1",
        "[::1]x",
    ],
)
def test_a_foreign_host_is_refused_with_the_cookie_and_the_token(host: str) -> None:
    """DNS rebinding: the page of a name that suddenly points here."""
    client = open_viewer(EMPTY)
    assert client.get("/api/run", headers={"host": host}).status_code == 403
    assert client.get(f"/?token={client.token}", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_this_machine_by_any_of_its_names_and_through_a_tunnel(host: str) -> None:
    client = open_viewer(EMPTY)
    assert ask_raw(client, "/api/run", headers=[])[0] == 200
    client.headers["host"] = host
    assert client.get("/api/run").status_code == 200


def test_two_host_headers_are_refused() -> None:
    assert ask_raw(open_viewer(EMPTY), "/api/run", headers=[(b"host", b"127.0.0.1")])[0] == 403


def test_bound_to_every_address_names_are_known_and_addresses_are_plain() -> None:
    access = new_access(host="0.0.0.0", port=1, names=frozenset({"Box"}))
    guard = Guard(Starlette(), access=access)
    known = ["box:80", "192.168.1.5:80", "10.0.0.1", "[fe80::1]:80", "localhost"]
    assert all(guard._knows([host]) for host in known)
    assert not any(guard._knows([host]) for host in ["evil.example", "box.evil.example", "1.2.3.4.evil"])
    bound = Guard(Starlette(), access=new_access(host="192.168.1.5", port=1))
    assert bound._knows(["192.168.1.5:1"])
    assert not bound._knows(["192.168.1.6:1"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_only_reading(method: str) -> None:
    status, headers, _ = ask_raw(open_viewer(EMPTY), "/api/run", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_head_answers_without_a_body() -> None:
    answer = open_viewer(EMPTY).head("/api/run")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("address", [*ADDRESSES, "/nothing"])
def test_every_answer_tells_the_browser_what_it_may_do(address: str) -> None:
    client = open_viewer(EMPTY)
    for answer in (client.get(address), client.get(address, headers={"host": "evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "'unsafe-inline'" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        is_static = address.startswith("/static") and answer.status_code == 200
        assert answer.headers["cache-control"] == ("no-cache" if is_static else "no-store")


def test_a_foreign_origin_is_refused_and_gets_no_cors_header() -> None:
    client = open_viewer(EMPTY)
    for origin in (
        "https://evil.example",
        "null",
        "file://",
        "http://127.0.0.1.evil.example",
        "http://x:y",
        "",
    ):
        answer = client.get("/api/run", headers={"origin": origin})
        assert (answer.status_code, "unknown host or origin" in answer.text) == (403, True)
    for origin in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        assert client.get("/api/run", headers={"origin": origin}).status_code == 200
    assert ask_raw(client, "/api/run", headers=[(b"origin", b"http://localhost")] * 2)[0] == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_link_from_another_site_reloads_once_and_shows_nothing() -> None:
    """A Strict cookie is withheld on the way from another site; the reload comes from here."""
    client = open_viewer(EMPTY, signed_in=False)
    crossing = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = client.get("/", headers=crossing)
    assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (200, True)
    assert client.get("/", headers={**crossing, "sec-fetch-site": "same-origin"}).status_code == 403
    assert client.get("/", headers={**crossing, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/api/run", headers=crossing).status_code == 403


def test_a_bug_is_one_line_for_who_asked_and_a_traceback_for_the_terminal(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Desk, "slide", fail)
    client = open_viewer(EMPTY)
    quiet = TestClient(client.app, base_url=HOST, cookies=client.cookies, raise_server_exceptions=False)
    answer = quiet.get("/api/slides/0")
    assert (answer.status_code, answer.text) == (500, "the viewer failed here; its terminal says where\n")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    with pytest.raises(ZeroDivisionError):
        client.get("/api/slides/0")


def test_web_sockets_are_closed() -> None:
    with pytest.raises(WebSocketDisconnect) as raised, open_viewer(EMPTY).websocket_connect("/api/run"):
        pass
    assert raised.value.code == 1008
