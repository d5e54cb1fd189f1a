"use strict";
// A view as the address's fragment. x and y: the middle in level-0 pixels; zoom: screen pixels a level-0 pixel.

const TEXTS = ["slide", "model", "map"];
const NUMBERS = ["x", "y", "zoom", "opacity", "threshold"];

function readLink(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const link = {};
  for (const name of TEXTS) if (found.has(name)) link[name] = found.get(name);
  for (const name of NUMBERS) {
    const value = parseFloat(found.get(name));
    if (Number.isFinite(value)) link[name] = value;
  }
  link.overlay = found.get("overlay") !== "0";
  return link;
}

function writeLink(state) {
  const found = new URLSearchParams();
  for (const name of TEXTS) if (state[name]) found.set(name, state[name]);
  for (const name of NUMBERS) if (isNumber(state[name])) found.set(name, String(Number(state[name].toPrecision(10))));
  if (!state.overlay) found.set("overlay", "0");
  return `#${found}`;
}
