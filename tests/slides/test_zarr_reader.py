"""OME-Zarr of both versions, every order of axes that a writer uses, and its damages."""

import multiprocessing
import sys

import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.reader import open_slide

zarr = pytest.importorskip("zarr")

HEIGHT, WIDTH, CHUNK = 150, 200, 64


@pytest.fixture(scope="module")
def drawn():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.dstack([x, y, (x + y) % 256]).astype(np.uint8)


def write(path, drawn, *, version="0.4", axes="tczyx", levels=2, scale=0.25, unit="micrometer", **options):
    """Write an OME-Zarr; level k holds every 2**k-th pixel."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        step = 2**level
        pixels = _arranged(drawn[::step, ::step], axes)
        chunks = tuple(CHUNK if axis in "yx" else 1 for axis in axes)
        names = {} if version == "0.4" else {"dimension_names": list(axes)}
        array = group.create_array(
            str(level), shape=pixels.shape, chunks=chunks, dtype=pixels.dtype, **names, **options
        )
        array[...] = pixels
        factors = [scale * step if axis in "yx" else 1.0 for axis in axes]
        transforms = [{"type": "scale", "scale": factors}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    kinds = {"t": "time", "c": "channel"}
    told = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in told:
        if axis["name"] in "zyx" and unit:
            axis["unit"] = unit
    multiscales = [{"axes": told, "datasets": datasets, "version": version}]
    group.attrs.update(
        {"multiscales": multiscales}
        if version == "0.4"
        else {"ome": {"version": version, "multiscales": multiscales}}
    )
    return path


def _arranged(pixels, axes):
    order = [axis for axis in axes if axis in "cyx"]
    moved = pixels.transpose(["yxc".index(axis) for axis in order]) if "c" in axes else pixels[..., 0]
    for place, axis in enumerate(axes):
        if axis in "tz":
            moved = np.expand_dims(moved, place)
    return moved


def read(reader, x=0, y=0, *, width=WIDTH, height=HEIGHT, level=0):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=level, width_px=width, height_px=height)


@pytest.mark.parametrize(
    ("version", "axes"), [("0.4", "tczyx"), ("0.4", "cyx"), ("0.5", "tczyx"), ("0.5", "yxc"), ("0.5", "czyx")]
)
def test_every_version_and_order_of_axes_gives_the_pixels_drawn(tmp_path, drawn, version, axes):
    path = write(tmp_path / "slide.zarr", drawn, version=version, axes=axes)
    with open_slide(path, background="metadata") as reader:
        assert (reader.format, reader.level_dimensions) == ("zarr/ome", ((200, 150), (100, 75)))
        assert reader.level_downsamples == (1.0, 2.0)
        assert np.array_equal(read(reader), drawn)
        assert np.array_equal(read(reader, 60, 60, width=80, height=33), drawn[60:93, 60:140])
        assert np.array_equal(
            read(reader, 100, 80, width=20, height=10, level=1), drawn[::2, ::2][40:50, 50:70]
        )
        mpp = resolve_mpp(reader.properties, override=None, min_mpp=0.05, max_mpp=20.0, from_objective=True)
        assert (mpp.mpp, mpp.source) == (0.25, "zarr")


def test_gray_and_16_bits(tmp_path, drawn):
    path = write(tmp_path / "slide.zarr", drawn.astype(np.uint16) * 256 + 5, axes="yx", unit="")
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader), np.repeat(drawn[..., :1], 3, axis=2))
        assert not any(key.startswith("zarr.") for key in reader.properties)


def test_sharded_arrays_are_read(tmp_path, drawn):
    path = write(tmp_path / "slide.zarr", drawn, version="0.5", axes="cyx", shards=(1, 128, 128))
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 50, 20, width=100, height=100), drawn[20:120, 50:150])


def test_the_first_of_several_images_is_the_slide(tmp_path, drawn):
    """Bio-Formats' layout: series in folders 0, 1, ...; label and macro come after the slide."""
    root = zarr.open_group(tmp_path / "slide.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    write(tmp_path / "slide.zarr/0", drawn)
    write(tmp_path / "slide.zarr/1", drawn[:40, :30], levels=1)
    with open_slide(tmp_path / "slide.zarr", background="metadata") as reader:
        assert reader.level_dimensions[0] == (200, 150)
        assert reader.associated == {"image 1": (30, 40)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("damage", ["truncated", "zeroed"])
def test_a_damaged_chunk_is_named_and_the_next_read_works(tmp_path, drawn, version, damage):
    noise = np.random.default_rng(0).integers(0, 256, drawn.shape, dtype=np.uint8)
    path = write(tmp_path / "slide.zarr", noise, version=version, axes="cyx")
    chunk = path / "0" / ("0.1.2" if version == "0.4" else "c/0/1/2")
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2] if damage == "truncated" else bytes(len(content)))
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 0, 0, width=60, height=60), noise[:60, :60])
        with pytest.raises(SlideProblem, match="damaged at x 130, y 70"):
            read(reader, 130, 70, width=30, height=30)
        assert np.array_equal(read(reader, 0, 64, width=60, height=60), noise[64:124, :60])


