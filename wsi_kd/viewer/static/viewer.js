"use strict";
// One slide at a time: which one, by which model, and the address that leads back to it.

const LINK_MS = 250;

class Viewer {
  constructor(source, { run, slides }) {
    Object.assign(this, { source, run, slides, turn: 0, slide: null, details: null, model: null });
    // Whose like is looked for on every slide; a student tells more of single tiles than a teacher alone.
    this.preferred = slides.flatMap((slide) => slide.models ?? []).find((entry) => isNumber(highest(entry.student)))?.model ?? run.models?.[0]?.key ?? null;
    this.uncertainty = run.uncertainty ?? DISTANCE;
    this.stage = new Stage({
      onMove: () => this.noteLink(),
      onPoint: (point, event) => this.overlay.hover(point, event),
      onUnreadable: () => this.say("Parts of this slide cannot be read."),
    });
    this.overlay = new Overlay(this.stage, { table: colorTable(run.colormap), announce: (text) => this.announce(text), onChange: () => this.noteLink() });
    this.list = new SlideList({ slides, uncertainty: this.uncertainty, onChoose: (slide) => this.show(slide) });
    drawRamp(run.colormap);
    this.#listen();
  }

  #listen() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    on("previous", "click", () => this.step(-1));
    on("next", "click", () => this.step(1));
    on("copy", "click", () => this.copyLink());
    on("theme", "click", switchTheme);
    on("help-open", "click", () => byId("help").showModal());
    on("zoom-in", "click", () => this.stage.zoomBy(1.5));
    on("zoom-out", "click", () => this.stage.zoomBy(1 / 1.5));
    on("home", "click", () => this.stage.home());
    on("model", "change", () => this.prefer(byId("model").value));
    on("gray", "change", () => this.stage.setGray(byId("gray").checked));
    on("show-annotations", "change", () => this.stage.showAnnotations(byId("show-annotations").checked));
    window.addEventListener("hashchange", () => this.follow(readLink(location.hash)));
    listenToKeys(this);
  }

  // Go where a link leads; without a slide, or with an unknown one, to the first that was scored.
  follow(link) {
    const named = this.slides.find((slide) => slide.slide_id === link.slide);
    const slide = named ?? this.slides.find((one) => one.status === "ok") ?? this.slides[0];
    if (!slide) return this.say("This run holds no slides.");
    if (link.slide && !named) this.announce(`No slide ${link.slide} here; this is ${slide.slide_id}.`);
    return this.show(slide, named ? link : {});
  }

  step(direction) {
    const slide = this.list.neighbor(direction);
    if (slide && slide !== this.slide) this.show(slide);
  }

  // Answers that come after another slide was chosen are dropped.
  async show(slide, link = {}) {
    const turn = ++this.turn;
    Object.assign(this, { slide, details: null });
    this.#name(slide);
    this.stage.close();
    this.overlay.clear();
    this.say("Loading …");
    try {
      const details = await this.source.slide(slide.index);
      if (turn !== this.turn) return;
      this.details = details;
      renderAssociated(details, (name) => this.source.associatedUrl(slide.index, name));
      await this.#openSlide(link, turn);
    } catch (problem) {
      if (turn === this.turn) this.say(`This slide cannot be shown: ${problem.message}`);
    }
    if (turn !== this.turn) return;
    this.#offerModels(link.model);
    await this.choose(this.model, link);
  }

  #name(slide) {
    document.documentElement.dataset.ready = "";
    byId("slide-id").textContent = slide.slide_id;
    document.title = `${slide.slide_id} – ${this.run.title}`;
    this.list.setCurrent(slide);
    renderTip(null);
    renderNoTile();
  }

  async #openSlide(link, turn) {
    const { details, slide } = this;
    byId("annotations-row").hidden = !details.annotations;
    byId("annotation-names").textContent = "";
    if (!details.readable) return this.say(`This slide cannot be shown: ${details.why_not}`);
    await this.stage.open(details, (level, column, row) => this.source.tileUrl(slide.index, level, column, row));
    if (turn !== this.turn) return;
    this.say("");
    if (isNumber(link.zoom) && isNumber(link.x) && isNumber(link.y)) this.stage.look(link);
    if (details.annotations) this.#loadAnnotations(turn);
  }

  async #loadAnnotations(turn) {
    try {
      const shapes = annotationShapes(await this.source.annotations(this.slide.index));
      if (turn !== this.turn) return;
      this.stage.setAnnotations(shapes);
      byId("annotation-names").textContent = [...new Set(shapes.map((shape) => shape.name))].join(", ");
    } catch (problem) {
      if (turn === this.turn) byId("annotation-names").textContent = `cannot be read: ${problem.message}`;
    }
  }

  // Models that say anything of this slide: those with tile scores first.
  #offerModels(wanted) {
    const predicted = (this.slide.models ?? []).map((entry) => entry.model);
    const keys = [...new Set([...(this.details?.models ?? []), ...predicted])];
    byId("model-row").hidden = !keys.length;
    byId("model").replaceChildren(...keys.map((key) => element("option", { value: key }, key)));
    this.model = keys.includes(wanted) ? wanted : alike(this.details?.models, this.preferred) ?? alike(predicted, this.preferred);
    if (this.model === wanted) this.preferred = wanted ?? this.preferred;
  }

  prefer(model) {
    this.preferred = model;
    return this.choose(model);
  }

  // Show what one model says: of the slide, and of its tiles.
  async choose(model, link = {}) {
    const turn = this.turn;
    this.model = model;
    byId("model").value = model ?? "";
    this.list.setGroup(this.preferred === null ? null : groupOf(this.preferred));
    renderVerdict(this.slide, this.slide.models?.find((entry) => entry.model === model), this);
    const [scores, why] = await this.#fetchScores(model);
    if (turn !== this.turn || model !== this.model) return;
    this.overlay.load(scores, { why, mpp: this.details?.mpp, link });
    byId("tile-section").hidden = !scores;
    document.documentElement.dataset.ready = this.slide.slide_id;
  }

  async #fetchScores(model) {
    if (!this.details?.models?.includes(model)) return [null, model ? "No tile scores of this model for this slide." : "No tile scores for this slide."];
    try {
      return [await this.source.scores(this.slide.index, model), ""];
    } catch (problem) {
      return [null, `Tile scores cannot be shown: ${problem.message}`];
    }
  }

  get link() {
    const view = this.stage.isOpen ? this.stage.view : {};
    return writeLink({ ...view, ...this.overlay.state, slide: this.slide?.slide_id, model: this.model });
  }

  // Browsers refuse addresses that change with every frame, and a slide that still loads has no view.
  noteLink() {
    if (this.noting || !this.slide) return;
    this.noting = setTimeout(() => {
      this.noting = null;
      if (document.documentElement.dataset.ready === this.slide.slide_id) history.replaceState(null, "", this.link);
    }, LINK_MS);
  }

  async copyLink() {
    const url = new URL(this.link, location.href).href;
    history.replaceState(null, "", this.link);
    try {
      await navigator.clipboard.writeText(url);
      this.announce("Link copied.");
      flash(byId("copy"), "Copied");
    } catch {
      byId("link-text").value = url;
      byId("link-dialog").showModal();
      byId("link-text").select();
    }
  }

  say(text) {
    byId("message").textContent = text;
    byId("message").hidden = !text;
  }

  announce(text) { byId("announce").textContent = text; }
}

