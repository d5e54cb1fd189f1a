"""Where weights are looked for, in which order, and what is said when they cannot be had."""

import logging
import os
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import file_hash
from wsi_kd.features import timm_weights, weight_sources
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.weight_sources import find_weights, in_folder, offline_file, weights_here, weights_sha256

VIRCHOW = ENCODERS["virchow"]  # model.safetensors, else pytorch_model.bin
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """No test reads the cache of the machine it runs on."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_in_cache(cache, row, file):
    repository = cache / f"models--{row.hub.replace('/', '--')}"
    put(repository / "refs/main", COMMIT.encode())
    return put(repository / "snapshots" / COMMIT / file)


def hub_that(monkeypatch, answer):
    """Stand in for the hub: reachable, and `answer(file)` is what a download does."""
    asked = []

    def download(hub, file):
        asked.append((hub, file))
        return answer(file)

    monkeypatch.setattr(weight_sources, "hf_hub_download", download)
    monkeypatch.setattr(weight_sources, "get_session", lambda: SimpleNamespace(head=lambda *_, **__: None))
    return asked


def refusal(kind, status):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status} Client Error. Access is restricted.\nPlease log in.", response=response)


def raising(error):
    def answer(_file):
        raise error

    return answer


def test_the_nearest_file_wins(tmp_path, empty_cache):
    """A given file, the offline folder, the hub's cache: each hides what comes after it."""
    cached = put_in_cache(empty_cache, VIRCHOW, "pytorch_model.bin")
    folder = tmp_path / "offline"
    folder.mkdir()
    assert weights_here(VIRCHOW, weights=None, weights_dir=folder) == (cached, "cache")
    offline = put(folder / "virchow.pt")
    assert weights_here(VIRCHOW, weights=None, weights_dir=folder) == (offline, "weights_dir")
    better = put(folder / "virchow.safetensors")
    assert find_weights(VIRCHOW, weights=None, weights_dir=folder) == better
    given = put(tmp_path / "mine.bin")
    assert weights_here(VIRCHOW, weights=given, weights_dir=folder) == (given, "weights")


@pytest.mark.parametrize(
    "place",
    [
        "virchow.bin",
        "paige-ai--Virchow/model.safetensors",
        "paige-ai/Virchow/pytorch_model.bin",
        f"models--paige-ai--Virchow/snapshots/{COMMIT}/model.safetensors",
    ],
)
def test_an_offline_folder_may_be_laid_out_as_the_hub(tmp_path, place):
    path = put(tmp_path / place)
    put(tmp_path / "models--paige-ai--Virchow/refs/main", COMMIT.encode())
    found = in_folder(tmp_path, "virchow", hub=VIRCHOW.hub, files=VIRCHOW.files)
    assert found is not None
    assert found.samefile(path)
    assert offline_file("virchow", tmp_path) == found
    assert offline_file("virchow2", tmp_path) is None


@pytest.mark.parametrize("folder", ["absent", "a" * 300])
def test_an_offline_folder_that_cannot_be_looked_through_is_one_line(tmp_path, folder):
    with pytest.raises(BadInput, match=r"(no such|cannot be looked).*correct embed\.weights_dir"):
        in_folder(tmp_path / folder, "virchow", hub=VIRCHOW.hub, files=VIRCHOW.files)


def test_a_file_of_no_hub_goes_by_its_own_name(tmp_path):
    path = put(tmp_path / "ctranspath.pth")
    assert offline_file("ctranspath", tmp_path) == path
    other = put(tmp_path / "checkpoint_0099.tar")
    assert in_folder(tmp_path, "mine", hub="", files=("checkpoint_0099.tar",)) == other
    with pytest.raises(BadInput, match=r"on no hub; fetch ctranspath\.pth from https://github\.com/Xiyue"):
        find_weights(ENCODERS["ctranspath"], weights=None, weights_dir=None)


def test_names_of_timm_are_found_offline_too(tmp_path):
    plain = put(tmp_path / "resnet50.a1_in1k.safetensors")
    of_torchvision = put(tmp_path / "mobilenet_v2.pth")
    hub = put(tmp_path / "owner--model/model.safetensors")
    assert timm_weights.offline_weights("resnet50.a1_in1k", tmp_path) == plain
    assert timm_weights.offline_weights("torchvision:mobilenet_v2", tmp_path) == of_torchvision
    assert timm_weights.offline_weights("hf-hub:owner/model", tmp_path) == hub
    assert timm_weights.offline_weights("resnet18.a1_in1k", tmp_path) is None
    assert timm_weights.offline_weights("resnet18.a1_in1k", None) is None
    assert timm_weights.hub_of("resnet50.a1_in1k") == "timm/resnet50.a1_in1k"


