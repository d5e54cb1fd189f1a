"""A frozen network as an encoder: tiles are fed in passes of one size, on a GPU while the next are read."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.byte_table import ByteTable, normalized
from wsi_kd.features.encoder_row import OWN_INTERPOLATION, Color
from wsi_kd.features.precision_gate import GATE_TILES, check_precision
from wsi_kd.features.preparation import Preparation, prepare_tiles

CPU_PASS_TILES: Final = 16
"""Tiles a pass on a CPU: as fast as more of them, whose intermediate results leave the cache. A pass always
has this many, the last one is filled up: a tile's features are then the same to the last bit wherever it
stands and whatever stands beside it."""
VECTOR_PER_TILE: Final = 2  # axes of an output (tiles, features)

Features = Float32[np.ndarray, "tiles features"]


class NetworkEncoder:
    """An `Encoder` around a frozen network: uint8 RGB tiles of any edge in, float32 features out.

    It is a `PreparedEncoder` too: reading threads resize tiles into its batches, and `begin` does not wait
    for a GPU.
    """

    feature_names: tuple[str, ...] = ()
    encodes_in_threads = False

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        input_px: int,
        pixel_mean: Color,
        pixel_std: Color,
        model_arguments: Mapping[str, Any],
        weights_hash: str,
        dtype: torch.dtype,
        device: torch.device,
        preparation: Preparation | None = None,
    ) -> None:
        """Freeze a network; see `create_network_encoder` for one with weights.

        Args:
            name: of the encoder.
            network: from normalized pixels (tiles, 3, input_px, input_px) to vectors (tiles, features).
            input_px: edge that the network is fed.
            pixel_mean: subtracted from pixels in 0-1.
            pixel_std: divides pixels in 0-1.
            model_arguments: told in `settings`.
            weights_hash: of the weights.
            dtype: that it computes in; other than float32, the first tiles are held against float32.
            device: that it computes on.
            preparation: how tiles are resized; None: the whole tile to `input_px` by `OWN_INTERPOLATION`.

        Raises:
            BadInput: the network does not take this edge, or gives no vector.
        """
        self._preparation = preparation or Preparation(input_px, input_px, OWN_INTERPOLATION)
        self.name = name
        self.input_px: int | None = input_px
        self.prepared_px = input_px
        self.as_read_px = input_px if self._preparation.resize_px == input_px else None
        self.weights_hash = weights_hash
        self.settings: Mapping[str, Any] = {
            "input_px": input_px,
            "resize_px": self._preparation.resize_px,
            "interpolation": self._preparation.interpolation,
            "pixel_mean": list(pixel_mean),
            "pixel_std": list(pixel_std),
            "model_arguments": dict(model_arguments),
        }
        self.dtype = dtype
        self._device = device
        self._mean = torch.tensor(pixel_mean, device=device).view(1, 3, 1, 1) * 255.0
        self._scale = 1.0 / (torch.tensor(pixel_std, device=device).view(1, 3, 1, 1) * 255.0)
        network = network.eval().requires_grad_(requires_grad=False).to(device)
        self._exact = None if dtype == torch.float32 else _channels_last(copy.deepcopy(network).float())
        self._unchecked = GATE_TILES
        self._how = f"precision: {str(dtype).removeprefix('torch.')}"
        self.network: Callable[[Tensor], Tensor] = _channels_last(network.to(dtype))
        on_gpu = device.type == "cuda"
        self._copies: torch.cuda.Stream | None = None
        if on_gpu:
            self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._table = ByteTable(self._mean.cpu(), self._scale.cpu(), dtype)
        self.gpu_uuid = str(torch.cuda.get_device_properties(device).uuid) if on_gpu else None
        self.feature_dim = self._probe()

    def compile(self) -> None:
        """Have torch compile the network: its first pass takes a minute, the others less time.

        Raises:
            BadInput: on a CPU, where it needs a C++ compiler and gains little.
        """
        if self._device.type != "cuda":
            raise BadInput("embed.compile needs a GPU; remove it, or set embed.device")
        if self._exact is None:
            assert isinstance(self.network, nn.Module)
            self._exact = self.network
        self._how = "compile"
        self.network = torch.compile(self.network, dynamic=False)

    def leave_unchecked(self) -> None:
        """Compare nothing with float32: for who measures what the comparison would find."""
        self._exact = None

    def __call__(self, tiles: TileBatch) -> Features:
        """Encode tiles (tiles, edge, edge, 3), one row a tile.

        Raises:
            BadInput: `begin` refuses the precision.
            RunFailed: the GPU's memory does not hold the batch.
        """
        if not len(tiles):
            return np.zeros((0, self.feature_dim), np.float32)
        return self.begin(prepare_tiles(tiles, self._preparation), len(tiles))()

    def batch_array(self, tiles: int) -> UInt8[np.ndarray, "tiles input_px input_px 3"]:
        """Return an array for prepared tiles; for a GPU in page-locked memory, which it copies by itself."""
        shape = (tiles, self.prepared_px, self.prepared_px, 3)
        if self._copies is None:
            return np.empty(shape, np.uint8)
        return np.asarray(torch.zeros(shape, dtype=torch.uint8, pin_memory=True).numpy())

    def prepare(self, tiles: TileBatch, out: UInt8[np.ndarray, "tiles input_px input_px 3"]) -> None:
        """Resize and crop tiles into rows of a batch; on any thread."""
        prepare_tiles(tiles, self._preparation, out)

    def begin(
        self, batch: UInt8[np.ndarray, "batch input_px input_px 3"], count: int
    ) -> Callable[[], Features]:
        """Begin to encode the first tiles of a batch of prepared ones; the rest may hold anything.

        A GPU is fed the whole batch, so that passes are alike and none is compiled anew.

        Args:
            batch: stays as it is until the result was asked for.
            count: tiles in it.

        Returns:
            What waits for the features, (count, features), and returns them.

        Raises:
            BadInput: features too far from those of float32.
            RunFailed: the GPU's memory does not hold the batch.
        """
        try:
            if self._copies is None:
                waited = self._on_cpu(batch[:count])
            else:
                waited = self._on_gpu(batch, count, self._copies)
            if self._exact is not None:
                self._check_precision(self._exact, batch[:count], waited())
        except torch.OutOfMemoryError:
            raise RunFailed(
                f"encoder '{self.name}': {len(batch)} tiles do not fit the GPU's memory; "
                "lower embed.batch_size"
            ) from None
        return waited

    def _on_cpu(self, tiles: TileBatch) -> Callable[[], Features]:
        features = np.empty((len(tiles), self.feature_dim), np.float32)
        for start in range(0, len(tiles), CPU_PASS_TILES):
            part = tiles[start : start + CPU_PASS_TILES]
            if len(part) < CPU_PASS_TILES:
                part = np.concatenate(
                    [part, np.zeros((CPU_PASS_TILES - len(part), *part.shape[1:]), np.uint8)]
                )
            encoded = _features(self.network, self._table(part))
            end = min(start + CPU_PASS_TILES, len(tiles))
            features[start:end] = encoded.numpy()[: end - start]
        return lambda: features

    def _on_gpu(self, batch: TileBatch, count: int, copies: torch.cuda.Stream) -> Callable[[], Features]:
        """Copy and compute on two streams: a batch is copied while the one before it is computed."""
        stream = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(copies):
            tiles = torch.from_numpy(batch).to(self._device, non_blocking=True)
        stream.wait_stream(copies)
        tiles.record_stream(stream)
        encoded = self._encode(self.network, tiles, self.dtype)
        on_host = torch.empty(encoded.shape, dtype=torch.float32, pin_memory=True)
        on_host.copy_(encoded, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(stream)

        def wait() -> Features:
            done.synchronize()
            return np.asarray(on_host.numpy()[:count])

        return wait

    @torch.inference_mode()
    def _encode(
        self,
        network: Callable[[Tensor], Tensor],
        tiles: UInt8[Tensor, "tiles height width 3"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "..."]:
        # Height, width, color seen as color, height, width is torch's channels_last: nothing is copied.
        pixels = tiles.to(self._device).permute(0, 3, 1, 2)
        return _features(network, normalized(pixels, self._mean, self._scale).to(dtype))

    def _check_precision(self, exact: nn.Module, tiles: TileBatch, found: Features) -> None:
        checked = min(self._unchecked, len(tiles))
        expected = self._encode(exact, torch.from_numpy(tiles[:checked].copy()), torch.float32)
        check_precision(self.name, expected.cpu().numpy(), found[:checked], what=self._how)
        self._unchecked -= checked
        if self._unchecked == 0:
            self._exact = None

    def _probe(self) -> int:
        blank = torch.zeros((1, self.prepared_px, self.prepared_px, 3), dtype=torch.uint8)
        try:
            shape = tuple(self._encode(self.network, blank, self.dtype).shape)
        except (AssertionError, RuntimeError, ValueError) as error:
            what = " ".join(str(error).split())[:150]
            raise BadInput(
                f"encoder '{self.name}': does not take tiles of {self.prepared_px} px ({what}); "
                "leave embed.input_px unset or give the size it asks for"
            ) from None
        if len(shape) != VECTOR_PER_TILE:
            raise BadInput(
                f"encoder '{self.name}': gives {shape} for one tile, expected one vector; "
                "wsi-kd encoders lists those whose tokens are read here"
            )
        return shape[1]


@torch.inference_mode()
def _features(
    network: Callable[[Tensor], Tensor], pixels: Float[Tensor, "tiles 3 height width"]
) -> Float[Tensor, "..."]:
    return network(pixels).float()


def _channels_last(network: nn.Module) -> nn.Module:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
