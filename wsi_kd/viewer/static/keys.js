"use strict";
// Keys: the table that the help panel shows is the one that is obeyed.

const PAN_PX = 120;

const KEYS = [
  { keys: ["j", "PageDown"], told: "next slide of the list", act: (viewer) => viewer.step(1) },
  { keys: ["k", "PageUp"], told: "previous slide of the list", act: (viewer) => viewer.step(-1) },
  { keys: ["/"], told: "find a slide", act: () => byId("find").focus() },
  { keys: ["o"], told: "show or hide the scores", act: () => byId("show-overlay").click() },
  { keys: ["t"], told: "teacher or student", act: (viewer) => viewer.overlay.switchRole() },
  { keys: ["m"], told: "next mapping", act: (viewer) => viewer.overlay.stepMapping(1) },
  { keys: ["M"], told: "previous mapping", act: (viewer) => viewer.overlay.stepMapping(-1) },
  { keys: ["]"], told: "more opaque", act: () => nudge("opacity", 5) },
  { keys: ["["], told: "less opaque", act: () => nudge("opacity", -5) },
  { keys: ["."], told: "hide more tiles", act: () => nudge("threshold", 25) },
  { keys: [","], told: "hide fewer tiles", act: () => nudge("threshold", -25) },
  { keys: ["a"], told: "show or hide annotations", act: () => byId("show-annotations").click() },
  { keys: ["g"], told: "slide in gray, so that every color is a score", act: () => byId("gray").click() },
  { keys: ["x"], told: "go to the next highest tile", act: (viewer) => viewer.overlay.nextHighest() },
  { keys: ["i"], told: "tell the values of the tile in the middle", act: (viewer) => viewer.overlay.tellMiddle() },
  { keys: ["+", "="], told: "zoom in", act: (viewer) => viewer.stage.zoomBy(1.5) },
  { keys: ["-", "_"], told: "zoom out", act: (viewer) => viewer.stage.zoomBy(1 / 1.5) },
  { keys: ["0", "h"], told: "whole slide", act: (viewer) => viewer.stage.home() },
  { keys: ["ArrowLeft"], told: "move left", act: (viewer) => viewer.stage.panBy(-PAN_PX, 0) },
  { keys: ["ArrowRight"], told: "move right", act: (viewer) => viewer.stage.panBy(PAN_PX, 0) },
  { keys: ["ArrowUp"], told: "move up", act: (viewer) => viewer.stage.panBy(0, -PAN_PX) },
  { keys: ["ArrowDown"], told: "move down", act: (viewer) => viewer.stage.panBy(0, PAN_PX) },
  { keys: ["c"], told: "copy a link to this view", act: (viewer) => viewer.copyLink() },
  { keys: ["d"], told: "light or dark page", act: () => byId("theme").click() },
  { keys: ["?"], told: "this help", act: () => byId("help").showModal() },
];

function nudge(id, step) {
  const slider = byId(id);
  slider.valueAsNumber += step;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}

// Keys belong to the field that is being filled in; arrows also to sliders, lists and radio buttons.
function isTaken(event) {
  const target = event.target;
  if (target.matches("input[type=search], input[type=text]")) return true;
  return event.key.length > 1 && target.matches("input[type=range], input[type=radio], select, nav *");
}

function listenToKeys(viewer) {
  byId("keys").append(...KEYS.flatMap(({ keys, told }) => [element("dt", {}, ...keys.map((key) => element("kbd", {}, key))), element("dd", {}, told)]));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target === byId("find")) byId("find").blur();
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event) || document.querySelector("dialog[open]")) return;
    if (!byId("keys-on").checked && event.key.length === 1) return;
    const found = KEYS.find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act(viewer);
  });
}
