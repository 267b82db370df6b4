// Filters and order of the table of runs. Without scripts the whole table is there.
"use strict";

(() => {
  const form = document.getElementById("filters");
  if (!form) {
    rla.ready();
    return;
  }
  const table = document.getElementById("run-table");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, fields: row.dataset, text: row.textContent + row.querySelector("a").title }));

  function show() {
    const filters = rla.readFilters(form);
    let shown = 0;
    for (const { row, fields, text } of rows) {
      const passes = rla.passes(filters, fields, text);
      row.hidden = !passes;
      shown += passes;
    }
    document.getElementById("count").textContent = `${shown} of ${rows.length} runs`;
  }

  /** Numbers by size, texts by alphabet, what is unknown last in both directions. */
  function sortBy(column, heading) {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numeric = heading.classList.contains("n");
    const collator = new Intl.Collator("en", { numeric: true });
    const keyed = rows.map((entry) => {
      const cell = entry.row.cells[column];
      const text = cell.dataset.v ?? cell.textContent.trim();
      const unknown = text === "" || text === "–";
      return { entry, unknown, key: numeric ? Number(text) : text };
    });
    keyed.sort((a, b) => {
      if (a.unknown || b.unknown) return a.unknown - b.unknown;
      const order = numeric ? a.key - b.key : collator.compare(a.key, b.key);
      return descending ? -order : order;
    });
    body.append(...keyed.map(({ entry }) => entry.row));
  }

  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(column, heading));
  });
  rla.bindFilters(form, show);
  show();
  rla.ready();
})();
