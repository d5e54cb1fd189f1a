"use strict";
// Filters and sorts the cards; without script they stand in the manifest's order, all of them.
const main = document.getElementById("cards");
const cards = [...main.children];
const controls = document.getElementById("controls");
const [find, key, down] = ["find", "key", "down"].map((id) => document.getElementById(id));
const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
const collator = new Intl.Collator("en", { numeric: true });
const own = { slide: (card) => card.querySelector(".id"), status: (card) => card.querySelector(".verdict") };

function filter() {
  const statuses = new Set([...controls.querySelectorAll("[name=status]:checked")].map((box) => box.value));
  const wanted = find.value.trim().toLowerCase();
  let shown = 0;
  for (const card of cards) {
    card.hidden = !statuses.has(card.dataset.status) || !words.get(card).includes(wanted);
    shown += !card.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${cards.length} slides`;
}

// Slides without a value come last, whichever way is sorted; numbers before words.
function sort() {
  if (!key.value) return main.append(...(down.checked ? [...cards].reverse() : cards));
  const found = own[key.value] ?? ((card) => card.querySelector(`[data-key="${key.value}"]`));
  const keyed = cards.map((card) => {
    const fact = found(card);
    const number = parseFloat(fact?.dataset.number);
    return { card, text: fact?.textContent, number, rank: fact ? Number(isNaN(number)) : 2 };
  });
  keyed.sort((a, b) => {
    if (a.rank !== b.rank) return a.rank - b.rank;
    if (a.rank === 2) return 0;
    const order = a.rank ? collator.compare(a.text, b.text) : a.number - b.number;
    return down.checked ? -order : order;
  });
  main.append(...keyed.map((item) => item.card));
}

controls.hidden = false;
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("input", (event) => {
  if (event.target.id === "outlines") document.body.classList.toggle("plain", !event.target.checked);
  else if (event.target === key || event.target === down) sort();
  else filter();
});
// A printed page cannot be scrolled: every thumbnail is fetched.
addEventListener("beforeprint", () => document.querySelectorAll("img").forEach((image) => { image.loading = "eager"; }));
filter();
