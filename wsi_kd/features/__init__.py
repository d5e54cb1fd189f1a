"""Tiles to numbers: the files that hold them, the encoders, and the reading that feeds them."""
