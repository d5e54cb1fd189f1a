"""A bucket of slides on a server of our own (moto), and cohorts whose manifests tell addresses."""

import csv
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

BUCKET, FOLDER = "scans", "2024/spring"
COPIES = ".snakemake/storage"


class Bucket(NamedTuple):
    """The server and what the workflow must know of it."""

    client: Any
    variables: dict[str, str]


@contextmanager
def filled_bucket(drawn: Path) -> Iterator[Bucket]:
    """Serve the slides of a cohort; where the server is not installed tests are skipped."""
    server_module = pytest.importorskip("moto.server", reason="s3: moto is not installed; run make cluster")
    boto3 = pytest.importorskip("boto3", reason="s3: boto3 is not installed; run make cluster")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    secret = {
        "ACCESS_KEY": "of-the-test",
        "SECRET_KEY": "of-the-test",
        "ENDPOINT_URL": f"http://{host}:{port}",
    }
    client = boto3.client(
        "s3",
        endpoint_url=secret["ENDPOINT_URL"],
        aws_access_key_id=secret["ACCESS_KEY"],
        aws_secret_access_key=secret["SECRET_KEY"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    for row in rows_of(drawn):
        client.upload_file(str(drawn / "cohort" / row["path"]), BUCKET, f"{FOLDER}/{row['path']}")
    try:
        yield Bucket(client, {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in secret.items()})
    finally:
        server.stop()


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the manifest's rows."""
    with (folder / "cohort/slides.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def without_slides(drawn: Path, folder: Path) -> Path:
    """Copy a cohort; its slides stay behind, and the manifest tells their addresses."""
    shutil.copytree(drawn, folder, ignore=shutil.ignore_patterns("*.tiff"))
    rows = [{**row, "path": f"s3://{BUCKET}/{FOLDER}/{row['path']}"} for row in rows_of(drawn)]
    with (folder / "cohort/slides.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def copies_in(folder: Path) -> list[Path]:
    """Return the slides that lie there as copies of what is in storage."""
    return [path for path in (folder / COPIES).rglob("*") if path.is_file()]