def test_a_chunk_that_was_never_written_holds_the_fill_value(tmp_path, drawn):
    path = write(tmp_path / "slide.zarr", drawn, axes="cyx", fill_value=7)
    (path / "0/1.0.0").unlink()
    with open_slide(path, background="metadata") as reader:
        found = read(reader, width=CHUNK, height=CHUNK)
    assert (found[..., 1] == 7).all()
    assert np.array_equal(found[..., 0], drawn[:CHUNK, :CHUNK, 0])


@pytest.mark.parametrize(
    ("change", "told", "status"),
    [
        ({"pixels": np.zeros((40, 40, 5), np.uint8)}, "5 channels", SlideStatus.EMPTY),
        ({"pixels": np.zeros((40, 40, 3), np.float32)}, "float32", SlideStatus.UNREADABLE),
    ],
)
def test_what_is_no_brightfield_image_says_so(tmp_path, change, told, status):
    path = write(tmp_path / "slide.zarr", change["pixels"], levels=1)
    with pytest.raises(SlideProblem, match=told) as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == status


def test_folders_that_are_no_slides_say_what_to_give(tmp_path, drawn):
    zarr.open_group(tmp_path / "bare.zarr", mode="w")
    with pytest.raises(SlideProblem, match="without an OME multiscales image"):
        open_slide(tmp_path / "bare.zarr", background="metadata")
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {}
    with pytest.raises(SlideProblem, match="a plate of many images"):
        open_slide(tmp_path / "plate.zarr", background="metadata")
    path = write(tmp_path / "slide.zarr", drawn)
    (path / ".zattrs").write_text("{")
    with pytest.raises(SlideProblem, match="metadata are damaged"):
        open_slide(path, background="metadata")


def test_without_zarr_the_remedy_is_told(tmp_path, drawn, monkeypatch):
    path = write(tmp_path / "slide.zarr", drawn)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(SlideProblem, match=r'pip install "wsi-kd\[zarr\]"'):
        open_slide(path, background="metadata")


def test_the_fingerprint_of_a_folder_sees_chunks_and_metadata(tmp_path, drawn):
    path = write(tmp_path / "slide.zarr", drawn, version="0.5")
    seen = {slide_fingerprint(path)}
    chunk = next(file for file in (path / "0").rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes() + b"x")
    seen.add(slide_fingerprint(path))
    metadata = path / "zarr.json"
    metadata.write_text(metadata.read_text().replace("0.25", "0.35"))
    seen.add(slide_fingerprint(path))
    assert len(seen) == 3


def _child(reader, queue):
    queue.put(int(read(reader, 70, 70, width=4, height=4).sum()))


def test_a_forked_child_reads_on(tmp_path, drawn):
    path = write(tmp_path / "slide.zarr", drawn)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with open_slide(path, background="metadata") as reader:
        read(reader)
        child = context.Process(target=_child, args=(reader, queue))
        child.start()
        assert queue.get(timeout=120) == int(drawn[70:74, 70:74].sum())
        child.join(120)
        assert child.exitcode == 0
