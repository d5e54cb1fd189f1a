"""The viewer: a run, what `infer` wrote, or bare slides, served to a browser on this machine."""

import errno
import math
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uvicorn

from wsi_kd.bags.manifest import SlideRow, rows_of_slides
from wsi_kd.bags.slide_files import is_slide_folder, is_slide_name, slides_in
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.crash_probe import survives
from wsi_kd.slides.icc import Color
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.known_slides import Sources, known_slides
from wsi_kd.steps.viewed_answers import prediction_files, view_answers
from wsi_kd.steps.viewed_run import is_run, recorded_title, view_run
from wsi_kd.viewer.app import create_app
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.guard import new_access
from wsi_kd.viewer.nursery import Nursery
from wsi_kd.viewer.record import Viewed, ViewedSlide

WAITING: Final = 64
"""Connections that may wait to be accepted."""
GRACE_S: Final = 2
"""How long a stopped viewer waits for answers on their way."""


class Shown(NamedTuple):
    """How slides are shown, where that is not left to what is found."""

    title: str = ""
    """Of a run; default: the title of its report, else the folder's name."""
    classes: tuple[str, ...] = ()
    """Of a run; default: as its files name them."""
    color: Color | None = None
    """Default: as the run's slides were read; of bare slides as stored."""


def collect_viewed(target: Path, sources: Sources, *, shown: Shown | None = None) -> Viewed:
    """Find out what `target` is and collect all that is shown of it.

    Args:
        target: a run's folder, a folder that `infer` wrote, a slide, a folder of slides, or a CSV with a
            column path.
        sources: where slides are.
        shown: how.

    Raises:
        BadInput: nothing that can be viewed, a file that is no slide, or files that are damaged or of another
            version.
    """
    if sources.slide_mpp is not None and not 0 < sources.slide_mpp < math.inf:
        raise BadInput(f"--slide-mpp {sources.slide_mpp}: expected a positive number of um/px such as 0.25")
    shown = shown or Shown()
    viewed = _collect(target, sources, shown)
    slides = (slide._replace(slide_mpp=slide.slide_mpp or sources.slide_mpp) for slide in viewed.slides)
    return viewed._replace(slides=tuple(slides), color=shown.color or viewed.color)


def _collect(target: Path, sources: Sources, shown: Shown) -> Viewed:
    name = target.resolve().name
    if not target.is_dir() or is_slide_folder(target):
        rows = rows_of_slides([target], sources.slide_mpp)
        if [row.path for row in rows] == [target] and not is_slide_name(target):
            _refuse_foreign(target)
        return view_slides(rows, title=name)
    if prediction_files(target):
        return view_answers(target, sheet=known_slides(sources))
    if is_run(target):
        title = shown.title or recorded_title(target) or name
        return view_run(target, sheet=known_slides(sources), title=title, classes=shown.classes)
    if slides_in(target):
        return view_slides(rows_of_slides([target], sources.slide_mpp), title=name)
    raise BadInput(
        f"{target}: nothing to view; expected a run's results folder, what wsi-kd infer wrote, a slide, or a "
        "folder of slides"
    )


def _refuse_foreign(path: Path) -> None:
    """Refuse a file that neither its name nor its content tells to be a slide.

    Raises:
        BadInput: it does not open.
    """
    if not survives(lambda: open_slide(path, background="metadata").close()):
        raise BadInput(f"{path}: no slide: opening it crashes or hangs the library that does it")
    try:
        with open_slide(path, background="metadata"):
            return
    except SlideProblem as problem:
        raise BadInput(f"{path}: no slide: {problem.reason}") from None


def view_slides(rows: Sequence[SlideRow], *, title: str) -> Viewed:
    """Show slides without any scores."""
    slides = tuple(
        ViewedSlide(
            slide_id=row.slide_id,
            path=row.path,
            status=SlideStatus.OK,
            reason="",
            step="",
            label=row.label,
            site=row.site,
            slide_mpp=row.slide_mpp,
            annotation=row.annotation,
            answers=(),
            tiles={},
        )
        for row in rows
    )
    return Viewed(title, (), (), slides, root=None, background="metadata", color="as_stored")


def serve(
    viewed: Viewed,
    *,
    host: str,
    port: int,
    show_labels: bool,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until interrupted (Ctrl-C), then close every slide; each is read in a process of its own.

    Args:
        viewed: what is shown.
        host: address to bind; 127.0.0.1 is reached from this machine alone.
        port: 0 for any that is free.
        show_labels: whether label and macro images are given.
        on_ready: called with the address to open, token included, once it is bound.

    Raises:
        BadInput: the address cannot be bound.
    """
    with _bound(host, port) as bound, Nursery() as nursery:
        address, taken = bound.getsockname()[:2]
        host = address if _is_everywhere(address) else host  # 0, 0.0 and ::0 are other words for it
        names = frozenset({socket.gethostname(), socket.getfqdn()}) if _is_everywhere(host) else frozenset()
        access = new_access(host=host, port=taken, names=names)
        app = create_app(Desk(viewed, show_labels=show_labels, nursery=nursery), access)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        on_ready(f"http://{_shown_host(host)}:{taken}/?token={access.token}")
        try:
            uvicorn.Server(config).run(sockets=[bound])
        except KeyboardInterrupt:  # how a viewer is meant to end
            return


def _bound(host: str, port: int) -> socket.socket:
    if not host:  # which would be every address
        raise BadInput("--host is empty; give an address of this machine, or leave it out for 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        host.encode("idna")  # else the socket is made, and left open
        return socket.create_server((host, port), family=family, backlog=WAITING)
    except (OSError, OverflowError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or str(error)
        is_taken = getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}
        remedy = (
            "choose another port, or leave it out for one that is free"
            if is_taken
            else "give an address of this machine, or leave it out for 127.0.0.1"
        )
        raise BadInput(
            f"--host {host} --port {port}: cannot be bound ({told.partition(' (while')[0]}); {remedy}"
        ) from None


def _is_everywhere(host: str) -> bool:
    return host in {"0.0.0.0", "::"}


def _shown_host(host: str) -> str:
    """Return the host of the printed address: the machine's name where every address is bound."""
    if _is_everywhere(host):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
