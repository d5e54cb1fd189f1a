from pathlib import Path

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import KIND_VERSIONS, SCHEMA_VERSION, check_schema, stamp


@pytest.mark.parametrize("kind", ["tiles", *KIND_VERSIONS])
def test_what_is_written_is_read(kind):
    check_schema(stamp(kind, {}), kind, where=Path("f"), remake="wsi-kd x")


def test_only_kinds_whose_layout_changed_must_be_made_anew():
    old = {"schema_version": SCHEMA_VERSION}
    check_schema({**old, "kind": "tiles"}, "tiles", where=Path("t.h5"), remake="wsi-kd tile")
    with pytest.raises(
        BadInput, match=r"p\.csv: schema version 1, this wsi-kd reads 3; make it anew with: wsi"
    ):
        check_schema(
            {**old, "kind": "predictions"}, "predictions", where=Path("p.csv"), remake="wsi-kd predict"
        )
