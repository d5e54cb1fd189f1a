"""What several processes can train together, as far as settings tell."""

from collections.abc import Collection
from typing import Final

ALONE: Final = frozenset({"ins"})
"""Recipes whose losses read the whole batch at once, instance against instance."""
OF_FEATURES: Final = frozenset({"linear", "affine"})
"""Projectors whose draws can be made for a whole batch; the others turn and stain each tile by chance."""


def not_shared(recipes: Collection[str], projectors: Collection[str]) -> str:
    """Return why several processes cannot train these recipes with these projectors; "" where they can.

    >>> not_shared(["abmil", "ins"], ["linear"])[:39]
    'recipe ins is trained by one process al'
    >>> not_shared(["abmil"], ["linear"])
    ''
    """
    for recipe in sorted(ALONE & set(recipes)):
        return (
            f"recipe {recipe} is trained by one process alone (its contrast reads a whole batch); "
            "set processes to 1, or take it out of recipes"
        )
    for projector in sorted(set(projectors) - OF_FEATURES):
        return f"projector {projector} (pixels) is trained by one process alone; set processes to 1"
    return ""
