"use strict";
// Where the data come from: a server's API, or data.js of a static export. Both answer alike.

async function fetchJson(url) {
  const response = await fetch(url, { credentials: "same-origin" });
  if (response.ok) return response.json();
  const told = (await response.text()).trim();
  throw new Error(told || `${response.status} ${response.statusText}: ${url}`);
}

class HttpSource {
  run() { return fetchJson("api/run"); }
  slides() { return fetchJson("api/slides"); }
  slide(index) { return fetchJson(`api/slides/${index}`); }
  scores(index, model) { return fetchJson(`api/slides/${index}/scores?model=${encodeURIComponent(model)}`); }
  annotations(index) { return fetchJson(`api/slides/${index}/annotations`); }
  tileUrl(index, level, column, row) { return `dzi/${index}/${level}/${column}_${row}.jpg`; }
  associatedUrl(index, name) { return `api/slides/${index}/associated/${encodeURIComponent(name)}.jpg`; }
}

class ExportSource {
  constructor(data) { this.data = data; }
  async run() { return this.data.run; }
  async slides() { return this.data.slides; }
  async slide() { return this.data.slide; }
  async scores(index, model) {
    if (!Object.hasOwn(this.data.scores, model)) throw new Error("this export holds no tile scores of this model");
    return this.data.scores[model];
  }
  async annotations() { return this.data.annotations; }
  tileUrl(index, level, column, row) { return `tiles/${level}/${column}_${row}.jpg`; }
  associatedUrl(index, name) { return `associated/${encodeURIComponent(name)}.jpg`; }
}

// A page opened from a file may not fetch: the export's data come as a script.
function openSource() {
  if (document.documentElement.dataset.source !== "export") return Promise.resolve(new HttpSource());
  return new Promise((resolve, reject) => {
    const script = element("script", { src: "data.js" });
    script.addEventListener("load", () => resolve(new ExportSource(window.WSI_KD_EXPORT)));
    script.addEventListener("error", () => reject(new Error("data.js is missing beside this page; export the slide again")));
    document.head.append(script);
  });
}
