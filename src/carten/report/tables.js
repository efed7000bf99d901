// Headings sort their table; a button copies it, with tabulators between cells, as spreadsheets expect.
const cellText = (cell) => cell.textContent.trim();
const sortValue = (text) => {
  const value = Number(text.replaceAll(",", "").replace("−", "-"));
  return text === "" || Number.isNaN(value) ? text : value;
};
const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
  : typeof a === typeof b ? a.localeCompare(b, "en", { numeric: true }) : typeof a === "number" ? -1 : 1;

// Rows that detail the row above move with it.
const blocksOf = (body) => {
  const blocks = [];
  for (const row of body.rows) row.classList.contains("part") && blocks.length ? blocks.at(-1).push(row) : blocks.push([row]);
  return blocks;
};

const sortBy = (heading) => {
  const table = heading.closest("table");
  const sign = heading.ariaSort === "ascending" ? -1 : 1;
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.ariaSort = sign > 0 ? "ascending" : "descending";
  const key = (block) => sortValue(cellText(block[0].cells[heading.cellIndex]));
  const blocks = blocksOf(table.tBodies[0]).map((block) => [key(block), block]);
  blocks.sort((one, other) => sign * compare(one[0], other[0]));
  table.tBodies[0].append(...blocks.flatMap(([, block]) => block));
};

// Long tables show their first rows, until all are asked for; on paper they are complete.
const NARROW = matchMedia("(max-width: 40rem)").matches;
for (const table of document.querySelectorAll("table")) {
  const { rows } = table.tBodies[0];
  const few = NARROW && table.classList.contains("cards") ? 4 : 12; // as in the style sheet
  if (rows.length < few + 4) continue;
  const all = `Show all ${rows.length} rows`;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "more", textContent: all });
  button.ariaExpanded = "false";
  table.classList.add("folded");
  button.addEventListener("click", () => {
    const folded = table.classList.toggle("folded");
    button.ariaExpanded = String(!folded);
    button.textContent = folded ? all : "Show fewer rows";
  });
  table.closest(".card").append(button);
}

for (const heading of document.querySelectorAll("thead tr:last-child th")) {
  if (heading.closest("table").tBodies[0].rows.length < 3 || heading.textContent === "") continue;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sortBy(heading));
  heading.append(button);
}

const copied = async (text) => {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button === null) return;
  const rows = [...button.closest(".card").querySelector("table").rows];
  await copied(rows.map((row) => [...row.cells].map(cellText).join("\t")).join("\n"));
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy table"; }, 1500);
});
