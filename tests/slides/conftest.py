"""What several tests of slides look at."""

from collections import Counter

import pytest

from wsi_kd.slides import stored_tiles


@pytest.fixture
def decodes(monkeypatch):
    """Count how often each stored tile is decoded, by its bytes."""
    seen, decode = Counter(), stored_tiles.simplejpeg.decode_jpeg

    def counted(stream, *args, **others):
        seen[bytes(stream)] += 1
        return decode(stream, *args, **others)

    monkeypatch.setattr(stored_tiles.simplejpeg, "decode_jpeg", counted)
    return seen
