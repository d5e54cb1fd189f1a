"use strict";
// The tile scores of one model on the open slide: which mapping, how opaque, from which value on, and single tiles.

const SLIDER_STEPS = 1000;
const roleOf = (mapping) => (mapping.key.startsWith("student") ? "student" : "teacher");

class Overlay {
  constructor(stage, { table, announce, onChange }) {
    Object.assign(this, { stage, table, announce, onChange, scores: null, mapping: null, mapKey: null, mpp: null });
    this.opacity = 0.55;
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    on("mapping", "change", () => this.setMapping(byId("mapping").value));
    for (const role of ["teacher", "student"]) on(role, "click", () => this.setRole(role));
    on("show-overlay", "change", () => this.show(byId("show-overlay").checked));
    on("opacity", "input", () => this.setOpacity(byId("opacity").valueAsNumber / 100));
    on("threshold", "input", () => this.setThreshold(this.#sliderValue()));
  }

  // `why`: what to say where there are no scores. The link's members win over what was chosen before.
  load(scores, { why, mpp, link }) {
    Object.assign(this, { scores, mpp, mapping: null });
    byId("no-scores").hidden = !why;
    byId("no-scores").textContent = why;
    byId("overlay-controls").hidden = !scores;
    const mappings = scores?.mappings ?? [];
    byId("mapping").replaceChildren(...mappings.map(({ key, name }) => element("option", { value: key }, name)));
    for (const role of ["teacher", "student"]) byId(role).disabled = !mappings.some((mapping) => roleOf(mapping) === role);
    this.setOpacity(link.opacity ?? this.opacity);
    this.show(link.overlay ?? byId("show-overlay").checked);
    if (scores) this.setMapping(link.map ?? this.mapKey, link.threshold);
    else this.clear();
  }

  clear() {
    this.scores = this.mapping = this.stage.scores = this.stage.marked = null;
    renderHighest([], {});
    this.stage.draw();
  }

  show(on) {
    byId("show-overlay").checked = this.stage.shown.overlay = on;
    this.stage.draw();
    this.onChange();
  }

  setMapping(key, threshold) {
    const mappings = this.scores.mappings;
    this.mapping = mappings.find((mapping) => mapping.key === key) ?? mappings[0];
    this.mapKey = this.mapping.key;
    byId("mapping").value = this.mapKey;
    for (const role of ["teacher", "student"]) byId(role).setAttribute("aria-pressed", String(roleOf(this.mapping) === role));
    this.prepared = prepareTiles(this.scores, this.mapping);
    this.highest = highestTiles(this.prepared, HIGHEST);
    this.highestAt = -1;
    renderHighest(this.highest, { scores: this.scores, mapping: this.mapping, mpp: this.mpp, onChoose: (tile) => this.goTo(tile) });
    this.setThreshold(threshold ?? this.mapping.vmin);
  }

  stepMapping(step) {
    if (!this.mapping) return;
    const mappings = this.scores.mappings;
    this.setMapping(mappings[(mappings.indexOf(this.mapping) + step + mappings.length) % mappings.length].key);
  }

  setRole(role) { this.setMapping(this.scores.mappings.find((mapping) => roleOf(mapping) === role)?.key ?? this.mapKey); }
  switchRole() { if (this.mapping) this.setRole(roleOf(this.mapping) === "teacher" ? "student" : "teacher"); }

  setOpacity(opacity) {
    this.opacity = Math.min(1, Math.max(0, opacity));
    byId("opacity").valueAsNumber = Math.round(100 * this.opacity);
    byId("opacity-text").textContent = `${Math.round(100 * this.opacity)} %`;
    this.stage.overlay.style.opacity = this.opacity;
    this.onChange();
  }

  #sliderValue() {
    const { vmin, vmax } = this.mapping;
    return vmin + ((vmax - vmin) * byId("threshold").valueAsNumber) / SLIDER_STEPS;
  }

  // Tiles under the threshold are hidden; at the color bar's lower end none is.
  setThreshold(threshold) {
    const { vmin, vmax } = this.mapping;
    const value = Math.min(vmax, Math.max(vmin, threshold));
    this.threshold = value > vmin ? value : -Infinity;
    byId("threshold").valueAsNumber = Math.round((SLIDER_STEPS * (value - vmin)) / (vmax - vmin));
    byId("threshold-text").textContent = value > vmin ? shortNumber(value) : "none hidden";
    byId("threshold").setAttribute("aria-valuetext", byId("threshold-text").textContent);
    renderColorBar(this.mapping, value);
    this.stage.scores = { prepared: this.prepared, table: this.table, threshold: this.threshold };
    this.stage.draw();
    const shown = this.prepared.values.reduce((count, known) => count + (known >= this.threshold ? 1 : 0), 0);
    byId("drawn").textContent = `${grouped(shown)} of ${grouped(this.scores.x.length)} tiles shown`;
    this.onChange();
  }

  hover(point, event) {
    const tile = point && this.mapping ? tileAt(this.scores, this.prepared, point.x, point.y) : -1;
    this.#mark(tile);
    renderTip(tile < 0 ? null : tile, { scores: this.scores, mapping: this.mapping, event });
    if (tile >= 0) renderTile(this.scores, tile, this.mpp);
  }

  #mark(tile) {
    const marked = tile < 0 ? null : [this.scores.x[tile], this.scores.y[tile], this.scores.edge];
    if (marked?.join() === this.stage.marked?.join()) return;
    this.stage.marked = marked;
    this.stage.draw();
  }

  #tell(tile) {
    this.#mark(tile);
    if (tile < 0) return this.announce("No tile in the middle.");
    renderTile(this.scores, tile, this.mpp);
    return this.announce(tileSentence(this.scores, tile, this.mpp));
  }

  tellMiddle() {
    if (!this.mapping || !this.stage.isOpen) return this.announce("No tile scores here.");
    const { x, y } = this.stage.view;
    return this.#tell(tileAt(this.scores, this.prepared, x, y));
  }

  nextHighest() {
    if (!this.mapping || !this.highest.length) return;
    this.highestAt = (this.highestAt + 1) % this.highest.length;
    this.goTo(this.highest[this.highestAt]);
  }

  // Show a tile in the middle, about a quarter of the view wide.
  goTo(tile) {
    const edge = this.scores.edge;
    const zoom = byId("slide").clientWidth / 4 / edge;
    if (this.stage.isOpen) this.stage.moveTo(this.scores.x[tile] + edge / 2, this.scores.y[tile] + edge / 2, zoom);
    this.#tell(tile);
  }

  // What a link must hold to draw the same.
  get state() {
    const threshold = this.mapping && Number.isFinite(this.threshold) ? this.threshold : null;
    return { map: this.mapping?.key, opacity: this.opacity, threshold, overlay: this.stage.shown.overlay };
  }
}
