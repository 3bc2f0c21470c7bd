// Sides: the runs with their totals, what differs in their inputs, and their wafers beside each other.

const INPUTS_SHOWN = 12;
const badge = (letter) => make("b", { class: "badge" }, letter);

/** Each run with its figures, and its cycles by kind on one scale. */
function runsOf({ comparison, sides, kinds, colours }) {
  const most = Math.max(...comparison.sides.map((side) => side.cycles)), [first] = comparison.sides;
  const against = (side) => (side === first ? "" : change({ a: first.cycles, difference: side.cycles - first.cycles }) || "as many cycles");
  const bar = (side) => make("div", { class: "stack tall run" }, kinds.map((kind) => {
    const cycles = sides[side.side].by_kind[kind], colour = colours.kinds[kind];
    return make("i", { title: `${kind}: ${count(cycles)} cycles`, "data-kind": kind,
      style: `width:${(100 * cycles) / Math.max(1, most)}%;background:${colour};color:${isDark(rgb(colour)) ? "#fff" : "#111"}` },
    cycles / most > 0.13 ? [make("span", {}, `${kind} `), percent(cycles / side.cycles)] : "");
  }));
  const key = make("ul", { class: "swatches key runs-key" }, kinds.map((kind) =>
    make("li", {}, make("i", { style: `background:${colours.kinds[kind]}` }), kind)));
  return [...comparison.sides.map((side) => make("div", { class: "run-line" },
    make("div", { class: "run-name" }, badge(side.side), make("span", {}, side.label)),
    make("div", { class: "run-figures" },
      make("span", {}, make("strong", {}, count(side.cycles)), " cycles"), make("span", {}, seconds(side.seconds)),
      make("span", {}, `${short(side.tokens_per_second)} tokens/s`), make("span", {}, `${count(sides[side.side].pes)} PEs`),
      make("span", { class: side.cycles < first.cycles ? "fewer" : "more" }, against(side))),
    bar(side))), key];
}

/** What differs in the inputs of a pair; the first few of each group, and the others below. */
function inputsOf(said, { a, b }) {
  if (!said.inputs.length) return [make("p", {}, "Nothing of the inputs.")];
  const shown = [], more = [], counts = new Map();
  for (const each of said.inputs) {
    const n = (counts.get(each.group) ?? 0) + 1;
    counts.set(each.group, n);
    (each.group === "placement" || n <= INPUTS_SHOWN ? shown : more).push(each);
  }
  const table = (rows) => make("div", { class: "scroll" }, make("table", { class: "inputs" },
    make("thead", {}, make("tr", {}, make("th", {}), make("th", {}, "of"), make("th", {}, badge(a)), make("th", {}, badge(b)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.what), make("td", { class: "quiet" }, row.group),
      make("td", {}, row.a), make("td", {}, row.b))))));
  return [table(shown), more.length ? make("details", {}, make("summary", {}, `${count(more.length)} more`), table(more)) : null];
}

/** The wafers of the sides. All of them move, and change their layer and their PE, together. */
class Wafers {
  constructor({ comparison, explorers }) {
    this.sides = comparison.sides.map(({ side, label }) => ({ letter: side, label, contents: explorers[side] }));
    for (const side of this.sides.filter((each) => each.contents)) {
      side.wafer = new Wafer(side.contents);
    }
    const wafers = this.sides.map((side) => side.wafer).filter(Boolean);
    const operators = [...new Set(wafers.flatMap((wafer) => wafer.operators))]; // those of all sides can be chosen
    for (const wafer of wafers) wafer.operators = operators;
    for (const side of this.sides) this._build(side);
    this.explorers = this.sides.map((side) => side.explorer).filter(Boolean);
    Explorer.link(this.explorers);
    this.marked = make("p", { class: "marked", hidden: true });
    this.pair = make("div", { class: "pair" }, this.explorers.length ? this.explorers[0].controls : null, this.sides.map((side) => side.element));
    this.element = make("div", {}, make("p", { class: "quiet" }, this.explorers.length < 2 ? "" : "The wafers follow each other: part in view, layer and selected PE. "
      + "Their colours have one scale."), this.marked, this.pair);
  }

  _build(side) {
    const heading = make("h3", {}, badge(side.letter), side.label);
    if (!side.wafer) {
      side.element = make("div", { class: "side" }, heading,
        make("p", { class: "note" }, "A saved report holds no Program, so its wafer cannot be shown: give the model or a saved Program."));
      return;
    }
    side.explorer = new Explorer(side.wafer);
    side.inspector = new Inspector(side.wafer);
    side.inspector.element.dataset.side = side.letter;
    side.explorer.onselect = (place) => side.inspector.show(place);
    side.element = make("div", { class: "side" }, heading, side.explorer.stage, side.explorer.legend, side.inspector.element);
  }

  /** The two sides of a pair, and no other. */
  show({ a, b }) {
    for (const side of this.sides) side.element.hidden = side.letter !== a && side.letter !== b;
  }

  /** Marks the blocks of a row in both runs and goes to them; null: all blocks alike. */
  mark(pair, row) {
    const names = (letter) => (letter === pair.a ? row.a_blocks : letter === pair.b ? row.b_blocks : []);
    const boxes = [];
    for (const { letter, explorer, wafer } of this.sides.filter((side) => side.explorer)) {
      explorer.mark(row && names(letter));
      if (row) boxes.push(...wafer.blocks.filter((block) => names(letter).includes(block.name)));
    }
    this.marked.hidden = !row;
    if (!row) return;
    if (boxes.length) this.explorers[0].showRect(around(boxes));
    this.marked.replaceChildren(make("strong", {}, row.block ?? row.stage), ` · ${pair.a} ${count(row.a_cycles)}, ${pair.b} ${count(row.b_cycles)} cycles, `,
      signed(row.difference_cycles), boxes.length ? "" : " · on no block", " ", make("button", { type: "button", onclick: () => this.onclear() }, "Show all blocks alike"));
  }
}

/** The smallest rectangle that holds all boxes. */
function around(boxes) {
  const x = Math.min(...boxes.map((box) => box.x)), y = Math.min(...boxes.map((box) => box.y));
  return { x, y, columns: Math.max(...boxes.map((box) => box.x + box.extent.columns)) - x, rows: Math.max(...boxes.map((box) => box.y + box.extent.rows)) - y };
}
