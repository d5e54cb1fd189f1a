"""Requests that a viewer should never have been sent: some 600, by what they try, as bytes of a socket."""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

OWN_HOST: Final = b"127.0.0.1"
ADDRESSES: Final = ("/", "/api/run", "/api/slides", "/api/slides/0", "/static/viewer.js", "/dzi/0/0/0_0.jpg")
SLIDE_ADDRESSES: Final = ("/api/slides/{}", "/api/slides/{}/scores", "/dzi/{}/0/0_0.jpg")
METHODS: Final = (
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "M" * 300,
)
UP: Final = (
    *("../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
    *("%252e%252e%252f%252e%252e%252fetc/passwd", "..\\..\\..\\etc\\passwd", "..%5c..%5c..%5cetc%5cpasswd"),
    *("....//....//....//etc/passwd", "%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", "..;/..;/etc/passwd"),
    *("/etc/passwd", "%2fetc%2fpasswd", "viewer.js%00/../../etc/passwd", ".%00./.%00./etc/passwd", "~/x"),
    *("%u002e%u002e/etc/passwd", "..%ef%bc%8f..%ef%bc%8fetc", "secret.csv", "%73ecret.csv", "slides.csv"),
    *("../status.csv", "file:///etc/passwd", "http://evil.example/x", "$(id)", "`id`", "|id", "';--", "{0}"),
)
BEGINNINGS: Final = ("/static/", "/report/", "/dzi/0/0/", "/api/slides/", "/api/slides/0/associated/", "/")
NUMBERS: Final = (
    *("-1", "999", "1000000000", "9" * 400, "0x1", "1e3", "1.0", "+1", "%201", "%D9%A1", "NaN", "", "0_0"),
    *("%00", "0%0a", "..", "*", "[0]", "0;1", "0,1"),
)
FOREIGN: Final = (
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil:8000", "127.1", "0x7f000001", "2130706433"),
    *("", "127.0.0.1 evil", "evil@127.0.0.1", "127.0.0.1:evil", "[::1", "\xff"),
)
ORIGINS: Final = (
    *("https://evil.example", "null", "file://", "http://127.0.0.1.evil.example", "http://localhost.evil"),
    *("javascript:alert(1)", "data:text/html,x", "http://evil.example:8000", "chrome-extension://abc", "//"),
)
QUERIES: Final = (
    *("tileSource=javascript:alert(1)", "tileSource=http://evil.example/x.dzi", "format=.exe", "format=.svg"),
    *(
        "path=/etc/passwd",
        "file=../../secret.csv",
        "callback=alert",
        "model=../../secret",
        "url=//evil.example",
    ),
    *(
        "x=%00",
        "x=%ff%fe",
        "x=" + "a" * 60_000,
        "&".join(f"x{i}=1" for i in range(3000)),
        "?" * 500,
        "__proto__[x]=1",
    ),
)


class Hostile(NamedTuple):
    """One request and what may come back."""

    kind: str
    raw: bytes
    refused: tuple[int, ...] = ()
    """Statuses it must end with (0: the connection is closed without a word); none: any below 500."""


def every_request(cookie: str) -> list[Hostile]:
    """All of them; `cookie` is that of somebody who may look at the run."""
    return [
        *_paths(cookie),
        *_numbers(cookie),
        *_methods(cookie),
        *_strangers(cookie),
        *_queries(cookie),
        *_broken(cookie),
    ]


def request(
    target: str, *, method: str = "GET", host: bytes = OWN_HOST, more: tuple[bytes, ...] = ()
) -> bytes:
    """A request's bytes: nothing of it is quoted, corrected or refused on the way."""
    lines = (b"%b %b HTTP/1.1" % (method.encode(), target.encode("latin-1")), b"Host: " + host, *more)
    return b"\r\n".join((*lines, b"Connection: close", b"", b""))


def _with(cookie: str) -> tuple[bytes, ...]:
    return (b"Cookie: " + cookie.encode(),)


def _paths(cookie: str) -> Iterator[Hostile]:
    for begin in BEGINNINGS:
        for target in UP:
            yield Hostile("path", request(begin + target, more=_with(cookie)), (400, 403, 404, 0))


def _numbers(cookie: str) -> Iterator[Hostile]:
    for number in NUMBERS:
        for form in SLIDE_ADDRESSES:
            yield Hostile("number", request(form.format(number), more=_with(cookie)), (400, 404, 0))
        for target in (f"/dzi/0/{number}/0_0.jpg", f"/dzi/0/8/{number}_0.jpg", f"/dzi/0/8/0_{number}.jpg"):
            yield Hostile("number", request(target, more=_with(cookie)), (400, 404, 0))
    for name in ("label", "macro", "thumbnail"):
        yield Hostile("label", request(f"/api/slides/0/associated/{name}.jpg", more=_with(cookie)), (404,))
    for ending in (".exe", ".svg", ".png", ".php", ".jpg.exe", ".jpg%00.exe", ".jpg/", ".JPG"):
        yield Hostile("ending", request(f"/dzi/0/8/0_0{ending}", more=_with(cookie)), (400, 404, 0))


def _methods(cookie: str) -> Iterator[Hostile]:
    for method in METHODS:
        for address in ADDRESSES:
            yield Hostile("method", request(address, method=method, more=_with(cookie)), (400, 405, 0))


def _strangers(cookie: str) -> Iterator[Hostile]:
    for host in FOREIGN:
        for address in ADDRESSES[:4]:
            raw = request(address, host=host.encode("latin-1"), more=_with(cookie))
            yield Hostile("host", raw, (400, 403) if not host.isprintable() or " " in host else (403,))
    for origin in ORIGINS:
        for address in ADDRESSES[:4]:
            more = (*_with(cookie), b"Origin: " + origin.encode())
            yield Hostile("origin", request(address, more=more), (403,))
    name = cookie.partition("=")[0]
    for wrong in (
        "",
        f"{name}=",
        f"{name}=x",
        f"{name}={'A' * 43}",
        f"other={cookie}",
        f"{name}={'x' * 9000}",
    ):
        for address in ADDRESSES[1:]:
            yield Hostile("token", request(address, more=_with(wrong)), (400, 403))


def _queries(cookie: str) -> Iterator[Hostile]:
    for query in QUERIES:
        for address in ("/", "/api/run", "/api/slides/0/scores"):
            yield Hostile("query", request(f"{address}?{query}", more=_with(cookie)))


def _broken(cookie: str) -> Iterator[Hostile]:
    """What is no HTTP at all, or two requests in one."""
    more, inner = _with(cookie), request("/api/run")
    for raw in (
        *(
            b"GET /\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
        ),
        *(
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00" * 40,
        ),
        *(request("/x\r\nSet-Cookie: a=b", more=more), request("/api/run HTTP/1.1\r\nHost: evil", more=more)),
        request("/api/run", more=(*more, b"Host: evil.example")),
        request("/api/run", more=(*more, b"Content-Length: 5", b"Content-Length: 6")) + b"hello",
        request("/api/run", more=(*more, b"Content-Length: -1")),
        request("/api/run", more=(*more, b"Transfer-Encoding: chunked", b"Content-Length: 4"))
        + b"0\r\n\r\n"
        + inner,
        request("/api/run", more=(*more, b"Transfer-Encoding: xchunked")) + inner,
        request("/api/run", more=(*more, *(b"X-%d: y" % number for number in range(10_000)))),
        request("/api/run", more=(*more, b"X: " + b"y" * 1_000_000)),
        request("/" + "a" * 1_000_000, more=more),
        request(
            "/api/run",
            more=(*more, b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"),
        ),
        request("/api/run", more=(*more, b"Range: bytes=0-1,2-3,5-9999999999")),
        request("/api/run", more=(b"Cookie: " + cookie.encode() + b"; " + cookie.encode(),)),
        request("/api/run", more=(b" Cookie: folded",)),
    ):
        yield Hostile("broken", raw)
    noise = random.Random(0)
    for _ in range(30):
        yield Hostile("noise", noise.randbytes(noise.randint(1, 400)) + b"\r\n\r\n")
