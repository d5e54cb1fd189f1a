"use strict";
// What the model says of the whole slide: probabilities beside their thresholds, calls beside the label.

function renderVerdict(slide, entry, { run, uncertainty }) {
  const parts = [element("p", { class: "label" }, "Label: ", element("b", {}, isolated(slide.label || "unknown")), ...(slide.site ? [" · site ", isolated(slide.site)] : []))];
  if (slide.status !== "ok") parts.push(element("p", { class: "failure" }, `Not scored: ${slide.status}${slide.step ? ` (${slide.step})` : ""}. ${slide.reason || ""}`));
  if (entry?.out_of_distribution) parts.push(element("p", { class: "failure" }, "Out of distribution: the slide looks unlike those that the model learned from. Do not trust its answer."));
  if (entry) parts.push(...roleRows(slide, entry, run), element("p", { class: "soft" }, partText(entry)));
  else if (slide.status === "ok") parts.push(element("p", { class: "soft" }, "No model has scored this slide."));
  if (isUncertain(entry, uncertainty)) parts.push(element("p", {}, chip("uncertain", "uncertain"), ` ${uncertainty.name} `, numberElement(entry.uncertain)));
  byId("verdict").replaceChildren(...parts);
}

function partText(entry) {
  const parts = { test: "Test slide: this model did not learn from it.", val: "Validation slide: epoch and threshold were chosen on it.", train: "Training slide: this model has seen its label." };
  return parts[entry.part] ?? "";
}

function roleRows(slide, entry, run) {
  return ["teacher", "student"].filter((role) => entry[role] !== null && entry[role] !== undefined)
    .map((role) => roleRow(role, { slide, entry, run }));
}

function roleRow(role, { slide, entry, run }) {
  const call = entry[`${role}_call`];
  const right = call && run.classes.includes(slide.label) ? call === slide.label : null;
  const head = element("div", { class: "role" }, element("b", {}, role), element("span", {}, ...(call ? ["calls ", isolated(call)] : [])),
    right === null ? null : chip(right ? "right" : "wrong", right ? "right" : "wrong"));
  const values = Array.isArray(entry[role]) ? entry[role] : [entry[role]];
  const names = Array.isArray(entry[role]) ? run.classes : [positiveName(run)];
  const threshold = entry.thresholds?.[role];
  return element("div", { class: "verdict", "data-role": role }, head, ...values.map((value, place) => gauge(names[place] ?? `class ${place}`, value, threshold)));
}

function positiveName(run) {
  const named = Array.isArray(run.positive) ? run.positive.join(" or ") : run.positive;
  return named || run.classes?.slice(1).join(" or ") || "positive";
}

// A bar from 0 to 1 with a mark at the threshold.
function gauge(name, value, threshold) {
  const bar = element("div", { class: "gauge", "aria-hidden": "true" }, element("i", { class: "fill" }));
  bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, value ?? 0))}%`;
  const words = [element("span", {}, isolated(name), " "), numberElement(value)];
  if (isNumber(threshold)) {
    const mark = element("i", { class: "mark" });
    mark.style.left = `${100 * threshold}%`;
    bar.append(mark);
    words.push(element("span", { class: "soft" }, " threshold ", numberElement(threshold)));
  }
  return element("div", {}, element("div", { class: "number" }, ...words), bar);
}
