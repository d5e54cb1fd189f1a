"""How good networks that normalize stains are: against Macenko's targets, and against the teacher."""

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from image_measures import frechet, psnr, ssim
from stain_pairs import Pairs
from wsi_kd.features.encoders import create_encoder
from wsi_kd.kd.dense_networks import UNet

TEST_PX: Final = 128
BATCH: Final = 32


class Judge:
    """The test part: what the teacher gives for it and what the features of targets and outputs are."""

    def __init__(self, pairs: Pairs, teacher: UNet, *, weights: Path) -> None:
        self._encoder = create_encoder(
            "torchvision:mobilenet_v2",
            weights=weights,
            input_px=TEST_PX,
            pixel_mean=(0.5, 0.5, 0.5),
            pixel_std=(0.5, 0.5, 0.5),
            model_arguments={},
            precision="float32",
            device="cpu",
        )
        self.pairs = pairs
        self.teacher = run(teacher, pairs.inputs)
        self._target_features = self._features(pairs.targets)
        self._teacher_features = self._features(self.teacher)

    def figures(self, outputs: Tensor) -> dict[str, float]:
        """Return `FIGURES` of outputs for the test inputs; the teacher's own PSNR to itself is left out."""
        features = self._features(outputs)
        found = {
            "psnr": float(psnr(outputs, self.pairs.targets).mean()),
            "ssim": float(ssim(outputs, self.pairs.targets).mean()),
            "frechet": frechet(features, self._target_features),
        }
        if outputs is not self.teacher:
            found["psnr_teacher"] = float(psnr(outputs, self.teacher).mean())
            found["frechet_teacher"] = frechet(features, self._teacher_features)
        return found

    def _features(self, images: Tensor) -> Tensor:
        levels = ((images + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return torch.cat(
            [torch.from_numpy(self._encoder(levels[at : at + BATCH])) for at in range(0, len(levels), BATCH)]
        )


@torch.inference_mode()
def run(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's outputs."""
    return torch.cat([network(inputs[at : at + BATCH]) for at in range(0, len(inputs), BATCH)]).clone()
