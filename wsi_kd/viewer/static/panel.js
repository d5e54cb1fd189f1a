"use strict";
// Beside the slide: the color bar that names the mapping, the values of one tile, the highest tiles.

const HIGHEST = 8;

function drawRamp(colormap) {
  const context = byId("ramp").getContext("2d");
  const image = context.createImageData(BINS, 1);
  new Uint32Array(image.data.buffer).set(colorTable(colormap));
  context.putImageData(image, 0, 0);
}

function renderColorBar(mapping, threshold) {
  const { name, vmin, vmax } = mapping;
  byId("low").textContent = shortNumber(vmin);
  byId("middle").textContent = shortNumber((vmin + vmax) / 2);
  byId("high").textContent = shortNumber(vmax);
  byId("bar-name").textContent = name;
  byId("meaning").textContent = mapping.meaning ?? "";
  byId("ramp").setAttribute("aria-label", `Color bar of ${name} from ${shortNumber(vmin)} to ${shortNumber(vmax)}`);
  byId("hidden-part").style.width = `${(100 * (threshold - vmin)) / (vmax - vmin)}%`;
}

function tileLabelText(label) {
  return { 0: "outside annotations", 1: "annotated" }[label] ?? "unknown";
}

// Where a tile lies, counted from the corner of the scanned area.
function placeText(scores, tile, mpp) {
  const [x, y] = [scores.x[tile], scores.y[tile]];
  const pixels = `x ${grouped(x)}, y ${grouped(y)} px`;
  return mpp ? `x ${grouped(x * mpp)}, y ${grouped(y * mpp)} µm` : pixels;
}

function tileFacts(scores, tile, mpp) {
  const rows = scores.mappings.map((mapping) => [mapping.name, numberElement(mapping.values[tile]), mapping.key]);
  if (scores.tile_label) rows.push(["tile label", tileLabelText(scores.tile_label[tile]), "tile_label"]);
  rows.push(["corner", placeText(scores, tile, mpp), "place"], ["edge", mpp ? lengthText(scores.edge * mpp) : `${shortNumber(scores.edge)} px`, "edge"]);
  return rows;
}

function renderTile(scores, tile, mpp) {
  const rows = tileFacts(scores, tile, mpp).map(([name, value, key]) => element("div", {}, element("dt", {}, name), element("dd", { "data-key": key }, value)));
  byId("tile").replaceChildren(element("dl", { "data-tile": tile }, ...rows));
}

function renderNoTile() {
  byId("tile").replaceChildren(element("p", { class: "soft" }, "Move the pointer over a tile, or press ", element("kbd", {}, "i"), " for the one in the middle."));
}

function tileSentence(scores, tile, mpp) {
  return tileFacts(scores, tile, mpp).map(([name, value]) => `${name} ${value.textContent ?? value}`).join(", ");
}

// Buttons that lead to the highest tiles of a mapping.
function renderHighest(tiles, { scores, mapping, mpp, onChoose }) {
  byId("highest-section").hidden = !tiles.length;
  byId("highest").replaceChildren(...tiles.map((tile) => {
    const button = element("button", { type: "button", "data-tile": tile }, numberElement(mapping.values[tile]), element("span", { class: "soft" }, placeText(scores, tile, mpp)));
    button.addEventListener("click", () => onChoose(tile));
    return element("li", {}, button);
  }));
}

// All values of a tile beside the pointer, those of the drawn mapping in bold; `tile` null: none.
function renderTip(tile, { scores, mapping, event } = {}) {
  const tip = byId("tip");
  tip.hidden = tile === null;
  if (tip.hidden) return;
  const lines = scores.mappings.map((one) => element("div", { class: one === mapping ? "chosen" : null }, element("span", {}, one.name), element("span", {}, shortNumber(one.values[tile]))));
  tip.replaceChildren(...lines);
  const box = byId("stage").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  tip.style.left = `${x + 14 + tip.offsetWidth > box.width ? x - 10 - tip.offsetWidth : x + 14}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > box.height ? y - 10 - tip.offsetHeight : y + 18}px`;
}

function renderAssociated(slide, urlOf) {
  const names = slide.associated ?? [];
  byId("associated").hidden = !names.length;
  byId("associated-images").replaceChildren(...names.map((name) => element("figure", {}, element("img", { src: urlOf(name), alt: `${name} image`, loading: "lazy" }), element("figcaption", {}, name))));
}
