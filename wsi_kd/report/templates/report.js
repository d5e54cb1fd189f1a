"use strict";
// Headings become buttons that sort their table, long tables can be searched; without script they stand as they are.
const collator = new Intl.Collator("en", { numeric: true });
const LONG = 24; // rows from which a table can be searched
const PRINTED = 200; // rows of a folded table that is printed

function sorted(rows, column, down) {
  const keyed = rows.map((row) => {
    const cell = row.cells[column];
    return { row, number: parseFloat(cell.dataset.number), text: cell.textContent };
  });
  keyed.sort((a, b) => {
    if (isNaN(a.number) !== isNaN(b.number)) return isNaN(a.number) ? 1 : -1; // what is not known comes last
    const order = isNaN(a.number) ? collator.compare(a.text, b.text) : a.number - b.number;
    return down ? -order : order;
  });
  return keyed.map((item) => item.row);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      body.remove(); // rows are moved where nothing has to be laid out again
      body.append(...sorted([...body.rows], column, down));
      table.append(body);
    });
  });
}

function makeSearchable(table) {
  const [label, input, count] = ["label", "input", "output"].map((tag) => document.createElement(tag));
  input.type = "search";
  label.className = "search";
  label.append("Find rows: ", input, " ", count);
  table.parentElement.before(label);
  const rows = [...table.tBodies[0].rows];
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${rows.length}` : "";
  });
}

for (const table of document.querySelectorAll("table")) {
  makeSortable(table);
  if (table.tBodies[0].rows.length > LONG) makeSearchable(table);
}

// A picture grows to its own size and back.
for (const image of document.querySelectorAll(".card img")) {
  const toggle = () => image.setAttribute("aria-pressed", image.parentElement.classList.toggle("large"));
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", toggle);
  image.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
}

// A printed page cannot be unfolded; what is too long for paper stays in its file beside the page.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")].filter((part) => part.querySelectorAll("tbody tr").length <= PRINTED);
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
