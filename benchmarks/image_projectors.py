"""CPU seconds per 1,000 tiles of every image projector, learning and scoring.

OMP_NUM_THREADS=1 python benchmarks/image_projectors.py
"""

import argparse
import time

import torch

from wsi_kd.mil.projectors import ImageProjector

CASES = (("cnn_small", 27), ("cnn_small", 32), ("alexnet_cifar", 32), ("resnet18", 32))
HIDDEN_DIM = 128


def seconds_per_1000(projector: ImageProjector, pixels: torch.Tensor, *, learning: bool) -> float:
    """CPU seconds of one pass, after one that is not counted."""
    for _ in range(2):
        started = time.process_time()
        with torch.set_grad_enabled(learning):
            hidden = projector(pixels)
        if learning:
            torch.autograd.backward(hidden.sum())
        spent = time.process_time() - started
    return 1000.0 * spent / len(pixels)


def main() -> None:
    """Print one row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=128)
    arguments = parser.parse_args()
    print("| projector | px | learn, chunks | learn, one piece | score |\n|---|---|---|---|---|")
    for name, tile_px in CASES:
        torch.manual_seed(0)
        projector = ImageProjector(name, tile_px=tile_px, hidden_dim=HIDDEN_DIM)
        pixels = torch.randint(0, 256, (arguments.tiles, 3 * tile_px**2), dtype=torch.uint8)
        spent = []
        for chunk, learning in ((arguments.chunk, True), (arguments.tiles, True), (arguments.tiles, False)):
            projector.learn_by(chunk=chunk, augmentation="dihedral")
            spent.append(seconds_per_1000(projector, pixels, learning=learning))
        print(f"| `{name}` | {tile_px} | {' | '.join(f'{seconds:.2f}' for seconds in spent)} |", flush=True)


if __name__ == "__main__":
    main()
