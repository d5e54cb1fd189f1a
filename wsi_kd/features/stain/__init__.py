"""Stain normalization: fitting the stains of a slide, and bringing them to those of a target."""
