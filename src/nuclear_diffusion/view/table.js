// Tables of the class "sortable": the heading of a column sorts by it, a second time in the other order.

/** What a cell is sorted by: its `data-value` or its text, as a number if it begins with one; null if it is empty. */
function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim().replace("−", "-");
  if (text === "" || text === "–") return null;
  const number = parseFloat(text);
  return Number.isNaN(number) ? text : number;
}

/** Order of two values: numbers before words. */
function order(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(table, column, down) {
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
  const known = rows.filter(([value]) => value !== null).sort(([a], [b]) => (down ? order(b, a) : order(a, b)));
  const unknown = rows.filter(([value]) => value === null); // last in both orders
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  table.dispatchEvent(new Event("sorted"));
  for (const [k, head] of [...table.tHead.rows[0].cells].entries())
    if (k === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
}

for (const table of document.querySelectorAll("table.sortable"))
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.onclick = () => sortBy(table, column, head.getAttribute("aria-sort") === "ascending");
    head.append(button);
  }
