// The latency with its parts, beside the bounds, on one scale.

const BOUND_WORDS = {
  arithmetic: "multiply-adds of the weights, spread over all PEs of the blocks",
  dependent: "vector operations of all kernels one after the other, without network",
  distance: "hops from block to block and back, without operations",
};

const MACHINE_BOUND_WORDS = {
  arithmetic: "all multiply-adds, spread over all usable PEs",
  spread: "half layer after half layer; each spreads from one PE hop by hop",
};

function latencyOf(contents) {
  const { report, colours } = contents;
  const parts = Object.entries(report.critical_path_cycles).filter(([, cycles]) => cycles > 0);
  const total = sum(parts.map(([, cycles]) => cycles));
  const us = (cycles) => seconds(cycles / report.clock_hz);
  const bar = make("div", { class: "stack tall" }, parts.map(([kind, cycles]) => {
    const colour = colours.kinds[kind];
    return make("i", { title: `${kind}: ${count(cycles)} cycles`,
      style: `width:${(100 * cycles) / total}%;background:${colour};color:${isDark(rgb(colour)) ? "#fff" : "#111"}` },
    cycles / total > 0.09 ? `${kind} ${percent(cycles / total)}` : "");
  }));
  const rows = parts.map(([kind, cycles]) => make("tr", {},
    make("td", {}, make("i", { class: "dot", style: `background:${colours.kinds[kind]}` }), kind),
    make("td", { class: "number" }, count(cycles)), make("td", { class: "number" }, us(cycles)),
    make("td", { class: "number" }, percent(cycles / total)), make("td", { class: "quiet words" }, KIND_WORDS[kind])));
  const last = make("tr", { class: "total" }, make("td", {}, "the whole step"), make("td", { class: "number" }, count(total)),
    make("td", { class: "number" }, us(total)), make("td", { class: "number" }, "100.0 %"),
    make("td", { class: "quiet words" }, "from token to token; without the host"));
  return [bar, make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, "part of the critical path"), make("th", { class: "number" }, "cycles"),
      make("th", { class: "number" }, "time"), make("th", { class: "number" }, "share"), make("th", {}))),
    make("tbody", {}, rows, last))), boundsOf(report)];
}

/** Bars on one scale: the step, and what no run can be below. */
function boundsOf(report) {
  const bar = (name, cycles, words, kind) => make("div", { class: `bound ${kind}` },
    make("span", { class: "name" }, name), make("div", { class: "track" },
      make("i", { style: `width:${Math.max(0.15, (100 * cycles) / report.cycles)}%` })),
    make("span", { class: "number" }, `${count(cycles)} cycles`),
    make("span", { class: "number" }, percent(cycles / report.cycles)), make("span", { class: "quiet words" }, words));
  const bars = (bounds, words) => Object.entries(bounds).map(([name, cycles]) => bar(name, cycles, words[name], "low"));
  return make("div", { class: "bounds" },
    make("h3", {}, "How far from the bounds"),
    bar("this step", report.cycles, "simulated", "step"),
    make("h4", {}, "No run of this placement is below"), bars(report.lower_bounds_cycles, BOUND_WORDS),
    make("h4", {}, `No placement of this model on ${report.machine} is below`),
    bars(report.machine_lower_bounds_cycles, MACHINE_BOUND_WORDS));
}

/** The figures that readers ask for first. */
function figuresOf(contents) {
  const { report, machine } = contents;
  const usable = machine.usable.columns * machine.usable.rows;
  const tiles = [
    [seconds(report.seconds_per_token), "a token", `${short(report.cycles_per_token)} cycles at ${short(report.clock_hz / 1e6)} MHz`],
    [short(report.tokens_per_second), "tokens/s", report.batch > 1 ? `batch of ${report.batch}` : "one sequence, one after the other"],
    [count(report.pes), "PEs in blocks", `${percent(report.pes / usable)} of ${count(usable)} usable`],
    [bytes(report.sram_bytes), "SRAM in use", `${percent(report.sram_bytes / (machine.room_bytes * usable))} of ${bytes(machine.room_bytes * usable)}`],
    [percent(report.utilisation), "utilisation", "the weights' multiply-adds, of those that all PEs of the blocks could do"],
  ];
  if (report.pipeline) {
    const { pipeline } = report;
    tiles.push([short(pipeline.tokens_per_second), "tokens/s in flight", `${pipeline.in_flight} steps at once, ${seconds(pipeline.latency_cycles / report.clock_hz)} each`]);
  }
  return tiles.map(([value, unit, words]) => make("div", {}, make("dt", {}, unit), make("dd", {}, value), make("dd", { class: "quiet" }, words)));
}
