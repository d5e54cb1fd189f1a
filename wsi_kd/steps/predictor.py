"""Inference from Python: the class behind `from wsi_kd import Predictor`."""

from collections.abc import Sequence
from pathlib import Path

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.core.errors import BadInput
from wsi_kd.steps.drawings import drawing_faults
from wsi_kd.steps.infer_batch import as_folders
from wsi_kd.steps.infer_model import load_inference
from wsi_kd.steps.infer_result import SlideResult
from wsi_kd.steps.infer_slide import infer_slide


class Predictor:
    """A trained model, or an ensemble, that scores slides; the result is that of `wsi-kd infer`.

    Models, encoder and networks are loaded once. A slide that cannot be scored raises nothing: its result
    has a status and a reason. Research only: not for diagnosis.

        predictor = Predictor("results/demo/models/weno/seed0/fold0", device="cpu")
        result = predictor.predict("scans/P1.svs")
        result.status.status, result.probabilities, result.calls
        result.tiles.student_score           # one number a tile of result.tiles.coords
        result.write(Path("out/P1"))         # the files that the command writes
    """

    def __init__(
        self,
        model: Path | str | Sequence[Path | str],
        *,
        device: str = "auto",
        weights: Path | None = None,
        mask_network: Path | None = None,
        edited_dir: Path | None = None,
    ) -> None:
        """Load what scoring needs.

        Args:
            model: folder with model.safetensors and model.json; several are an ensemble.
            device: auto, cpu, cuda or cuda:N.
            weights: the encoder's weight file, where it lies elsewhere than at training.
            mask_network: the same of the segmentation network, where one found the tissue.
            edited_dir: folder of hand-drawn outlines of tissue.

        Raises:
            BadInput: as `run_infer`.
        """
        named = Path(model) if isinstance(model, Path | str) else [Path(folder) for folder in model]
        self.inference = load_inference(
            as_folders(named), device=device, weights=weights, network=mask_network, edited_dir=edited_dir
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """In order, the negative one first."""
        return tuple(self.inference.header["classes"])

    def predict(
        self, slide: Path | str, *, slide_id: str | None = None, slide_mpp: float | None = None
    ) -> SlideResult:
        """Score one slide.

        Args:
            slide: the slide's file.
            slide_id: its name in the result; default: the file's, without its ending.
            slide_mpp: um/px of level 0; goes before the slide's metadata.

        Raises:
            BadInput: no such file, not exactly one slide, or a name that no file can have.
        """
        rows = rows_of_slides([Path(slide)], slide_mpp, slide_id=slide_id)
        if len(rows) != 1:
            raise BadInput(f"{slide}: holds {len(rows)} slides; give one, or all of them to: wsi-kd infer")
        faults = drawing_faults(rows, self.inference.settings, negative_label=None)
        if faults:
            raise BadInput("; ".join(faults))
        return infer_slide(rows[0], self.inference)
