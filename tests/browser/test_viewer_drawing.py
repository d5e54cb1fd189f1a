"""The viewer's own arithmetic, in the browser that runs it: pixels by hand, order, links, frame time."""

import pytest
from browser_pages import Watched

pytestmark = pytest.mark.browser

PAINT = """({tiles, values, view, threshold}) => {
  const mapping = {vmin: 0, vmax: 1, values};
  const prepared = prepareTiles(tiles, mapping);
  const table = Uint32Array.from({length: 256}, (_, bin) => bin + 1);
  const pixels = new Uint32Array(6 * 4);
  const what = {prepared, table, threshold: threshold ?? -Infinity, view};
  const drawn = paintTiles(pixels, {width: 6, height: 4}, what);
  return [drawn, [...pixels]];
}"""
HUNDRED_THOUSAND = """() => {
  const count = 100000, side = 317, edge = viewer.stage.slide.width / side;
  const x = Array.from({length: count}, (_, tile) => (tile % side) * edge);
  const y = Array.from({length: count}, (_, tile) => Math.floor(tile / side) * edge * 0.7);
  const values = x.map((_, tile) => (tile * 7919 % count) / count);
  const mapping = {key: "student_probability", name: "student probability", vmin: 0, vmax: 1, values};
  const scores = {tiles: count, edge, x, y, mappings: [mapping], tile_label: null};
  viewer.overlay.load(scores, {why: "", mpp: 0.5, link: {}});
  const frames = [];
  for (let frame = 0; frame < 25; frame++) { viewer.stage.draw(); frames.push(viewer.stage.frameMs); }
  const found = tileAt(scores, viewer.overlay.prepared, edge * 5.5, edge * 0.85);
  frames.sort((a, b) => a - b);
  return {drawn: viewer.stage.drawn, quickest: frames[0], median: frames[12], found};
}"""


@pytest.fixture(scope="module")
def page(new_context, viewer_url):
    with new_context() as context:
        yield Watched(context.new_page()).open(viewer_url, "normal")


def test_tiles_meet_without_a_gap_and_low_scores_lie_below(page) -> None:
    # Two pixels a level-0 pixel; corners at 0.3, 1.3 and 0.8 on x; the third tile's score lies between.
    tiles = {"x": [0.3, 1.3, 0.8], "y": [0, 0, 0.5], "edge": 1}
    view = {"left": 0, "top": 0, "scale": 2}
    drawn, pixels = page.evaluate(PAINT, {"tiles": tiles, "values": [1, 0, 0.5], "view": view})
    high, low, middle = 256, 1, 129
    assert drawn == 3
    assert pixels == [
        *(0, high, high, low, low, 0),
        *(0, high, high, middle, low, 0),
        *(0, 0, middle, middle, 0, 0),
        *(0, 0, 0, 0, 0, 0),
    ]


def test_hidden_bare_and_distant_tiles_are_not_drawn(page) -> None:
    tiles = {"x": [0, 1, 2, 100], "y": [0, 0, 0, 0], "edge": 1}
    view = {"left": 0, "top": 0, "scale": 1}
    values = [0.25, None, 0.75, 1]
    assert page.evaluate(PAINT, {"tiles": tiles, "values": values, "view": view})[0] == 2
    drawn, pixels = page.evaluate(PAINT, {"tiles": tiles, "values": values, "view": view, "threshold": 0.5})
    assert (drawn, pixels[:6]) == (1, [0, 0, 193, 0, 0, 0])
    far = page.evaluate(
        PAINT, {"tiles": tiles, "values": values, "view": {"left": 99.6, "top": 0, "scale": 0.01}}
    )
    assert (
        far[1][0] == 256
    )  # a tile smaller than a pixel has one all the same; at the same place the highest wins


def test_colors_are_the_table_of_the_server(page) -> None:
    made = page.evaluate("[...new Uint8Array(colorTable(['#440154', '#fde725']).buffer)]")
    assert made == [0x44, 0x01, 0x54, 255, 0xFD, 0xE7, 0x25, 255]


def test_the_highest_tiles_come_first_and_ties_by_place(page) -> None:
    found = page.evaluate(
        "(mapping) => highestTiles(prepareTiles({x: [], y: [], edge: 1}, mapping), 4)",
        {"vmin": 0, "vmax": 1, "values": [0.2, 0.9, None, 0.9, 0.901, 0.1]},
    )
    assert found == [4, 1, 3, 0]


def test_links_survive_a_round_trip(page) -> None:
    state = {"slide": "a&b=c#d %", "model": "weno/seed0/fold1", "map": "student_probability:x", "x": -12.5}
    state |= {"y": 3e5 + 0.125, "zoom": 0.001953125, "opacity": 0.35, "threshold": -4.25, "overlay": False}
    assert page.evaluate("(state) => readLink(writeLink(state))", state) == state
    assert page.evaluate("readLink('#x=NaN&zoom=&slide=s&__proto__=1')") == {"slide": "s", "overlay": True}


def test_lengths_and_numbers_as_they_are_read(page) -> None:
    assert page.evaluate("[1000, 2500, 0.25, 999].map(lengthText)") == [
        "1 mm",
        "2.5 mm",
        "0.25 \u00b5m",
        "999 \u00b5m",
    ]
    told = page.evaluate("[0.123456, 0, 1, 0.99999, 1234.5, 1e-9, null].map(shortNumber)")
    assert told == ["0.1235", "0", "1", "> 0.9999", "1235", "1e-9", "none"]


def test_a_hundred_thousand_tiles_take_a_frame(page) -> None:
    found = page.evaluate(HUNDRED_THOUSAND)
    assert found["drawn"] == 100_000  # all in view
    # Tiles 5 and 5 + 317 overlap there; 5 * 7919 = 39,595 lies below 322 * 7919 - 25 * 100,000 = 49,918.
    assert found["found"] == 322
    print(f"100,000 tiles in view: {found['median']:.1f} ms a frame (median of 25)")
    assert found["quickest"] < 100  # 5 ms on a quiet core; this one is shared, and may be slow
