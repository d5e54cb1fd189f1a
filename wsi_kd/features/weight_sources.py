"""Where an encoder's weights lie: a given file, an offline folder, the hub's cache, and last the hub itself.

An offline folder (`embed.weights_dir`) holds `<short name>.safetensors` (or .bin, .pt, .pth, .torch), or what
was fetched from the hub: `<owner>--<model>/<file>`, `<owner>/<model>/<file>`, or a hub cache
(`models--<owner>--<model>/snapshots/...`). A file found nearer is never asked of the network, so that two
runs on one machine use one file.
"""

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import file_hash
from wsi_kd.features.encoder_row import HUB, EncoderRow
from wsi_kd.features.encoder_table import ENCODERS

LOG = logging.getLogger(__name__)

SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth", ".torch")
REACH_SECONDS: Final = 10.0
"""How long the hub may take to answer at all, before a download is tried."""
REFUSED: Final = (401, 403)
GIVE: Final = "give a local file as embed.weights or a folder as embed.weights_dir"


class Found(NamedTuple):
    """A weight file on this machine."""

    path: Path
    where: str
    """weights, weights_dir or cache."""


def find_weights(row: EncoderRow, *, weights: Path | None, weights_dir: Path | None) -> Path:
    """Return the weight file of an encoder of the table, fetched from the hub where it is nowhere nearer.

    Raises:
        BadInput: a file or folder that is not there; weights that cannot be had, with what to do.
        RunFailed: the download broke off.
    """
    found = weights_here(row, weights=weights, weights_dir=weights_dir)
    return found.path if found else fetch_weights(row)


def weights_here(row: EncoderRow, *, weights: Path | None, weights_dir: Path | None) -> Found | None:
    """Look for the weights on this machine alone; None where they would have to be fetched.

    Raises:
        BadInput: `weights` or `weights_dir` is not there.
    """
    if weights is not None:
        if not weights.is_file():
            raise BadInput(f"{weights}: no such weight file; correct embed.weights")
        return Found(weights, "weights")
    offline = in_folder(weights_dir, row.name, hub=row.hub, files=row.files)
    if offline is not None:
        return Found(offline, "weights_dir")
    cached = _cached(row.hub, row.files, cache_dir=None)
    return None if cached is None else Found(cached, "cache")


def offline_file(name: str, weights_dir: Path | None) -> Path | None:
    """Look for an encoder's weights in the offline folder alone, by any encoder's name; timm is not asked.

    Raises:
        BadInput: the folder is not there.
    """
    row = ENCODERS.get(name)
    hub, files = (row.hub, row.files) if row else ("", ())
    return in_folder(weights_dir, name.partition(":")[2] or name, hub=hub, files=files)


def in_folder(folder: Path | None, name: str, *, hub: str, files: tuple[str, ...]) -> Path | None:
    """Look for an encoder's weights in an offline folder; None where it holds none, or there is no folder.

    Raises:
        BadInput: the folder is not there.
    """
    if folder is None:
        return None
    try:
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder; correct embed.weights_dir")
        return next((path for path in _places(folder, name, hub=hub, files=files) if path.is_file()), None)
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be looked through ({error.strerror}); correct embed.weights_dir or its rights"
        ) from None


def _places(folder: Path, name: str, *, hub: str, files: tuple[str, ...]) -> Iterator[Path]:
    yield from (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    if not hub:
        yield from (folder / file for file in files)
        return
    for file in files:
        yield folder / hub.replace("/", "--") / file
        yield folder / hub / file
    cached = _cached(hub, files, cache_dir=folder)
    if cached is not None:
        yield cached


def _cached(hub: str, files: tuple[str, ...], *, cache_dir: Path | None) -> Path | None:
    if not hub:
        return None
    for file in files:
        found = try_to_load_from_cache(hub, file, cache_dir=cache_dir)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch_weights(row: EncoderRow) -> Path:
    """Fetch an encoder's weights from the hub into its cache, telling so before.

    Raises:
        BadInput: offline, no access, no such file; the remedy is told.
        RunFailed: the download broke off.
    """
    if not row.hub:
        raise BadInput(
            f"encoder '{row.name}': its weights are on no hub; fetch {row.files[0]} from {row.paper} "
            f"and {GIVE}"
        )
    check_reachable(row.name, page=row.page)
    LOG.warning("encoder '%s': fetching its weights from %s, once", row.name, row.page)
    for file in row.files:
        try:
            return Path(hf_hub_download(row.hub, file))
        except LocalEntryNotFoundError as error:
            raise _no_access(row, error) from None
        except EntryNotFoundError:
            continue  # the next name
        except (GatedRepoError, RepositoryNotFoundError, HfHubHTTPError) as error:
            raise _no_access(row, error) from None
        except OSError as error:
            raise RunFailed(
                f"encoder '{row.name}': the download from {row.page} broke off ({_line(error)}); "
                f"run again to go on, or {GIVE}"
            ) from None
    raise BadInput(f"encoder '{row.name}': {row.page} holds none of {', '.join(row.files)}; {GIVE}")


def weights_sha256(path: Path) -> str:
    """Return the sha256 of a weight file, read once a process while the file stays as it is."""
    found = path.stat()
    return _sha256(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256(path: Path, _size: int, _modified_ns: int) -> str:
    return file_hash(path)


def check_reachable(name: str, *, page: str) -> None:
    """Ask the hub for a sign of life, instead of a minute of silent repetitions where there is no network.

    Raises:
        BadInput: offline by HF_HUB_OFFLINE, or no answer.
    """
    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except OfflineModeIsEnabled:
        raise BadInput(
            f"encoder '{name}': its weights are not here and HF_HUB_OFFLINE forbids fetching them; "
            f"{GIVE}, or unset HF_HUB_OFFLINE and run once with network access"
        ) from None
    except Exception as error:  # httpx or requests, by the version of the hub client
        raise BadInput(
            f"encoder '{name}': its weights are not here and {constants.ENDPOINT} cannot be reached "
            f"({_line(error)}); {GIVE}, or run once with network access ({page})"
        ) from None


def _no_access(row: EncoderRow, error: Exception) -> BadInput:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    refused = isinstance(error, GatedRepoError | RepositoryNotFoundError) or status in REFUSED
    if refused:
        return no_access(row.name, row.page)
    return BadInput(f"encoder '{row.name}': {row.page} did not give its weights ({_line(error)}); {GIVE}")


def no_access(name: str, page: str) -> BadInput:
    """Build the one line for weights behind a license that was not accepted, or a login that is missing."""
    return BadInput(
        f"encoder '{name}': its weights are gated; accept the license at {page}, run: hf auth login, "
        f"and start again; or {GIVE}"
    )


def hub_page(name: str) -> str:
    """Return the page of a name such as hf-hub:owner/model."""
    return f"{HUB}{name.partition(':')[2]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
