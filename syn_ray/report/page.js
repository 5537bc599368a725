"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("specs"), themes = read("themes");
  const darkMode = window.matchMedia("(prefers-color-scheme: dark)");
  const muted = new Set();
  let views = [], drawing = Promise.resolve();

  // Charts: one after the other, so that the first is readable at once; all again when the theme changes.
  async function drawAll() {
    views.forEach((view) => view.finalize());
    views = [];
    const theme = darkMode.matches ? "dark" : "light";
    for (const element of document.querySelectorAll(".chart")) {
      const options = { config: themes[theme], renderer: "svg", actions: false, tooltip: { theme } };
      const spec = JSON.parse(JSON.stringify(specs[element.dataset.spec]));
      const { view } = await window.vegaEmbed(element, spec, options);
      if (muted.size) await view.signal("muted", [...muted]).runAsync();
      views.push(view);
    }
    document.documentElement.dataset.charts = "drawn";
  }
  const redraw = () => { drawing = drawing.then(drawAll); };
  darkMode.addEventListener("change", redraw);
  redraw();

  // Legends: every one of them dims a curve in all figures.
  const entries = [...document.querySelectorAll(".legend button")];
  entries.forEach((button) => button.addEventListener("click", () => {
    const curve = button.dataset.curve;
    if (!muted.delete(curve)) muted.add(curve);
    entries.forEach((entry) => entry.setAttribute("aria-pressed", String(!muted.has(entry.dataset.curve))));
    views.forEach((view) => view.signal("muted", [...muted]).runAsync());
  }));

  // Tables: sort by a heading, keep the rows that hold every word.
  const number = (text) => (text === "–" ? -Infinity : Number(text.replace(/,/g, "").replace("−", "-")));
  document.querySelectorAll("table.sortable").forEach((table) => {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent, row]);
      const numeric = keyed.every(([text]) => !Number.isNaN(number(text)));
      const compare = numeric ? (a, b) => number(a) - number(b) || 0 : (a, b) => a.localeCompare(b, "en", { numeric: true });
      keyed.sort(([a], [b]) => sign * compare(a, b));
      table.tBodies[0].append(...keyed.map(([, row]) => row));
    }));
  });
  document.querySelectorAll(".filter input").forEach((input) => input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.getElementById(input.dataset.table).tBodies[0].rows) {
      const cells = [...row.cells].map((cell) => cell.textContent.toLowerCase());
      const keep = words.every((word) => cells.some((cell) => cell.includes(word)));
      row.hidden = !keep;
      shown += keep;
    }
    input.parentElement.querySelector("output").textContent = `${shown.toLocaleString("en")} rows`;
  }));
})();