def test_files_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"no such weight file; correct embed\.weights$"):
        weights_here(VIRCHOW, weights=tmp_path / "x.pt", weights_dir=None)
    with pytest.raises(BadInput, match=r"no such folder; correct embed\.weights_dir$"):
        weights_here(VIRCHOW, weights=None, weights_dir=tmp_path / "none")


def test_the_hub_is_asked_last_and_told_before(tmp_path, monkeypatch, caplog):
    """The second name is tried where the first is not there."""
    path = put(tmp_path / "got.bin")

    def answer(file):
        if file == "model.safetensors":
            raise refusal(RemoteEntryNotFoundError, 404)
        return str(path)

    asked = hub_that(monkeypatch, answer)
    with caplog.at_level(logging.WARNING):
        assert find_weights(VIRCHOW, weights=None, weights_dir=None) == path
    assert asked == [("paige-ai/Virchow", "model.safetensors"), ("paige-ai/Virchow", "pytorch_model.bin")]
    assert "fetching its weights from https://huggingface.co/paige-ai/Virchow, once" in caplog.text


@pytest.mark.parametrize(
    ("kind", "status"),
    [(GatedRepoError, 403), (GatedRepoError, 401), (RepositoryNotFoundError, 401), (HfHubHTTPError, 403)],
)
def test_gated_weights_say_what_to_do(monkeypatch, kind, status):
    hub_that(monkeypatch, raising(refusal(kind, status)))
    with pytest.raises(
        BadInput, match=r"are gated; accept the license at https://hugg.*/paige-ai/Virchow"
    ) as told:
        find_weights(VIRCHOW, weights=None, weights_dir=None)
    message = str(told.value)
    assert "hf auth login" in message
    assert "embed.weights_dir" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (refusal(HfHubHTTPError, 503), BadInput, "did not give its weights"),
        (LocalEntryNotFoundError("cannot find\nthe files"), BadInput, r"\(cannot find the files\)"),
        (refusal(RemoteEntryNotFoundError, 404), BadInput, "holds none of model.safetensors, pytorch_model"),
        (OSError(28, "No space left on device"), RunFailed, "broke off.*No space left.*run again to go on"),
    ],
)
def test_other_failures_are_one_line(monkeypatch, error, expected, message):
    hub_that(monkeypatch, raising(error))
    with pytest.raises(expected, match=message) as told:
        find_weights(VIRCHOW, weights=None, weights_dir=None)
    assert "\n" not in str(told.value)
    assert "embed.weights" in str(told.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE forbids fetching them"),
        (ConnectionError("Name or service\nnot known"), r"cannot be reached \(Name or service not known\)"),
    ],
)
def test_no_network_is_told_at_once(monkeypatch, error, message):
    """Without a sign of life no download is tried, which would repeat itself for a minute."""

    def head(*_, **__):
        raise error

    monkeypatch.setattr(weight_sources, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(weight_sources, "hf_hub_download", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(BadInput, match=message):
        find_weights(VIRCHOW, weights=None, weights_dir=None)
    with pytest.raises(BadInput, match=message):
        timm_weights.check_timm_weights("resnet50.a1_in1k", pretrained=True)
    with pytest.raises(BadInput, match=message):
        timm_weights.check_timm_weights("hf-hub:owner/model", pretrained=False)
    timm_weights.check_timm_weights("resnet50.a1_in1k", pretrained=False)


def test_what_timm_holds_in_the_cache_is_not_asked_for(empty_cache, monkeypatch):
    row = VIRCHOW._replace(hub="timm/resnet50.a1_in1k")
    put_in_cache(empty_cache, row, "model.safetensors")
    monkeypatch.setattr(weight_sources, "get_session", lambda: pytest.fail("asked the hub"))
    timm_weights.check_timm_weights("resnet50.a1_in1k", pretrained=True)


def test_gated_names_of_the_hub_say_what_to_do():
    error = refusal(GatedRepoError, 403)
    told = str(timm_weights.no_weights("hf-hub:owner/model", error))
    assert "accept the license at https://huggingface.co/owner/model" in told
    assert "embed.weights" in str(timm_weights.no_weights("resnet18", ValueError("no such\ntag")))


def test_a_long_answer_of_the_hub_is_cut(monkeypatch):
    hub_that(monkeypatch, raising(LocalEntryNotFoundError("a" * 149 + "bc" + "d" * 5000)))
    with pytest.raises(BadInput) as told:
        find_weights(VIRCHOW, weights=None, weights_dir=None)
    assert "ab)" in str(told.value)


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_file_is_hashed_anew(tmp_path, same_time):
    """By its size too: a copy may keep the time of what it replaces."""
    path = put(tmp_path / "w.bin", b"one")
    first = weights_sha256(path)
    assert first == file_hash(path)
    before = path.stat()
    put(path, b"three")
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights_sha256(path) == file_hash(path) != first
