"use strict";
// The list of slides: search, filters, order. What is told of a slide is what models of one recipe and seed say of it,
// that of the fold that tested it: the list stays as it is while one goes from slide to slide.

const DISTANCE = { name: "distance to the threshold", low_is_uncertain: true, limit: 0.1 };
const NOT_RUN = "not run"; // no step has come to the slide yet
const collator = new Intl.Collator("en", { numeric: true });

// Recipe and seed of a model, whatever its fold.
const groupOf = (model) => model.split("/").slice(0, 2).join("/");

function entryOf(slide, group) {
  const entries = (slide.models ?? []).filter((entry) => groupOf(entry.model) === group);
  return entries.find((entry) => entry.part === "test") ?? entries[0] ?? null;
}

function isUncertain(entry, uncertainty) {
  if (!isNumber(entry?.uncertain)) return false;
  return uncertainty.low_is_uncertain ? entry.uncertain <= uncertainty.limit : entry.uncertain >= uncertainty.limit;
}

const FILTERS = {
  all: ["All", () => true],
  wrong: ["Wrong", (slide, entry) => entry?.right === false],
  uncertain: ["Uncertain", (slide, entry, uncertainty) => isUncertain(entry, uncertainty)],
  failed: ["Failed", (slide) => !["ok", NOT_RUN].includes(slide.status)],
  ood: ["Out of distribution", (slide, entry) => entry?.out_of_distribution === true],
};

const highest = (value) => (Array.isArray(value) ? Math.max(...value.slice(1)) : value);
const downward = (value) => (isNumber(value) ? -value : Infinity);
const ORDERS = {
  manifest: ["as in the manifest", (slide) => slide.index],
  id: ["slide id", (slide) => slide.slide_id],
  teacher: ["teacher, high first", (slide, entry) => downward(highest(entry?.teacher))],
  student: ["student, high first", (slide, entry) => downward(highest(entry?.student))],
  uncertain: ["most uncertain first", (slide, entry, { low_is_uncertain }) => (isNumber(entry?.uncertain) ? entry.uncertain * (low_is_uncertain ? 1 : -1) : Infinity)],
  label: ["label", (slide) => slide.label || "\uffff"],
  status: ["status", (slide) => slide.status],
};

class SlideList {
  constructor({ slides, uncertainty, onChoose }) {
    Object.assign(this, { slides, uncertainty, onChoose, group: null, current: null, filter: "all" });
    this.rows = new Map(slides.map((slide) => [slide.index, this.#row(slide)]));
    byId("sort").append(...Object.entries(ORDERS).map(([value, [text]]) => element("option", { value }, text)));
    byId("filters").append(...Object.entries(FILTERS).map(([value, [text]]) => element("label", {},
      element("input", { type: "radio", name: "filter", value, checked: value === "all" }), element("span", {}, text, " ", element("b", { "data-count": value })))));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("controls").addEventListener("input", () => this.render());
  }

  #row(slide) {
    const button = element("button", { type: "button", "data-index": slide.index });
    button.addEventListener("click", () => this.onChoose(slide));
    return element("li", {}, button);
  }

  // Fill the rows with what models of a recipe and seed say.
  setGroup(group) {
    if (group === this.group) return;
    this.group = group;
    for (const slide of this.slides) this.#fill(slide, entryOf(slide, group));
    for (const [name, [, keeps]] of Object.entries(FILTERS)) {
      const count = this.slides.filter((slide) => keeps(slide, entryOf(slide, group), this.uncertainty)).length;
      byId("filters").querySelector(`[data-count=${name}]`).textContent = count;
    }
    this.render();
  }

  #fill(slide, entry) {
    const chips = [];
    if (slide.status !== "ok") chips.push(chip("failed", slide.status, slide.reason));
    if (entry?.right === false) chips.push(chip("wrong", "wrong"));
    if (isUncertain(entry, this.uncertainty)) chips.push(chip("uncertain", "uncertain"));
    if (entry?.out_of_distribution) chips.push(chip("ood", "out of distribution"));
    const told = [isolated(slide.label || "no label"), ...(slide.site ? [" · ", isolated(slide.site)] : [])];
    this.rows.get(slide.index).firstChild.replaceChildren(
      element("span", { class: "id" }, slide.slide_id), element("span", { class: "chips" }, ...chips),
      element("span", { class: "facts" }, ...told), element("span", { class: "number" }, this.#scores(entry)));
  }

  #scores(entry) {
    const told = (name, value) => (isNumber(highest(value)) ? `${name} ${highest(value).toFixed(2)}` : null);
    return entry ? [told("teacher", entry.teacher), told("student", entry.student)].filter(Boolean).join(", ") : "";
  }

  // Slides shown now, in their order.
  get shown() {
    const words = byId("find").value.trim().toLowerCase();
    const filter = byId("filters").querySelector(":checked").value;
    const [keeps, key] = [FILTERS[filter][1], ORDERS[byId("sort").value][1]];
    const found = this.slides.filter((slide) => {
      const text = [slide.slide_id, slide.label, slide.site, slide.status, slide.reason].filter(Boolean).join("\n").toLowerCase();
      return text.includes(words) && keeps(slide, entryOf(slide, this.group), this.uncertainty);
    });
    const keyed = found.map((slide) => ({ slide, key: key(slide, entryOf(slide, this.group), this.uncertainty) }));
    keyed.sort((a, b) => (typeof a.key === "number" ? a.key - b.key || 0 : collator.compare(a.key, b.key)) || a.slide.index - b.slide.index);
    return keyed.map((item) => item.slide);
  }

  render() {
    const shown = this.shown;
    byId("rows").replaceChildren(...shown.map((slide) => this.rows.get(slide.index)));
    byId("shown").textContent = `${shown.length} of ${this.slides.length} slides${this.group ? ` by ${this.group}` : ""}`;
  }

  setCurrent(slide) {
    this.rows.get(this.current?.index)?.firstChild.removeAttribute("aria-current");
    this.current = slide;
    const button = this.rows.get(slide.index).firstChild;
    button.setAttribute("aria-current", "true");
    button.scrollIntoView({ block: "nearest" });
  }

  // The slide `step` places on among those shown; from a slide that is not shown, the first.
  neighbor(step) {
    const shown = this.shown;
    const place = shown.indexOf(this.current);
    return place < 0 ? shown[0] : shown[Math.min(shown.length - 1, Math.max(0, place + step))];
  }
}
