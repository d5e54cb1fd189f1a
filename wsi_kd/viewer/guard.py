"""Who may ask: a token that becomes a cookie, known hosts only, reading only, and what browsers may do.

The viewer shows patients' tissue to whoever holds the token. Each check answers one attack: the token other
users of the machine, the host DNS rebinding, the method, the origin and SameSite=Strict forged requests from
other pages; no CORS header is ever sent, and the content security policy lets the page load from here alone.
"""

import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
METHODS: Final = frozenset({"GET", "HEAD"})
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer, unless it has its own."""
MAX_FIELDS: Final = 8
REFUSED: Final = "the viewer's token is missing or wrong; open the address that `wsi-kd view` printed\n"
FOREIGN: Final = "unknown host or origin; open the address that `wsi-kd view` printed\n"
BUG: Final = "the viewer failed here; its terminal says where\n"
ONLY_READ: Final = "only GET and HEAD\n"
_AGAIN: Final = '<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>wsi-kd view</title>'


class Access(NamedTuple):
    """What a request must bring."""

    token: str
    cookie: str
    """Name of the cookie; one a viewer, for browsers do not tell ports apart."""
    hosts: frozenset[str]
    any_address: bool = False
    """Bound to every address of the machine: hosts that are plain addresses are let through. DNS rebinding
    needs a name."""


def new_access(*, host: str, port: int, names: frozenset[str] = frozenset()) -> Access:
    """Make a random token (256 bits) for a viewer bound to `host`:`port`.

    Args:
        host: as the user gave it.
        port: for the cookie's name.
        names: of the machine, under which others may reach it.
    """
    everywhere = host in {"0.0.0.0", "::", ""}
    hosts = LOCAL_HOSTS | {host.lower()} | (frozenset(map(str.lower, names)) if everywhere else frozenset())
    return Access(secrets.token_urlsafe(32), f"wsi-kd-view-{port}", hosts, any_address=everywhere)


class Guard:
    """ASGI middleware: nothing reaches the viewer that `Access` does not allow."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_guarded)
        except Exception:  # a bug: whoever asked gets one line, the terminal the traceback
            if not started:
                await PlainTextResponse(BUG, status_code=500)(scope, receive, send_guarded)
            raise

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not (self._knows(headers.getlist("host")) and self._is_own(headers.getlist("origin"))):
            return PlainTextResponse(FOREIGN, status_code=403)
        if scope["method"] not in METHODS:
            return PlainTextResponse(ONLY_READ, status_code=405, headers={"Allow": "GET, HEAD"})
        if scope["path"] == "/" and scope["query_string"]:
            given = _tokens(scope["query_string"])
            if given is not None:
                return self._welcome() if self._fits(given) else _refused()
        if self._fits(_cookies(headers, self._access.cookie)):
            return None
        return _ask_again(scope, headers) or _refused()

    def _welcome(self) -> Response:
        """Turn the token into a cookie and the address into one without it."""
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._access.cookie, self._access.token, httponly=True, samesite="strict", path="/")
        return answer

    def _fits(self, given: list[str]) -> bool:
        """Compare in constant time; two tokens are none."""
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), self._access.token.encode())

    def _is_own(self, origins: list[str]) -> bool:
        """Tell whether a page of this viewer asks; its own reading requests name no origin at all."""
        return not origins or (len(origins) == 1 and self._knows([origins[0].partition("://")[2]]))

    def _knows(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name = _host_name(hosts[0])
        return name in self._access.hosts or (self._access.any_address and _is_address(name))


def _ask_again(scope: Scope, headers: Headers) -> Response | None:
    """Let a page reached from a link of another site load itself once more.

    Browsers withhold a Strict cookie on the way from there, and send it on the reload.
    """
    crossing = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    if crossing and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate":
        return HTMLResponse(_AGAIN)
    return None


def _tokens(query: bytes) -> list[str] | None:
    """Return the tokens in an address; one of more fields than the viewer's own ever have holds none."""
    try:
        return parse_qs(query.decode("latin-1"), max_num_fields=MAX_FIELDS).get("token")
    except ValueError:
        return []


def _refused() -> Response:
    return PlainTextResponse(REFUSED, status_code=403)


def _cookies(headers: Headers, name: str) -> list[str]:
    found = []
    for text in headers.getlist("cookie"):
        try:
            morsel = SimpleCookie(text).get(name)
        except CookieError:
            continue
        found += [] if morsel is None else [morsel.value]
    return found


def _host_name(host: str) -> str:
    """Cut the port off a Host header: a tunnel may have another one than the viewer.

    >>> _host_name("LocalHost:8000"), _host_name("[::1]:8000"), _host_name("127.0.0.1")
    ('localhost', '::1', '127.0.0.1')
    """
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        port = port.removeprefix(":") if closed else "?"
    else:
        name, _, port = host.partition(":")
    return name.lower() if not port or port.isdigit() else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
