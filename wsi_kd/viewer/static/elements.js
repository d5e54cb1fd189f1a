"use strict";
// Elements and numbers as text. Data reach the page as text nodes only, never as markup.

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

// Text from outside within a sentence: marks of direction in it end with it.
const isolated = (text) => element("bdi", {}, text);

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// Four digits are what a reader compares; the element's value holds them all. Nothing below 1 is told as 1.
function shortNumber(value) {
  if (!isNumber(value)) return "none";
  const rounded = Number(value.toPrecision(4));
  return value < 1 && rounded === 1 ? "> 0.9999" : String(rounded);
}

function numberElement(value) {
  return isNumber(value) ? element("data", { value, title: value }, shortNumber(value)) : element("span", { class: "soft" }, "none");
}

function grouped(value) {
  return Math.round(value).toLocaleString("en-US");
}

// Lengths in um as a pathologist reads them.
function lengthText(um) {
  if (um >= 1000) return `${Number((um / 1000).toPrecision(3))} mm`;
  return `${Number(um.toPrecision(3))} µm`;
}

function chip(kind, text, title) {
  return element("span", { class: `chip ${kind}`, title }, text);
}
