"""Step infer: slides -> predictions in one command, by the workflow's functions and so with its numbers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import StatusRow
from wsi_kd.steps.drawings import drawing_faults
from wsi_kd.steps.infer_batch import Batch, Job, OnSlide, as_folders, ignore, run_jobs
from wsi_kd.steps.infer_model import Inference, load_inference
from wsi_kd.steps.infer_slide import infer_slide, slide_hash


def run_infer(
    rows: Sequence[SlideRow],
    *,
    model_dir: Path | Sequence[Path],
    out_dir: Path,
    in_folders: bool | None = None,
    resume: bool = False,
    device: str = "auto",
    weights: Path | None = None,
    mask_network_file: Path | None = None,
    edited_dir: Path | None = None,
    on_slide: OnSlide = ignore,
    on_kept: OnSlide = ignore,
) -> list[StatusRow]:
    """Predict slides with a trained model; encoder, tiling and thresholds come from its checkpoint.

    Every slide ends with a `prediction.json` that holds its status; those that were scored also get
    `tiles.csv`, `tiles.geojson` and `heatmap.png`.

    Args:
        rows: slides; a label is not needed.
        model_dir: folder with model.safetensors and model.json; several are an ensemble: features are made
            once, every model scores them, and the answer is the mean with its spread.
        out_dir: where to write.
        in_folders: write each slide to `out_dir/<slide_id>/` and a table `predictions.csv`; default: where
            there are several.
        resume: keep the slides that these models have scored already, from the same files.
        device: auto, cpu, cuda or cuda:N, for encoder and model.
        weights: the encoder's weight file, where it lies elsewhere than at training; another file is refused.
        mask_network_file: the same of the segmentation network, where one found the tissue.
        edited_dir: folder of hand-drawn outlines of tissue.
        on_slide: called with each slide's status as soon as it is written.
        on_kept: called with the status of each slide that is kept.

    Raises:
        BadInput: a model that cannot be loaded, models that are no ensemble, an encoder other than the
            model's, or drawings with faults (all of them listed before the first slide).
        RunFailed: a file could not be written.
    """
    inference = load_inference(
        as_folders(model_dir),
        device=device,
        weights=weights,
        network=mask_network_file,
        edited_dir=edited_dir,
    )
    faults = drawing_faults(rows, inference.settings, negative_label=None)
    if faults:
        raise BadInput(f"{len(faults)} drawings cannot be used: {listed(faults)}")
    separate = len(rows) != 1 if in_folders is None else in_folders
    batch = Batch(out_dir, separate, resume=resume, on_slide=on_slide, on_kept=on_kept)
    return run_jobs([slide_job(row, inference) for row in rows], batch, models=inference.models)


def slide_job(row: SlideRow, inference: Inference) -> Job:
    """Describe what is to be done with a slide."""
    return Job(row.slide_id, partial(infer_slide, row, inference), partial(slide_hash, row, inference))
