"use strict";
// The slide: OpenSeadragon's tiles, and above them two canvases drawn in the same frame: scores, then outlines.

const LONGEST_BAR_PX = 150;

// `full_level` is the level of level-0 pixels; an export may end below it.
function tileSource(slide, tileUrl) {
  const source = new OpenSeadragon.TileSource({
    width: slide.width, height: slide.height, tileSize: slide.tile_size, tileOverlap: slide.overlap,
    minLevel: slide.min_level, maxLevel: slide.max_level,
  });
  source.getTileUrl = tileUrl;
  source.getLevelScale = (level) => 2 ** (level - slide.full_level);
  return source;
}

// OpenSeadragon writes a style element into the page unless it finds its mark; the page's policy allows none, and
// viewer.css needs none. An element of no namespace bears the mark and styles nothing.
function forgoStyleElement() {
  const mark = document.createElementNS(null, "style");
  mark.setAttribute("data-openseadragon-mobile-css", "none");
  document.head.append(mark);
}

class Stage {
  // `onMove`: the view changed; `onPoint(point, event)`: the pointer is there, level-0 pixels, or null when it left.
  constructor({ onMove, onPoint, onUnreadable }) {
    this.onMove = onMove;
    this.slide = null;
    this.scores = null;
    this.annotations = [];
    this.marked = null;
    this.shown = { overlay: true, annotations: true };
    this.frameMs = 0;
    this.drawn = 0;
    forgoStyleElement();
    this.viewer = OpenSeadragon({
      element: byId("slide"), drawer: "canvas", keyboardNavEnabled: false,
      showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_RIGHT", navigatorAutoFade: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, gestureSettingsTouch: { pinchRotate: false },
      maxZoomPixelRatio: 8, visibilityRatio: 0.2, zoomPerScroll: 1.3, blendTime: 0,
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
    });
    this.overlay = this.#layer("scores");
    this.outlines = this.#layer("outlines");
    this.viewer.addHandler("update-viewport", () => this.draw());
    this.viewer.addHandler("after-resize", () => this.viewer.forceRedraw());
    this.viewer.addHandler("tile-load-failed", () => onUnreadable());
    this.viewer.canvas.setAttribute("aria-label", "Slide; arrow keys move it, plus and minus zoom");
    this.viewer.canvas.setAttribute("role", "application");
    this.viewer.canvas.addEventListener("pointermove", (event) => onPoint(this.pointAt(event), event));
    this.viewer.canvas.addEventListener("pointerleave", () => onPoint(null, null));
  }

