"use strict";

// One JPEG a line, in the order of the tiles. A tile gets its picture when it comes near the window: ten
// thousand pictures at once would take the browser many seconds.
const thumbnails = document.getElementById("thumbnails").textContent.trimStart().split("\n");
const list = document.getElementById("tiles");
const controls = document.getElementById("controls");
const byId = (id) => document.getElementById(id);

const tiles = Array.from(list.children, (element, index) => ({
  element,
  index,
  order: Number(element.dataset.order),
  score: Number(element.dataset.score),
  name: element.querySelector("a").title.toLowerCase(),
}));
const tileOf = new Map(tiles.map((tile) => [tile.element, tile]));

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      const data = thumbnails[tileOf.get(target).index];
      if (data) target.querySelector("img").src = "data:image/jpeg;base64," + data;
    }
  },
  { rootMargin: "800px" },
);
for (const tile of tiles) watcher.observe(tile.element);

const collator = new Intl.Collator(undefined, { numeric: true });
const orders = {
  worst: (a, b) => a.index - b.index,
  best: (a, b) => b.index - a.index,
  name: (a, b) => collator.compare(a.name, b.name),
  given: (a, b) => a.order - b.order,
};

function update() {
  const words = byId("name").value.toLowerCase().split(/\s+/);
  const from = byId("from").value === "" ? -Infinity : Number(byId("from").value);
  const to = byId("to").value === "" ? Infinity : Number(byId("to").value);
  const fitting = tiles.filter(
    ({ score, name }) => score >= from && score <= to && words.every((word) => name.includes(word)),
  );
  // Tiles are taken out of the page, not hidden: hiding thousands takes a browser many seconds.
  list.replaceChildren(...fitting.sort(orders[byId("order").value]).map((tile) => tile.element));
  const [shown, total] = [fitting.length, tiles.length].map((count) => count.toLocaleString("en"));
  byId("count").value = shown === total ? `${total} shown` : `${shown} of ${total} shown`;
  byId("none").hidden = fitting.length > 0;
  for (const column of document.querySelectorAll("svg g")) {
    const outside = Number(column.dataset.to) <= from || Number(column.dataset.from) >= to;
    column.classList.toggle("outside", outside);
  }
}

controls.addEventListener("input", update);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("reset", () => setTimeout(update)); // once the fields are empty
document.querySelector("svg")?.addEventListener("click", (event) => {
  const column = event.target.closest("g");
  if (!column) return;
  byId("from").value = column.dataset.from;
  byId("to").value = column.dataset.to;
  update();
});

update();
controls.hidden = false;
