"""The built-in target: hematoxylin and eosin as an ordinary slide shows them.

Any target serves, as long as it is one for all slides. These are rounded from the middle of what
`fit_stains` finds on H&E pictures of several laboratories; docs/color.md lists them and the command.
"""

import numpy as np

from wsi_kd.features.stain.fits import ColorFit, Fit, Method, StainFit

HEMATOXYLIN = (0.55, 0.73, 0.40)
EOSIN = (0.20, 0.84, 0.50)
STRENGTH = (2.0, 1.2)
LIGHT = (243.0, 243.0, 243.0)
LAB_MEAN = (8.5, -0.11, 0.05)
LAB_DEVIATION = (0.45, 0.08, 0.025)


def built_in_target(method: Method) -> Fit:
    """Return the target of a method, its stain vectors of length 1."""
    if method == "reinhard":
        return ColorFit(np.array(LAB_MEAN), np.array(LAB_DEVIATION))
    matrix = np.array([HEMATOXYLIN, EOSIN])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return StainFit(matrix, np.array(STRENGTH), np.array(LIGHT))
