"""Which pages of a TIFF are the slide's levels, and which are its label, macro and thumbnail."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tifffile import TiffFile, TiffPage

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.ome_xml import OmeImage, parse_ome
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.samples import RGB, RGBA
from wsi_kd.slides.tiff_pages import StoredPage, store_page

MIN_STEP = 1.2
"""A page that is less than this much smaller than the next finer level is no level of its own."""
ROUNDING_PX = 2.0
"""Levels are rounded up, down or to whole tiles' sixteenths; what differs by more has another shape."""
GRAY = 1
MAX_NAMED = 6


class TiffLevel(NamedTuple):
    """One level: a page, or one page for each of red, green and blue."""

    pages: tuple[StoredPage, ...]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height in pixels of this level."""
        return self.pages[0].grid.width_px, self.pages[0].grid.height_px


class TiffLayout(NamedTuple):
    """The levels, finest first, the other images by name, and what OME-XML tells of the slide's image."""

    levels: tuple[TiffLevel, ...]
    associated: dict[str, tuple[int, int]]
    ome: OmeImage | None


class _Image(NamedTuple):
    """Pages of one size that together are one picture."""

    name: str
    pages: tuple[TiffPage, ...]
    ome: OmeImage | None

    @property
    def size_px(self) -> tuple[int, int]:
        return int(self.pages[0].imagewidth), int(self.pages[0].imagelength)


def read_layout(tiff: TiffFile) -> TiffLayout:
    """Sort the pages of an open file: SubIFDs and further pages of the same shape are levels.

    The largest image is the slide. Further images, and pages that are marked as levels, are levels where
    their shape is the same and each is smaller than the one before; all other images are associated ones.

    Raises:
        SlideProblem: unreadable, for stacks and for pages that are not supported; empty, for channels that
            are no brightfield colors.
    """
    images = _ome_images(tiff) if tiff.is_ome else _plain_images(tiff)
    if not images:
        raise unreadable("a TIFF without images; export the slide again")
    slide = max(images, key=lambda image: image.size_px[0] * image.size_px[1])
    _check_channels(slide)
    _check_stack(slide, images)
    others = [image for image in images if image is not slide]
    further = [*others, *_levels_without_a_name(tiff, images)]
    candidates = [*_sub_images(slide), *(image.pages for image in further if _same_kind(image, slide))]
    levels = [slide.pages]
    for pages in sorted(candidates, key=lambda pages: -int(pages[0].imagewidth)):
        if _is_level(pages[0], base=slide.pages[0], finer=levels[-1][0]):
            levels.append(pages)
    used = {id(pages[0]) for pages in levels}
    associated = {image.name: image.size_px for image in others if id(image.pages[0]) not in used}
    bits = slide.ome.significant_bits if slide.ome else None
    stored = tuple(
        TiffLevel(tuple(store_page(page, significant_bits=bits) for page in pages)) for pages in levels
    )
    return TiffLayout(stored, associated, slide.ome)


def _ome_images(tiff: TiffFile) -> list[_Image]:
    described = parse_ome(tiff.ome_metadata or "", pages=len(tiff.pages))
    return [
        _Image(ome.name or f"image {number}", tuple(tiff.pages[page].aspage() for page in ome.planes), ome)
        for number, ome in enumerate(described)
    ]


def _levels_without_a_name(tiff: TiffFile, images: Sequence[_Image]) -> Iterator[_Image]:
    """Yield pages marked as levels that OME-XML does not name: vips copies the XML into what it writes."""
    named = {page.index for image in images for page in image.pages}
    for number in range(len(tiff.pages)):
        if number not in named and (page := tiff.pages[number].aspage()).is_reduced:
            yield _Image("", (page,), None)


def pages_of(tiff: TiffFile) -> list[TiffPage]:
    """Return the pages of the file's chain of directories, each once.

    The chain is walked to its end first: only then does tifffile notice one that leads back into itself.
    """
    return [tiff.pages[number].aspage() for number in range(len(tiff.pages))]


def _plain_images(tiff: TiffFile) -> list[_Image]:
    return [_Image(f"page {number}", (page,), None) for number, page in enumerate(pages_of(tiff))]


def _sub_images(image: _Image) -> list[tuple[TiffPage, ...]]:
    """Return the SubIFDs of an image's pages, level by level."""
    subs = [list(page.pages or ()) for page in image.pages]
    return [tuple(level) for level in zip(*subs, strict=False)]


def _same_kind(image: _Image, slide: _Image) -> bool:
    first, base = image.pages[0], slide.pages[0]
    return len(image.pages) == len(slide.pages) and first.samplesperpixel == base.samplesperpixel


def _is_level(page: TiffPage, *, base: TiffPage, finer: TiffPage) -> bool:
    if finer.imagewidth < MIN_STEP * page.imagewidth:
        return False
    downsample = base.imagewidth / page.imagewidth
    return bool(abs(page.imagelength - base.imagelength / downsample) <= ROUNDING_PX)


def _check_channels(image: _Image) -> None:
    """Brightfield has one sample a pixel, or three colors, perhaps with opacity."""
    samples = sum(int(page.samplesperpixel) for page in image.pages)
    is_dyed = image.ome is not None and image.ome.is_fluorescence and image.pages[0].samplesperpixel == GRAY
    if not is_dyed and (samples in {GRAY, RGB} or (samples == RGBA and len(image.pages) == 1)):
        return
    names = image.ome.channels if image.ome else ()
    told = f" ({', '.join(names[:MAX_NAMED])}{', ...' if len(names) > MAX_NAMED else ''})" if names else ""
    raise SlideProblem(
        SlideStatus.EMPTY,
        f"{samples} channels{told}: fluorescence or multiplexed, no brightfield; export it as 8-bit RGB",
    )


def _check_stack(slide: _Image, images: Sequence[_Image]) -> None:
    focal_planes, time_points = (slide.ome.focal_planes, slide.ome.time_points) if slide.ome else (1, 1)
    if focal_planes > 1 or time_points > 1:
        raise unreadable(f"{focal_planes} focal planes, {time_points} time points; export one of them")
    alike = [image for image in images if image.size_px == slide.size_px and _same_kind(image, slide)]
    if len(alike) == 1:
        return
    if slide.pages[0].samplesperpixel == GRAY:
        reason = f"{len(alike)} gray pages of one size: channels of fluorescence or a stack, no brightfield"
        raise SlideProblem(SlideStatus.EMPTY, f"{reason}; export it as 8-bit RGB")
    raise unreadable(f"{len(alike)} pages of one size: a stack; export one of them")
