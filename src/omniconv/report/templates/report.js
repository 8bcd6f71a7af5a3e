"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  for (const [id, figure] of Object.entries(figures)) {
    const place = document.getElementById(id);
    if (place) Plotly.newPlot(place, figure.data, figure.layout, config);
  }

  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const read = (row, column) => row.cells[column].dataset.value;
  const compare = (a, b, numeric) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const numeric = heading.dataset.type === "number";
      const before = heading.getAttribute("aria-sort");
      const ascending = before === "none" ? !numeric : before === "descending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...body.rows].sort((first, second) => {
        const a = read(first, column);
        const b = read(second, column);
        const order = compare(a, b, numeric);
        return a === "" || b === "" || ascending ? order : -order;  // empty cells stay last
      });
      body.append(...rows);
    });
  });

  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = `${read(row, 1)} ${read(row, 2)}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  document.body.dataset.ready = "true";
})();
