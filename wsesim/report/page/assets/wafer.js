// Wafer: what the report knows of every PE. No drawing.

const DIRECTIONS = ["east", "west", "north", "south"];

class Wafer {
  constructor(contents) {
    const { machine, blocks, path, wafer } = contents;
    this.contents = contents;
    this.columns = machine.columns;
    this.rows = machine.rows;
    this.machine = machine;
    this.blocks = blocks.map(withExtent);
    this.cycles = contents.cycles;
    this.operators = Object.keys(wafer.operator_cycles);
    this.dead = new Set(machine.dead.map(([x, y]) => this.index(x, y)));
    this.slow = new Map(machine.slow.map(([x, y, factor]) => [this.index(x, y), factor]));
    this.blockOf = this._blockNumbers();
    this.usedBy = this._withoutLeftOut();
    this.pathSteps = null;
    this._path = path;
  }

  index(x, y) {
    return y * this.columns + x;
  }

  has(x, y) {
    return x >= 0 && y >= 0 && x < this.columns && y < this.rows;
  }

  isUsable(x, y) {
    const { usable } = this.machine;
    return x >= usable.x && y >= usable.y && x < usable.x + usable.columns && y < usable.y + usable.rows;
  }

  /** The block of a PE, or null. */
  block(x, y) {
    const number = this.blockOf[this.index(x, y)];
    return number ? this.blocks[number - 1] : null;
  }

  /** For each PE the number of its block, counted from 1; 0 without a block. */
  _blockNumbers() {
    const numbers = new Uint16Array(this.columns * this.rows);
    this.blocks.forEach((block, n) => {
      for (let y = block.y; y < block.y + block.extent.rows; y++) {
        numbers.fill(n + 1, this.index(block.x, y), this.index(block.x + block.extent.columns, y));
      }
    });
    return numbers;
  }

  /** The same numbers, but 0 for PEs that their block leaves out. */
  _withoutLeftOut() {
    const numbers = this.blockOf.slice();
    for (const { x, y, extent, left_out_columns: across = [], left_out_rows: down = [] } of this.blocks) {
      for (const row of down) numbers.fill(0, this.index(x, row), this.index(x + extent.columns, row));
      for (const column of across) for (let i = y; i < y + extent.rows; i++) numbers[this.index(column, i)] = 0;
    }
    return numbers;
  }

  async busyCycles(operator) {
    const { wafer } = this.contents;
    if (operator && !wafer.operator_cycles[operator]) return new Uint8Array(this.columns * this.rows); // of a linked wafer
    return unpacked(operator ? wafer.operator_cycles[operator] : wafer.busy_cycles);
  }

  wavelets(direction) {
    return unpacked(this.contents.wafer.wavelets[direction]);
  }

  /** For each router how many colours it holds. */
  async colourCounts() {
    if (!this._colourCounts) {
      const sets = await unpacked(this.contents.wafer.route_set);
      const { streams, route_sets: members } = this.contents.wafer;
      const sizes = members.map((set) => new Set(set.map((n) => streams[n].colour)).size);
      this._colourCounts = Uint8Array.from(sets, (set) => sizes[set]);
    }
    return this._colourCounts;
  }

  /** The critical path as columns, with the first cycle of each step. */
  async path() {
    if (!this.pathSteps) {
      const names = Object.keys(this._path.steps);
      const columns = await Promise.all(names.map((name) => unpacked(this._path.steps[name])));
      const steps = Object.fromEntries(names.map((name, i) => [name, columns[i]]));
      let now = this._path.start_cycle;
      steps.start = Float64Array.from(steps.cycles, (cycles) => (now += cycles) - cycles);
      this.pathSteps = { ...steps, stages: this._path.stages, downFirst: this._path.down_first, operators: this._path.operators, end: now };
    }
    return this.pathSteps;
  }

  /** Cycles of the critical path by PE. A message counts where it arrives. */
  async pathCycles() {
    if (!this._pathCycles) {
      const path = await this.path();
      this._pathCycles = new Uint32Array(this.columns * this.rows);
      for (let i = 0; i < path.cycles.length; i++) {
        this._pathCycles[this.index(path.to_x[i], path.to_y[i])] += path.cycles[i];
      }
    }
    return this._pathCycles;
  }

  /** All that is known of one PE. */
  async pe(x, y) {
    const at = this.index(x, y);
    const { streams, route_sets: sets, route_set: packedSets } = this.contents.wafer;
    const [busy, byOperator, wavelets, set, path] = await Promise.all([
      this.busyCycles(),
      Promise.all(this.operators.map((name) => this.busyCycles(name))),
      Promise.all(DIRECTIONS.map((name) => this.wavelets(name))),
      unpacked(packedSets),
      this.path(),
    ]);
    const steps = [];
    for (let i = 0; i < path.cycles.length; i++) if (path.to_x[i] === x && path.to_y[i] === y) steps.push(i);
    return {
      x,
      y,
      block: this.block(x, y),
      leftOut: isLeftOut(this.block(x, y), x, y),
      dead: this.dead.has(at),
      usable: this.isUsable(x, y),
      slow: this.slow.get(at) ?? null,
      busyCycles: busy[at],
      operatorCycles: this.operators.map((name, i) => [name, byOperator[i][at]]).filter(([, cycles]) => cycles > 0),
      wavelets: Object.fromEntries(DIRECTIONS.map((name, i) => [name, wavelets[i][at]])),
      streams: sets[set[at]].map((n) => streams[n]),
      pathSteps: steps,
    };
  }
}

/** A block with its columns and rows on the wafer, those that it leaves out counted in. */
function withExtent(block) {
  const { columns, rows, left_out_columns: across = [], left_out_rows: down = [] } = block;
  return { ...block, extent: { columns: columns + across.length, rows: rows + down.length } };
}

/** Whether a block leaves out the column or the row of a PE. */
function isLeftOut(block, x, y) {
  return Boolean(block?.left_out_columns?.includes(x) || block?.left_out_rows?.includes(y));
}
