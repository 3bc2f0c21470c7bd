// The table of operators: time and SRAM of every kernel and move, grouped by operator, by block, or not at all.

const GROUPS = {
  operator: ["operator", (row) => row.operator],
  block: ["block", (row) => row.place],
  name: ["kernel", (row) => row.name],
};

class Operators {
  constructor(contents) {
    this.contents = contents;
    this.pes = new Map(contents.blocks.map((block) => [block.name, block.columns * block.rows]));
    this.items = [...contents.kernels.map((row) => this._item(row)), ...contents.blocks.map((block) => this._buffers(block))];
    this.table = new SortableTable(this._columns());
    this.table.onshown = (shown, all) => (this.told.textContent = shown === all ? `${count(all)} rows` : `${count(shown)} of ${count(all)} rows`);
    this.told = make("output", { class: "quiet" });
    this.group = make("select", { "aria-label": "Rows of the table", onchange: () => this._group() },
      Object.entries({ operator: "one row an operator", block: "one row a block", name: "one row a kernel" })
        .map(([value, text]) => make("option", { value }, text)));
    const filter = make("input", { type: "search", placeholder: "Filter: layer3, qkv, score …", "aria-label": "Filter rows",
      oninput: () => this.table.setFilter(filter.value) });
    this.element = make("div", {},
      make("p", { class: "quiet" }, "Cycles are those on the critical path; they sum to the step. Bytes are what PEs set aside; they sum to the "
        + "SRAM in use. A transfer is the way of a vector from block to block. Buffers belong to all kernels of a block."),
      make("div", { class: "line" }, this.group, filter, this.told), this.table.element);
    this._group();
  }

  _item(row) {
    const pes = this.pes.get(row.block) ?? 0;
    return { ...row, place: row.block || "between blocks", sram: (row.weight_bytes + row.kv_bytes) * pes, weights: row.weight_bytes * pes,
      kv: row.kv_bytes * pes, buffers: 0, perPe: row.weight_bytes + row.kv_bytes };
  }

  _buffers(block) {
    const bytesOf = block.buffer_bytes * block.columns * block.rows;
    return { name: `${block.name}: buffers`, operator: "buffers", place: block.name, stage: "", cycles: this.contents.kinds.map(() => 0),
      sram: bytesOf, weights: 0, kv: 0, buffers: bytesOf, perPe: block.buffer_bytes, multiply_adds: 0, form: "", collective: "" };
  }

  _columns() {
    const { kinds, colours, report } = this.contents;
    const number = { number: true, total: true, text: count };
    return [
      { key: "label", name: "Name" },
      { key: "total", name: "Time", unit: "cycles", hint: "On the critical path", ...number },
      { key: "time", name: "Time", unit: "µs", number: true, total: true, text: (value) => value.toFixed(value < 10 ? 2 : 1) },
      { key: "share", name: "Share", unit: "of the step", number: true, total: true, text: percent, cell: (row) => make("div", { class: "sharing" }, this._bar(row), make("span", {}, percent(row.share))) },
      ...kinds.map((kind, n) => ({ key: kind, name: kind, unit: "cycles", hint: KIND_WORDS[kind], ...number })),
      { key: "perPe", name: "SRAM a PE", unit: "B", hint: "On each PE of the block; with several blocks, on the fullest", number: true, text: count },
      { key: "sram", name: "SRAM", unit: "on the wafer", number: true, total: true, text: bytes },
      { key: "weights", name: "Weights", unit: "on the wafer", number: true, total: true, text: bytes },
      { key: "kv", name: "KV cache", unit: "on the wafer", number: true, total: true, text: bytes },
      { key: "buffers", name: "Buffers", unit: "on the wafer", number: true, total: true, text: bytes },
      { key: "multiply_adds", name: "Multiply-adds", unit: "millions", number: true, total: true, text: (value) => short(value / 1e6) },
      { key: "written", name: "Form, collective", unit: "" },
    ];
  }

  _bar(row) {
    const { kinds, colours, report } = this.contents;
    const most = Math.max(...this.rows.map((each) => each.total), 1);
    return make("div", { class: "mini" }, kinds.map((kind) => make("i", { style: `width:${(100 * row[kind]) / most}%;background:${colours.kinds[kind]}` })));
  }

  _group() {
    const { kinds, report } = this.contents, [, labelOf] = GROUPS[this.group.value];
    const groups = new Map();
    for (const item of this.items) groups.set(labelOf(item), [...(groups.get(labelOf(item)) ?? []), item]);
    this.rows = [...groups].map(([label, items]) => {
      const total = sum(items.map((item) => sum(item.cycles)));
      const added = (key) => sum(items.map((item) => item[key]));
      const byKind = Object.fromEntries(kinds.map((kind, n) => [kind, sum(items.map((item) => item.cycles[n]))]));
      const written = [...new Set(items.flatMap((item) => [item.form, item.collective]).filter(Boolean))].join(", ");
      return { label, total, share: total / report.cycles, time: (total / report.clock_hz) * 1e6, ...byKind, perPe: this._perPe(items), written,
        ...Object.fromEntries(["sram", "weights", "kv", "buffers", "multiply_adds"].map((key) => [key, added(key)])),
        searched: [label, written, ...items.flatMap((item) => [item.name, item.operator, item.place])].join(" ").toLowerCase() };
    });
    this.table.fill(this.rows);
  }

  /** Bytes on the fullest PE: kernels of one block add up. */
  _perPe(items) {
    const blocks = new Map();
    for (const item of items) blocks.set(item.place, (blocks.get(item.place) ?? 0) + item.perPe);
    return Math.max(...blocks.values());
  }
}
