"""Command infer: the whole line for single slides, with a trained model or several."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.cli.infer_options import (
    EditedDir,
    EncoderName,
    Ensemble,
    Features,
    Given,
    MaskNetwork,
    MaxFailed,
    Models,
    Out,
    PollSeconds,
    Recursive,
    Resume,
    SettleSeconds,
    SlideMpp,
    Slides,
    WatchFolder,
    Weights,
    find_models,
    judge,
    lies_alone,
    refuse_idle,
)
from wsi_kd.cli.options import Device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import say, warn
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.slides.ledger import LEDGER

if TYPE_CHECKING:
    from wsi_kd.steps.infer_watch import Watch


def infer(
    slides: Slides = None,
    *,
    model: Models,
    out: Out,
    features: Features = None,
    watch: WatchFolder = None,
    settle_seconds: SettleSeconds = 60.0,
    poll_seconds: PollSeconds = 10.0,
    ensemble: Ensemble = False,
    recursive: Recursive = False,
    resume: Resume = False,
    slide_mpp: SlideMpp = None,
    device: Device = "auto",
    weights: Weights = None,
    mask_network: MaskNetwork = None,
    edited_dir: EditedDir = None,
    encoder: EncoderName = "",
    max_failed: MaxFailed = 0,
) -> None:
    """Score slides with a trained model: prediction.json, tiles.csv, tiles.geojson, heatmap.png.

    Ends with 0 if all slides were scored, 3 if some failed (they are named), 2 for bad arguments or input.
    """
    if [bool(slides), bool(features), watch is not None].count(True) != 1:
        raise BadInput("give either slides or --features FILE or --watch FOLDER, not several or none")
    of_slides = {
        "--recursive": recursive,
        "--weights": weights,
        "--mask-network": mask_network,
        "--edited-dir": edited_dir,
    }
    refuse_idle(of_slides if features else {"--encoder": encoder}, "slides" if features else "--features")
    models = find_models(model, ensemble=ensemble)
    given = Given(models, out, device, slide_mpp, weights, mask_network, edited_dir, max_failed)
    if watch is not None:
        from wsi_kd.steps.infer_watch import Watch

        told = Watch(watch, recursive, settle_seconds, poll_seconds, slide_mpp)
        statuses = _watch(told, given)
    elif features:
        if resume:
            raise BadInput("--resume is for slides; features are scored in less time than they are compared")
        statuses = _infer_features(features, given, encoder=encoder)
    else:
        statuses = _infer_slides(slides or [], given, recursive=recursive, resume=resume)
    judge(statuses, max_failed=max_failed)
    say(f"written to {out}; research only, not for diagnosis")


def _infer_slides(
    slides: Sequence[Path], given: Given, *, recursive: bool, resume: bool
) -> Sequence[StatusRow]:
    rows = rows_of_slides(slides, given.slide_mpp, recursive=recursive)
    from wsi_kd.steps.infer import run_infer

    alone = lies_alone(slides)
    kept: list[StatusRow] = []
    statuses = run_infer(
        rows,
        model_dir=given.model_dirs,
        out_dir=given.out,
        in_folders=not alone,
        resume=resume or LEDGER.has_refused,  # this call has begun before, and died of a slide
        device=given.device,
        weights=given.weights,
        mask_network_file=given.mask_network,
        edited_dir=given.edited_dir,
        on_slide=_tell_success if alone and not given.max_failed else _tell,
        on_kept=kept.append,
    )
    if kept:
        say(f"{len(kept)} of {len(rows)} slides were scored already")
    return statuses


def _infer_features(features: Sequence[Path], given: Given, *, encoder: str) -> Sequence[StatusRow]:
    from wsi_kd.steps.infer_features import GivenFeatures, run_infer_features

    alone = len(features) == 1 and features[0].is_file()
    return run_infer_features(
        features,
        model_dir=given.model_dirs,
        out_dir=given.out,
        in_folders=not alone,
        device=given.device,
        given=GivenFeatures(encoder=encoder, slide_mpp=given.slide_mpp),
        on_slide=_tell_success if alone and not given.max_failed else _tell,
    )


def _watch(watch: "Watch", given: Given) -> Sequence[StatusRow]:
    """Watch until the command is stopped; Ctrl-C and SIGTERM are its proper ends."""
    from wsi_kd.steps.infer_model import load_inference
    from wsi_kd.steps.infer_watch import run_watch

    inference = load_inference(
        given.model_dirs,
        device=given.device,
        weights=given.weights,
        network=given.mask_network,
        edited_dir=given.edited_dir,
    )
    statuses: dict[str, StatusRow] = {}
    say(f"watching {watch.folder}; Ctrl-C stops")
    try:
        run_watch(
            watch,
            inference,
            out_dir=given.out,
            on_slide=partial(_note, statuses, tell=True),
            on_kept=partial(_note, statuses, tell=False),
        )
    except (KeyboardInterrupt, SystemExit):
        say(f"stopped; {len(statuses)} slides have an answer")
    return list(statuses.values())


def _note(statuses: dict[str, StatusRow], row: StatusRow, *, tell: bool) -> None:
    statuses[row.slide_id] = row
    if tell:
        _tell(row)


def _tell_success(row: StatusRow) -> None:
    """Tell how a single slide ended; where it failed the error line says so, once."""
    if row.status == SlideStatus.OK:
        _tell(row)


def _tell(row: StatusRow) -> None:
    told = f": {row.reason}" if row.reason else f", {row.tiles} tiles"
    tell = say if row.status == SlideStatus.OK else warn
    tell(f"{row.slide_id}: {row.status}{told}", slide_id=row.slide_id)
