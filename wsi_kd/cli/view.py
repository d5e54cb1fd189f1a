"""Command view: slides with their scores in a browser."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_kd.cli.options import ConfigFile
from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.messages import say, warn
from wsi_kd.settings.all import read_settings

if TYPE_CHECKING:
    from wsi_kd.slides.icc import Color
    from wsi_kd.steps.view_export import ExportChoice
    from wsi_kd.viewer.export import ExportPlan
    from wsi_kd.viewer.record import Viewed

LOOPBACK = ("127.0.0.1", "localhost", "::1")

Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN_OR_SLIDE",
        help="A run's results folder, a folder that infer wrote, a slide, or a folder of slides.",
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", help="slides.csv: where a run's slides are; the run does not record it."),
]
SlidesDir = Annotated[
    Path | None,
    typer.Option("--slides-dir", help="Folder of the slides: found by id, or as the manifest names them."),
]
Slide = Annotated[
    list[Path] | None, typer.Option("--slide", help="The slide's file, for a folder that infer wrote.")
]
SlideMpp = Annotated[
    float | None, typer.Option("--slide-mpp", help="Resolution in um/px where the metadata has none.")
]
ColorName = Annotated[
    str,
    typer.Option("--color", help="as_stored or srgb (by the ICC profile); default: as the run read them."),
]
Host = Annotated[str, typer.Option("--host", help="Address to bind; any but 127.0.0.1 lets others in.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Default: any that is free.")]
ShowLabels = Annotated[
    bool, typer.Option("--show-labels", help="Show label and macro images too: they may name a patient.")
]
Open = Annotated[bool, typer.Option("--open/--no-browser", help="Open it in this machine's browser.")]
Static = Annotated[
    Path | None, typer.Option("--static", help="Write one slide to this folder, to be opened from disk.")
]
SlideId = Annotated[str, typer.Option("--slide-id", help="With --static: which slide.")]
UmPerPx = Annotated[
    float, typer.Option("--um-per-px", min=0, help="With --static: finest resolution; 0 for the slide's own.")
]


def view(
    target: Target = None,
    *,
    config: ConfigFile = None,
    manifest: Manifest = None,
    slides_dir: SlidesDir = None,
    slide: Slide = None,
    slide_mpp: SlideMpp = None,
    color: ColorName = "",
    host: Host = "127.0.0.1",
    port: Port = 0,
    show_labels: ShowLabels = False,
    open_browser: Open = False,
    static: Static = None,
    slide_id: SlideId = "",
    um_per_px: UmPerPx = 1.0,
) -> None:
    """Look at slides and their scores in a browser; Ctrl-C ends it. Research only: not for diagnosis."""
    if (target is None) == (config is None):
        raise BadInput("give either RUN_OR_SLIDE or --config FILE, not both or none")
    from wsi_kd.steps.known_slides import Sources
    from wsi_kd.steps.view import Shown, collect_viewed, serve
    from wsi_kd.steps.view_export import ExportChoice

    shown = Shown(color=_color(color))
    if config is not None:
        run = read_settings(config).run
        target, shown = run.results_dir, shown._replace(title=run.title, classes=run.classes)
        manifest, slides_dir = manifest or run.manifest, slides_dir or run.slides_dir
    sources = Sources(manifest, slides_dir, tuple(slide or ()), slide_mpp)
    viewed = collect_viewed(target or Path(), sources, shown=shown)
    if static is not None:
        _export(viewed, static, ExportChoice(slide_id, um_per_px, show_labels))
        return
    lost = sum(one.path is None for one in viewed.slides)
    if lost:
        warn(f"{lost} of {len(viewed.slides)} slides have no picture: tell where they are, --manifest FILE")
    if host not in LOOPBACK:
        warn(f"bound to {host}: whoever has the address sees these slides, unencrypted; see docs/viewer.md")

    def tell(url: str) -> None:
        typer.echo(f"view: {url}")
        if open_browser:
            webbrowser.open(url)

    serve(viewed, host=host, port=port, show_labels=show_labels, on_ready=tell)
    say("view: stopped")


def _color(name: str) -> "Color | None":
    """Return the colors by their name; none were named: None."""
    match name:
        case "":
            return None
        case "as_stored" | "srgb":
            return name
    raise unknown_name("color", name, ("as_stored", "srgb"))


def _export(viewed: "Viewed", folder: Path, choice: "ExportChoice") -> None:
    from wsi_kd.steps.view_export import export_slide

    def tell(plan: "ExportPlan") -> None:
        finest = "its own resolution" if plan.um_per_px is None else f"{plan.um_per_px:.3g} um/px"
        say(
            f"view: {plan.tiles:,} tiles down to {finest}, about {plan.size_bytes / 1e6:,.1f} MB, to {folder}"
        )

    done = export_slide(viewed, folder, choice, on_plan=tell)
    if done.damaged:
        warn(f"{done.damaged} of {done.tiles} tiles cannot be read and are gray")
    say(f"view: {folder / 'index.html'} ({done.size_bytes / 1e6:,.1f} MB); research only, not for diagnosis")
