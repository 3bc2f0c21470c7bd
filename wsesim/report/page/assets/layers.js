// The layers of the explorer: for each a value by PE, how it is coloured, and what its legend says.

const FREE_SRAM = "free";

/** The layers. `values(option)` is an array by PE; 0 is drawn as empty. `most` is the end of the scale, if it is fixed. */
function layersOf(wafer) {
  const all = wafer.columns * wafer.rows;
  return [
    {
      id: "block", name: "Blocks", unit: "", scale: "blocks",
      about: "Which block a PE belongs to. A block is a rectangle of PEs that holds one stage of the model, or several.",
      values: async () => wafer.usedBy,
    },
    {
      id: "sram", name: "SRAM", unit: "B", scale: "linear", ramp: "cividis",
      about: "SRAM that a PE sets aside. All PEs of a block run the same program, so they set aside the same.",
      options: [["total", "in use"], ["weight_bytes", "weights"], ["kv_bytes", "KV cache"], ["buffer_bytes", "buffers"],
        [FREE_SRAM, "free"]],
      most: () => wafer.machine.room_bytes,
      values: async (option) => byBlock(wafer, (block) => sramOf(wafer, block)[option]),
    },
    {
      id: "busy", name: "Busy cycles", unit: "cycles", scale: "linear", ramp: "viridis",
      about: "Cycles of this step for which tasks hold a PE. A task that waits for the head of a message holds it too.",
      options: [["", "all operators"], ...wafer.operators.map((name) => [name, name])],
      values: (option) => wafer.busyCycles(option),
    },
    {
      id: "links", name: "Link traffic", unit: "wavelets", scale: "log", ramp: "inferno",
      about: "Wavelets that leave a router in this step, by direction. A wavelet carries "
        + `${wafer.machine.fields.wavelet_bytes} bytes. Zoom in to see the four directions.`,
      options: [["busiest", "busiest of four"], ...DIRECTIONS.map((name) => [name, name])],
      values: (option) => (option === "busiest" ? busiest(wafer) : wafer.wavelets(option)),
    },
    {
      id: "colours", name: "Colours", unit: "colours", scale: "linear", ramp: "viridis",
      about: "How many colours a router holds. A colour is a route that wavelets follow; a router has "
        + `${wafer.machine.fields.colours}, and ${wafer.machine.fields.reserved_colours} of them are reserved.`,
      most: () => wafer.machine.fields.colours,
      values: () => wafer.colourCounts(),
    },
    {
      id: "path", name: "Critical path", unit: "cycles", scale: "log", ramp: "inferno",
      about: "Cycles of the critical path on a PE. The cycles of a message count where it arrives.",
      values: () => wafer.pathCycles(),
    },
    {
      id: "dead", name: "Dead and slow PEs", unit: "", scale: "health",
      about: "PEs that the machine states as dead or slow. A block leaves out the row and the column of a dead PE inside it.",
      values: async () => {
        const values = new Uint8Array(all);
        for (const at of wafer.slow.keys()) values[at] = 1;
        for (const at of wafer.dead) values[at] = 2;
        return values;
      },
    },
  ];
}

function sramOf(wafer, block) {
  const { weight_bytes, kv_bytes, buffer_bytes } = block;
  const total = weight_bytes + kv_bytes + buffer_bytes;
  return { total, weight_bytes, kv_bytes, buffer_bytes, [FREE_SRAM]: wafer.machine.room_bytes - total };
}

function byBlock(wafer, value) {
  const values = [0, ...wafer.blocks.map(value)];
  return Uint32Array.from(wafer.usedBy, (number) => values[number]);
}

async function busiest(wafer) {
  const four = await Promise.all(DIRECTIONS.map((name) => wafer.wavelets(name)));
  wafer.linksAtHand = four;
  return Uint32Array.from(four[0], (value, i) => Math.max(value, four[1][i], four[2][i], four[3][i]));
}

/** The values at the ends of a layer's scale; those of the PEs in `shown` only, if it is given. */
function limitsOf(layer, wafer, values, shown) {
  if (!layer.ramp) return [0, 0];
  return shown ? extent(wafer, values, shown) : [layer.scale === "log" ? 1 : 0, layer.most?.() ?? largest(values)];
}

/** How a layer's values become colours: a function of a value, and the legend's marks. */
function scaleOf(layer, wafer, [low, high]) {
  const empty = rgb(styled("--empty"));
  if (layer.scale === "blocks") return blockScale(wafer, empty);
  if (layer.scale === "health") {
    const colours = [empty, rgb("#e6863b"), rgb(styled("--bad"))];
    const marks = [["slow", colours[1], wafer.slow.size], ["dead", colours[2], wafer.dead.size]];
    return { colour: (value) => colours[value], swatches: marks.map(([name, c, n]) => [`${name}: ${count(n)} PEs`, c]) };
  }
  const logarithmic = layer.scale === "log";
  const place = logarithmic ? (value) => Math.log(Math.max(1, value)) : (value) => value;
  const share = (value) => (high > low ? (place(value) - place(low)) / (place(high) - place(low)) : 1);
  return {
    colour: (value) => (value ? ramped(layer.ramp, share(value)) : empty), ramp: layer.ramp, share,
    ticks: high > low ? (logarithmic && high > 8 * low ? logTicks : linearTicks)(low, high) : [high],
  };
}

function largest(values) {
  let most = 1;
  for (const value of values) if (value > most) most = value;
  return most;
}

/** The least and the largest value of the PEs in view, those with 0 left out. */
function extent(wafer, values, { x0, y0, x1, y1 }) {
  let low = Infinity, high = 0;
  for (let y = y0; y <= y1; y++) {
    for (let i = wafer.index(x0, y); i <= wafer.index(x1, y); i++) {
      if (values[i] > high) high = values[i];
      if (values[i] && values[i] < low) low = values[i];
    }
  }
  return high ? [low, high] : [0, 1];
}

function blockScale(wafer, empty) {
  const { roles } = wafer.contents.colours;
  const white = rgb(styled("--paper"));
  const colours = wafer.blocks.map((block, n) => mixed(rgb(roles[block.role]), white, n % 2 ? 0.38 : 0.12));
  const shown = new Map(wafer.blocks.map((block) => [block.role_name, rgb(roles[block.role])]));
  return {
    colour: (value) => (value ? colours[value - 1] : empty),
    swatches: [...shown, ["no block", empty]],
  };
}

/** Round numbers from `low` to `high`, both included; none so near an end that their texts touch. */
function linearTicks(low, high) {
  const rough = (high - low) / 3, power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value < high; value += step) {
    if (value - low > 0.22 * (high - low) && high - value > 0.22 * (high - low)) ticks.push(value);
  }
  return [low, ...ticks, high];
}

function logTicks(low, high) {
  const ticks = [], share = (value) => Math.log(value / low) / Math.log(high / low);
  for (let value = 1; value < high; value *= high > 1e4 ? 100 : 10) {
    if (share(value) > 0.16 && share(value) < 0.72) ticks.push(value);
  }
  return [low, ...ticks, high];
}
