"use strict";
// Tile scores as pixels. Written straight into an image: a frame costs the pixels it covers, not the tiles' number.

const BINS = 256;
const LONG_RUN_PX = 16; // from here on the call of fill() pays off

// One 32-bit pixel a color (little-endian RGBA), opaque: the canvas as a whole carries the opacity.
function colorTable(colormap) {
  return Uint32Array.from(colormap, (color) => {
    const rgb = parseInt(color.slice(1), 16);
    return (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
  });
}

// A mapping's values, the color of each tile, and the tiles in the order of drawing: low first, so that high scores
// lie on top. Positions are kept in that order, since a frame walks along all of them.
function prepareTiles(tiles, mapping) {
  const values = Float64Array.from(mapping.values, (value) => (isNumber(value) ? value : NaN));
  const bins = colorBins(values, mapping);
  const order = orderByBin(bins);
  const inOrder = (numbers) => Float64Array.from(order, (tile) => numbers[tile]);
  return { values, bins, order, x: inOrder(tiles.x), y: inOrder(tiles.y), edge: tiles.edge };
}

// The color of each value, 0 to 255; -1 where there is none.
function colorBins(values, { vmin, vmax }) {
  return Int16Array.from(values, (value) => (Number.isNaN(value) ? -1 : Math.min(BINS - 1, Math.max(0, Math.floor(((value - vmin) / (vmax - vmin)) * BINS)))));
}

// Counting sort; tiles without a color are left out.
function orderByBin(bins) {
  const next = new Uint32Array(BINS + 1);
  for (const bin of bins) if (bin >= 0) next[bin + 1]++;
  for (let bin = 0; bin < BINS; bin++) next[bin + 1] += next[bin];
  const order = new Uint32Array(next[BINS]);
  bins.forEach((bin, tile) => { if (bin >= 0) order[next[bin]++] = tile; });
  return order;
}

// Fill `pixels` (Uint32Array, height x width) with the tiles in view; returns how many lie in it.
// `view`: left and top in level-0 pixels, scale in pixels a level-0 pixel. Edges are rounded alike, so that
// neighbors share theirs; a tile has one pixel at least.
function paintTiles(pixels, { width, height }, { prepared, table, threshold, view }) {
  const { values, bins, order, x, y, edge } = prepared;
  const { left: west, top: north, scale } = view;
  let drawn = 0;
  pixels.fill(0);
  for (let place = 0; place < order.length; place++) {
    const tile = order[place];
    const left = Math.round((x[place] - west) * scale);
    const top = Math.round((y[place] - north) * scale);
    const right = Math.max(left + 1, Math.round((x[place] + edge - west) * scale));
    const bottom = Math.max(top + 1, Math.round((y[place] + edge - north) * scale));
    if (right <= 0 || left >= width || bottom <= 0 || top >= height || values[tile] < threshold) continue;
    fillSquare(pixels, width, { color: table[bins[tile]], left: Math.max(0, left), right: Math.min(width, right), top: Math.max(0, top), bottom: Math.min(height, bottom) });
    drawn++;
  }
  return drawn;
}

function fillSquare(pixels, width, { color, left, right, top, bottom }) {
  for (let row = top; row < bottom; row++) {
    const [from, to] = [row * width + left, row * width + right];
    if (to - from > LONG_RUN_PX) pixels.fill(color, from, to);
    else for (let pixel = from; pixel < to; pixel++) pixels[pixel] = color;
  }
}

// The tile at a point, of overlapping ones that which is drawn on top; -1: none. Tiles without a score come last.
function tileAt(tiles, prepared, x, y) {
  let found = -1;
  for (let tile = 0; tile < tiles.x.length; tile++) {
    if (x < tiles.x[tile] || x >= tiles.x[tile] + tiles.edge || y < tiles.y[tile] || y >= tiles.y[tile] + tiles.edge) continue;
    if (found < 0 || prepared.bins[tile] >= prepared.bins[found]) found = tile;
  }
  return found;
}

// The tiles of the highest values, highest first.
function highestTiles(prepared, count) {
  const { values, order, bins } = prepared;
  if (!order.length) return [];
  const enough = bins[order[Math.max(0, order.length - count)]];
  const candidates = Array.from(order).filter((tile) => bins[tile] >= enough);
  return candidates.sort((a, b) => values[b] - values[a] || a - b).slice(0, count);
}
