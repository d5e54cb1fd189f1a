"""Sources of data by name. A new one is a file here, a line here and its settings' class."""

from collections.abc import Callable
from typing import Final

from wsi_kd.distillation.samples import Samples
from wsi_kd.distillation.sources.cifar10_zip import read_cifar10_zip
from wsi_kd.distillation.sources.digits import read_digits
from wsi_kd.distillation.sources.features import read_feature_files
from wsi_kd.distillation.sources.image_folder import read_image_folder
from wsi_kd.distillation.sources.npz import read_npz

SOURCES: Final[dict[str, Callable[..., Samples]]] = {
    "cifar10_zip": read_cifar10_zip,
    "digits": read_digits,
    "features": read_feature_files,
    "image_folder": read_image_folder,
    "npz": read_npz,
}
"""Each is called with the options of its settings' class as keywords."""