  #layer(name) {
    const canvas = element("canvas", { class: `layer ${name}`, "aria-hidden": "true" });
    this.viewer.canvas.append(canvas);
    return canvas;
  }

  // Show a slide; resolves when its first view stands.
  open(slide, tileUrl) {
    this.close();
    this.slide = slide;
    return new Promise((resolve, reject) => {
      this.viewer.addOnceHandler("open", () => { this.#tellOpen(); this.#grayTissue(); resolve(); });
      this.viewer.addOnceHandler("open-failed", (event) => reject(new Error(event.message)));
      this.viewer.open(tileSource(slide, tileUrl));
    });
  }

  close() {
    this.slide = this.scores = this.marked = null;
    this.annotations = [];
    this.viewer.close();
    this.#tellOpen();
    this.draw();
  }

  #tellOpen() { byId("stage").dataset.open = this.isOpen; }

  get isOpen() { return this.slide !== null && this.viewer.isOpen(); }

  setAnnotations(shapes) {
    this.annotations = shapes;
    this.draw();
  }

  showAnnotations(on) {
    this.shown.annotations = on;
    this.draw();
  }

  // Screen (CSS) pixels a level-0 pixel, and the level-0 pixel in the middle.
  get view() {
    const viewport = this.viewer.viewport;
    const center = viewport.getCenter(false);
    const width = this.slide.width;
    return { x: center.x * width, y: center.y * width, zoom: (viewport.getZoom(false) * viewport.getContainerSize().x) / width };
  }

  look({ x, y, zoom }) {
    const viewport = this.viewer.viewport;
    const width = this.slide.width;
    viewport.zoomTo((zoom * width) / viewport.getContainerSize().x, null, true);
    viewport.panTo(new OpenSeadragon.Point(x / width, y / width), true);
    this.viewer.forceRedraw();
  }

  moveTo(x, y, zoom) {
    const viewport = this.viewer.viewport;
    const width = this.slide.width;
    viewport.panTo(new OpenSeadragon.Point(x / width, y / width));
    if (zoom) viewport.zoomTo((zoom * width) / viewport.getContainerSize().x);
  }

  zoomBy(factor) { this.viewer.viewport.zoomBy(factor).applyConstraints(); }
  panBy(x, y) { this.viewer.viewport.panBy(this.viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x, y))).applyConstraints(); }
  home() { this.viewer.viewport.goHome(); }

  pointAt(event) {
    if (!this.isOpen) return null;
    const box = this.viewer.canvas.getBoundingClientRect();
    const point = this.viewer.viewport.pointFromPixel(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top), true);
    return { x: point.x * this.slide.width, y: point.y * this.slide.width };
  }

  setGray(on) {
    this.gray = on;
    this.#grayTissue();
  }

  #grayTissue() {
    const canvas = this.viewer.drawer?.canvas;
    if (canvas) canvas.style.filter = this.gray ? "grayscale(1)" : "";
  }

  // Draw scores and outlines where the slide now stands; called in the frame that draws the slide.
  draw() {
    const started = performance.now();
    const ratio = window.devicePixelRatio || 1;
    const size = this.viewer.viewport?.getContainerSize();
    if (!size) return;
    const [width, height] = [Math.max(1, Math.round(size.x * ratio)), Math.max(1, Math.round(size.y * ratio))];
    for (const canvas of [this.overlay, this.outlines]) if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const frame = { width, height, ratio, view: this.#canvasView(width) };
    this.#drawScores(frame);
    this.#drawOutlines(frame);
    this.frameMs = performance.now() - started;
    if (this.isOpen) this.#drawScaleBar(frame);
    this.onMove();
  }

  #canvasView(width) {
    if (!this.isOpen) return null;
    const bounds = this.viewer.viewport.getBoundsNoRotate(true);
    return { left: bounds.x * this.slide.width, top: bounds.y * this.slide.width, scale: width / (bounds.width * this.slide.width) };
  }

  #drawScores({ width, height, view }) {
    const context = this.overlay.getContext("2d");
    const visible = view && this.scores && this.shown.overlay;
    this.overlay.hidden = !visible;
    this.drawn = 0;
    if (!visible) return;
    if (this.image?.width !== width || this.image?.height !== height) this.image = context.createImageData(width, height);
    const pixels = new Uint32Array(this.image.data.buffer);
    this.drawn = paintTiles(pixels, { width, height }, { ...this.scores, view });
    context.putImageData(this.image, 0, 0);
  }

  #drawOutlines({ width, height, ratio, view }) {
    const context = this.outlines.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!view) return;
    if (this.shown.annotations) strokeShapes(context, this.annotations, { view, ratio });
    if (this.marked) strokeShapes(context, [squareShape(...this.marked)], { view, ratio });
  }

  // A round length of at most LONGEST_BAR_PX; without resolution it counts level-0 pixels.
  #drawScaleBar({ view, ratio }) {
    const unit = this.slide.mpp || 1;
    const perPixel = (unit * ratio) / view.scale;
    const most = LONGEST_BAR_PX * perPixel;
    const decade = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((step) => step * decade).find((step) => step <= most) ?? decade;
    byId("scale-bar").style.width = `${length / perPixel}px`;
    byId("scale-text").textContent = this.slide.mpp ? lengthText(length) : `${grouped(length)} px (no resolution known)`;
    byId("magnification").textContent = this.slide.mpp ? `${Number(perPixel.toPrecision(3))} µm/px` : "";
  }
}