// Of a slide's models the one most like another: of its recipe and seed, else of its recipe, else the first.
function alike(models, model) {
  const recipe = model?.split("/")[0];
  return models?.find((key) => groupOf(key) === groupOf(model)) ?? models?.find((key) => key.split("/")[0] === recipe) ?? models?.[0] ?? null;
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  tellTheme();
}

function tellTheme() { byId("theme").textContent = isDark() ? "Light" : "Dark"; }

function flash(button, text) {
  const told = button.textContent;
  button.textContent = text;
  setTimeout(() => { button.textContent = told; }, 1500);
}

function renderHeader(run) {
  const { name, low_is_uncertain, limit } = run.uncertainty ?? DISTANCE;
  byId("title").textContent = run.title;
  tellTheme();
  byId("uncertain-meaning").textContent = `${name} ${low_is_uncertain ? "at most" : "at least"} ${limit}.`;
  byId("report").hidden = !run.report;
  if (run.report) byId("report").href = "report/index.html";
}

async function start() {
  try {
    const source = await openSource();
    const [run, slides] = await Promise.all([source.run(), source.slides()]);
    renderHeader(run);
    window.viewer = new Viewer(source, { run, slides });
    await window.viewer.follow(readLink(location.hash));
  } catch (problem) {
    byId("message").textContent = `Nothing can be shown: ${problem.message}`;
    byId("message").hidden = false;
  }
}

start();
