// Inspector: what one PE holds and does. Each exact value is in `data-value` of the element with its `data-field`.

class Inspector {
  constructor(wafer) {
    this.wafer = wafer;
    this.element = make("aside", { class: "inspector", "aria-live": "polite", "aria-label": "The selected PE" });
    this.show(null);
  }

  async show(place) {
    this.place = place;
    if (!place) {
      this.element.replaceChildren(make("h3", {}, "No PE selected"),
        make("p", { class: "quiet" }, "Click a PE to see what it holds and does. Zoom in with the wheel, two fingers or "
          + "the + key until you see single PEs."));
      return;
    }
    const pe = await this.wafer.pe(place.x, place.y);
    if (this.place !== place) return; // another one was selected meanwhile
    this.element.replaceChildren(...this._parts(pe).flat().filter(Boolean));
    this.element.dataset.pe = `${pe.x},${pe.y}`;
  }

  _parts(pe) {
    return [
      make("h3", {}, `PE (${pe.x}, ${pe.y})`),
      make("p", { class: "quiet" }, "column, row"),
      pe.dead ? make("p", { class: "note" }, "This PE is dead: it has no task, and no message passes its router.") : null,
      pe.leftOut && !pe.dead ? make("p", { class: "note" }, "Its block leaves this PE out, for a dead one on its row or column: it holds nothing "
        + "and has no task. Its router passes on what crosses it.") : null,
      pe.slow ? make("p", { class: "note" }, `This PE is slow: its work takes ${pe.slow} times as long.`) : null,
      this._block(pe), this._holds(pe), this._does(pe), this._traffic(pe), this._colours(pe), this._path(pe),
    ];
  }

  _block(pe) {
    const { block } = pe;
    const value = field("block", block ? block.name : "", block ? block.name : pe.usable ? "no block" : "not usable");
    const rows = [["Block", value]];
    if (block) {
      const before = (places, place) => (places ?? []).filter((one) => one < place).length;
      const column = pe.x - block.x - before(block.left_out_columns, pe.x), row = pe.y - block.y - before(block.left_out_rows, pe.y);
      rows.push(["Size of the block", `${block.columns} x ${block.rows} PEs`]);
      rows.push(["Place in it", pe.leftOut ? "left out" : `column ${column}, row ${row}`]);
      rows.push([block.stages.length > 1 ? "Stages" : "Stage", field("stages", block.stages.join(","), block.stages.join(", "))]);
    }
    return facts(rows);
  }

  _holds(pe) {
    const room = this.wafer.machine.room_bytes;
    const sram = pe.block && !pe.leftOut ? sramOf(this.wafer, pe.block) : { total: 0, weight_bytes: 0, kv_bytes: 0, buffer_bytes: 0, free: room };
    const parts = [["weights", "weight_bytes", "--weights"], ["KV cache", "kv_bytes", "--kv"],
      ["buffers", "buffer_bytes", "--buffers"], ["free", "free", "--empty"]];
    const bar = make("div", { class: "stack", role: "img", "aria-label": `SRAM: ${exactBytes(sram.total)} of ${exactBytes(room)}` },
      parts.map(([, key, colour]) => make("i", { style: `width:${(100 * sram[key]) / room}%;background:var(${colour})` })));
    return [make("h4", {}, "SRAM"), bar, facts([
      ...parts.map(([name, key, colour]) => [[make("i", { class: "dot", style: `background:var(${colour})` }), name],
        field(key, sram[key], exactBytes(sram[key]))]),
      ["in use", field("sram_bytes", sram.total, `${exactBytes(sram.total)} of ${exactBytes(room)}`)],
    ])];
  }

  _does(pe) {
    const share = pe.busyCycles / this.wafer.cycles;
    const rows = pe.operatorCycles.sort((a, b) => b[1] - a[1]).map(([name, cycles]) => make("tr", {},
      make("td", {}, name),
      make("td", { class: "number", "data-field": `cycles:${name}`, "data-value": cycles }, count(cycles)),
      make("td", { class: "meter" }, make("i", { style: `width:${(100 * cycles) / pe.operatorCycles[0][1]}%` }))));
    return [make("h4", {}, "Busy in this step"),
      facts([["all tasks", field("busy_cycles", pe.busyCycles, `${count(pe.busyCycles)} cycles`)],
        ["share of the step", percent(share)]]),
      rows.length ? make("table", { class: "small" }, make("thead", {}, make("tr", {}, make("th", {}, "operator"),
        make("th", { class: "number" }, "cycles"), make("th", {}))), make("tbody", {}, rows)) : null];
  }

  _traffic(pe) {
    const arrow = { east: "→", west: "←", north: "↑", south: "↓" };
    const cell = (name) => make("span", { class: name, title: `to the ${name}` }, `${arrow[name]} `,
      field(`wavelets_${name}`, pe.wavelets[name], count(pe.wavelets[name])));
    return [make("h4", {}, "Wavelets that leave its router"),
      make("div", { class: "compass" }, DIRECTIONS.map(cell), make("span", { class: "middle" }, "PE"))];
  }

  _colours(pe) {
    const users = new Map();
    for (const { colour, what } of pe.streams) users.set(colour, [...(users.get(colour) ?? []), what]);
    const colours = [...users.keys()].sort((a, b) => a - b);
    const grouped = new Map(); // colours with the same users stand in one line
    for (const colour of colours) {
      const what = users.get(colour).join("; ");
      grouped.set(what, [...(grouped.get(what) ?? []), colour]);
    }
    return [make("h4", {}, "Colours (routes) of its router"),
      colours.length ? facts([...grouped].map(([what, list]) => [list.join(", "), what])) : make("p", { class: "quiet" }, "none"),
      make("span", { hidden: true, "data-field": "colours", "data-value": colours.join(",") })];
  }

  _path(pe) {
    const { kinds, colours } = this.wafer.contents, path = this.wafer.pathSteps;
    const total = sum(pe.pathSteps.map((i) => path.cycles[i]));
    const rows = new Map();
    for (const i of pe.pathSteps) {
      const key = `${kinds[path.kind[i]]}|${path.operators[path.operator[i]]}`;
      rows.set(key, (rows.get(key) ?? 0) + path.cycles[i]);
    }
    const lines = [...rows].sort((a, b) => b[1] - a[1]).map(([key, cycles]) => {
      const [kind, operator] = key.split("|");
      return [[make("i", { class: "dot", style: `background:${colours.kinds[kind]}` }), `${operator}, ${kind}`], `${count(cycles)} cycles`];
    });
    return [make("h4", {}, "On the critical path"),
      facts([["in all", field("path_cycles", total, `${count(total)} cycles`)], ...lines])];
  }
}

const field = (name, value, text) => make("span", { "data-field": name, "data-value": value }, text);

/** Names and values below each other. */
function facts(rows) {
  return make("dl", { class: "facts" }, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
