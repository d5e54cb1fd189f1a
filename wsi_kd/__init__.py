"""Whole-slide images and slide labels in; a WENO classifier, its heatmaps and its limits out.

Research only: not for diagnosis.
"""

__version__ = "0.1.0"
