// Differences: the tables of one pair of runs. Blue is fewer cycles than in A, orange is more; the sign says it too.

const TABLES = {
  kind: ["Kind", "The parts of the critical path."],
  operator: ["Operator", "The roles of the kernels in a layer; all layers are added up."],
  block: ["Block", "Stages that share a block in either run. A transfer counts with the stages that it goes to. "
    + "Click a row to see its blocks on the wafers."],
  stage: ["Stage", "A transfer counts with the stage that it goes to. Click a row to see its blocks on the wafers."],
};

const signed = (value) => (value ? `${value > 0 ? "+" : "-"}${count(Math.abs(value))}` : "0");

/** A difference in relation to what it was. */
function change(row) {
  if (!row.difference) return "";
  if (!row.a) return "new";
  const share = row.difference / row.a;
  return share < 9 ? `${share > 0 ? "+" : "-"}${Math.abs(100 * share).toFixed(1)} %` : `${count(1 + share)} times`;
}

/** A bar from 0: to the left for fewer cycles, to the right for more. `low` and `high` are the ends of the scale. */
function differenceBar(value, low, high) {
  const zero = high > low ? (-100 * low) / (high - low) : 0, wide = high > low ? (100 * Math.abs(value)) / (high - low) : 0;
  const place = value < 0 ? `right:${100 - zero}%` : `left:${zero}%`;
  return make("div", { class: "diverging" }, make("i", { class: "zero", style: `left:${zero}%` }),
    value ? make("i", { class: value < 0 ? "fewer" : "more", style: `${place};width:${Math.max(0.6, wide)}%` }) : null);
}

class Differences {
  /** `onpick` gets a row of the comparison's JSON whose blocks are to be shown, or null. */
  constructor(contents, onpick) {
    this.contents = contents;
    this.onpick = onpick;
    this.choices = Object.entries(TABLES).map(([by, [name]]) =>
      make("button", { type: "button", class: "layer", "data-by": by, onclick: () => this.group(by) }, `By ${name.toLowerCase()}`));
    this.about = make("p", { class: "quiet" });
    this.filter = make("input", { type: "search", placeholder: "Filter: layer3, qkv …", "aria-label": "Filter rows",
      oninput: () => this.table?.setFilter(this.filter.value) });
    this.told = make("div", {});
    this.reasons = make("ul", { class: "reasons" });
    this.element = make("div", {},
      make("div", { class: "line" }, make("div", { class: "choices", role: "group", "aria-label": "Rows of the table" }, this.choices), this.filter),
      this.about, this.told, make("h3", {}, "Where each kind changes most"), this.reasons);
    this.by = "kind";
  }

  show(pair) {
    this.pair = pair;
    this.said = this.contents.said[pair.b];
    const lines = [];
    for (const text of this.said.reasons) { // an indented line belongs to the one before it
      if (text.startsWith(" ")) lines[lines.length - 1].push(text.trim());
      else lines.push([text]);
    }
    this.reasons.replaceChildren(...lines.map(([text, ...facts]) => make("li", {}, text,
      facts.map((fact) => make("div", { class: "quiet" }, fact)))));
    this.reasons.previousSibling.hidden = !lines.length;
    this.group(this.by);
  }

  group(by) {
    this.by = by;
    this.onpick(null);
    for (const choice of this.choices) choice.setAttribute("aria-pressed", choice.dataset.by === by);
    this.about.textContent = TABLES[by][1];
    const rows = this.pair[`by_${by}`];
    if (!rows) {
      this.table = null;
      this.told.replaceChildren(make("p", { class: "note" }, "A report of an older wsesim does not state its stages: simulate again with this one."));
      return;
    }
    this.table = new SortableTable(this._columns(by, rows));
    this.table.key = "size";
    if (this.said.places[by]) this.table.onpick = (row) => this.onpick(row?.given ?? null);
    this.table.filter = this.filter.value.trim().toLowerCase();
    this.table.fill(rows.map((row, n) => this._row(by, row, n)).filter((row) => row.a || row.b));
    this.told.replaceChildren(this.table.element);
  }

  _row(by, given, n) {
    const { kinds } = this.contents, places = this.said.places[by]?.[n];
    return {
      given, label: given[by], a: given.a_cycles, b: given.b_cycles, difference: given.difference_cycles, size: Math.abs(given.difference_cycles),
      share: given.a_cycles ? given.difference_cycles / given.a_cycles : Infinity, a_place: places?.[0], b_place: places?.[1],
      ...Object.fromEntries(kinds.map((kind) => [kind, by === "kind" ? 0 : given.difference[kind]])),
      searched: [given[by], ...(given.stages ?? []), ...(given.a_blocks ?? []), ...(given.b_blocks ?? [])].join(" ").toLowerCase(),
    };
  }

  _columns(by, rows) {
    const { kinds } = this.contents, { a, b } = this.pair;
    const values = rows.map((row) => row.difference_cycles), low = Math.min(0, ...values), high = Math.max(0, ...values);
    const mostOfKind = Math.max(1, ...rows.flatMap((row) => (by === "kind" ? [] : kinds.map((kind) => Math.abs(row.difference[kind])))));
    const dot = (row) => (by === "kind" ? make("i", { class: "dot", style: `background:${this.contents.colours.kinds[row.label]}` }) : null);
    const placed = this.said.places[by];
    return [
      { key: "label", name: TABLES[by][0], cell: (row) => (placed
        ? make("button", { type: "button", class: "name", "aria-pressed": row === this.table?.picked }, row.label) : [dot(row), row.label]) },
      { key: "a", name: a, unit: "cycles", number: true, total: true, text: count },
      { key: "b", name: b, unit: "cycles", number: true, total: true, text: count },
      { key: "difference", name: "Difference", unit: "cycles", number: true, total: true, text: signed, cell: (row) => this._text(row.difference) },
      { key: "size", name: `${b} against ${a}`, unit: "fewer | more", cell: (row) => differenceBar(row.difference, low, high) },
      { key: "share", name: "Change", unit: `of ${a}`, number: true, cell: change },
      ...(by === "kind" ? [] : kinds.map((kind) => ({ key: kind, name: kind, unit: "difference", number: true, total: true, text: signed,
        hint: KIND_WORDS[kind], cell: (row) => this._text(row[kind], mostOfKind) }))),
      ...(placed ? [{ key: "a_place", name: `PEs in ${a}` }, { key: "b_place", name: `PEs in ${b}` }] : []),
    ];
  }

  /** A difference with its sign, in the colour of its sign, on a ground that is stronger for larger ones. */
  _text(value, most) {
    const side = value < 0 ? "fewer" : value > 0 ? "more" : "none";
    const ground = most && value ? `background:rgb(var(--${side}-ground) / ${(0.06 + (0.5 * Math.abs(value)) / most).toFixed(3)})` : null;
    return make("span", { class: `signed ${ground ? "" : side}`, style: ground }, signed(value));
  }
}
