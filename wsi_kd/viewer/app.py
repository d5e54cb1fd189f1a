"""The viewer's addresses, one answer each. Slides are named by their place in the list, never by a path."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from wsi_kd.core.errors import WsiKdError
from wsi_kd.viewer.answers import run_answer, slides_answer, to_json
from wsi_kd.viewer.desk import Desk, NotThere
from wsi_kd.viewer.guard import Access, Guard
from wsi_kd.viewer.opened import told

STATIC: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"
MEDIA_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain",
}
READERS: Final = 8
"""Threads that read slides at once."""
DAMAGE_HEADER: Final = "X-Wsi-Kd-Damaged"
REPORT_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The report holds its own script and style; in a sandbox it cannot ask the viewer for anything."""
GONE_AWAY: Final = 499
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

Answer = TypeVar("Answer")


class Pages:
    """One method an address."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._static = static_files()
        self._run = to_json(run_answer(desk.viewed))
        self._slides = to_json(slides_answer(desk.viewed.slides))
        self._readers = anyio.CapacityLimiter(READERS)

    async def index(self, _: Request) -> Response:
        """Give the page itself."""
        return Response(self._static[INDEX], media_type=MEDIA_TYPES[".html"])

    async def static(self, request: Request) -> Response:
        """Give one of the page's own files, which were listed when the viewer started."""
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404, "no such file")
        return Response(
            self._static[name],
            media_type=MEDIA_TYPES[Path(name).suffix],
            headers={"Cache-Control": "no-cache"},
        )

    async def run(self, _: Request) -> Response:
        """Describe the run."""
        return _json(self._run)

    async def slides(self, _: Request) -> Response:
        """List the slides."""
        return _json(self._slides)

    async def slide(self, request: Request) -> Response:
        """Describe one slide."""
        index = _number(request, "index")
        return _json(to_json(await self._read(request, partial(self._desk.slide, index))))

    async def scores(self, request: Request) -> Response:
        """Give one slide's tile scores by one model."""
        index, model = _number(request, "index"), request.query_params.get("model", "")
        return _json(await self._read(request, lambda: to_json(self._desk.scores(index, model))))

    async def annotations(self, request: Request) -> Response:
        """Give one slide's annotations as GeoJSON."""
        index = _number(request, "index")
        return _json(await self._read(request, lambda: to_json(self._desk.outlines(index))))

    async def associated(self, request: Request) -> Response:
        """Give label, macro or thumbnail, with --show-labels only."""
        index, name = _number(request, "index"), request.path_params["name"]
        return _jpeg(await self._read(request, partial(self._desk.associated, index, name)))

    async def tile(self, request: Request) -> Response:
        """Give one DeepZoom tile; a damaged one is gray, and its header says why."""
        index, level, column, row = (_number(request, key) for key in ("index", "level", "column", "row"))
        read = partial(self._desk.tile, index, level=level, column=column, row=row)
        tile = await self._read(request, read)
        damage = tile.damage.encode("ascii", "replace").decode()
        return _jpeg(tile.jpeg, {DAMAGE_HEADER: damage} if damage else {})

    async def report(self, _: Request) -> Response:
        """Give the run's report, where there is one."""
        page = self._desk.viewed.report
        if page is None or not page.is_file() or not self._desk.is_of_run(page):
            raise HTTPException(404, "this run has no report; make it with: wsi-kd report")
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return FileResponse(page, media_type=MEDIA_TYPES[".html"], headers=headers)

    def routes(self) -> list[Route]:
        """List every address."""
        one = "/api/slides/{index}"
        addresses: dict[str, Callable[[Request], object]] = {
            "/": self.index,
            "/static/{name}": self.static,
            "/report/index.html": self.report,
            "/api/run": self.run,
            "/api/slides": self.slides,
            one: self.slide,
            f"{one}/scores": self.scores,
            f"{one}/annotations": self.annotations,
            f"{one}/associated/{{name}}.jpg": self.associated,
            "/dzi/{index}/{level}/{column}_{row}.jpg": self.tile,
        }
        return [Route(path, endpoint, methods=["GET"]) for path, endpoint in addresses.items()]

    async def _read(self, request: Request, read: Callable[[], Answer]) -> Answer:
        """Read in a thread; whoever has moved on while others were served is not read for."""
        async with self._readers:
            if await request.is_disconnected():
                raise HTTPException(GONE_AWAY, "the page has moved on")
            return await anyio.to_thread.run_sync(read)


def create_app(desk: Desk, access: Access) -> Starlette:
    """Make the application: every request passes the guard first.

    Args:
        desk: what is answered about slides; closed when the application ends.
        access: what a request must bring.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        desk.close()

    app = Starlette(
        routes=Pages(desk).routes(),
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: _refuse, WsiKdError: _explain},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def static_files() -> dict[str, bytes]:
    """Read the page's own files: plain files of known kinds in one folder, none in folders below."""
    return {
        path.name: path.read_bytes()
        for path in sorted(STATIC.iterdir())
        if path.suffix in MEDIA_TYPES and path.is_file() and not path.is_symlink()
    }


def _number(request: Request, key: str) -> int:
    """Read a whole number of at most nine digits; anything else names nothing."""
    text = request.path_params[key]
    if _NUMBER.fullmatch(text) is None:
        raise HTTPException(404, f"{key}: expected a whole number")
    return int(text)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _jpeg(content: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(content, media_type="image/jpeg", headers=headers)


async def _refuse(_: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return PlainTextResponse(f"{detail}\n", status_code=status)


async def _explain(_: Request, error: Exception) -> Response:
    text = told(error, None) if isinstance(error, WsiKdError) else ""
    return PlainTextResponse(f"{text}\n", status_code=404 if isinstance(error, NotThere) else 409)
