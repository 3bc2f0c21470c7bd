// What was compiled, and with what.

function compiledOf(contents) {
  const { report, machine, versions, command } = contents;
  const step = report.phase === "decode" ? `one decode step over ${count(report.context)} cached tokens` : `a prompt of ${count(report.tokens)} tokens`;
  const code = make("code", {}, command);
  const copy = make("button", { type: "button", onclick: () => {
    if (navigator.clipboard) navigator.clipboard.writeText(command).catch(() => getSelection().selectAllChildren(code));
    else getSelection().selectAllChildren(code);
  } }, "Copy");
  const forms = Object.entries(report.forms).map(([role, names]) => `${role} ${names.join("/")}`).join(", ");
  const differs = report.machine_differences.map(({ field, base, value }) => `${field} ${base} → ${value}`).join(", ");
  return [
    make("div", { class: "command" }, code, copy),
    facts([
      ["Model", report.model],
      ["Step", `${step}, batch ${report.batch}`],
      ["Machine", `${report.machine}: ${machine.usable.columns} x ${machine.usable.rows} usable PEs at ${short(report.clock_hz / 1e6)} MHz`],
      ...(differs ? [[`Differs from ${report.machine_base}`, differs]] : []),
      ["Dead PEs", count(machine.dead.length)],
      ["Software", report.software],
      ...(forms ? [["Forms of kernels", forms]] : []),
      ["Placement", `${report.strategy}: ${contents.blocks.length} blocks, ${count(report.pes)} PEs`],
      ["Timing in", report.timing_dtype],
      ["Padding", `${percent(report.padding_share)} of the multiply-adds`],
      ["Out of order", `${count(report.late_requests)} of ${count(report.link_events)} link requests; 0 means that the order is exact`],
      ["Program", make("code", {}, report.program)],
      ["Versions", [`wsesim ${report.wsesim_version}`, ...Object.entries(versions).map(([name, text]) => `${name} ${text}`)].join(", ")],
    ]),
    details("Blocks", blocksTable(contents)),
    details("Every number of the machine", facts(Object.entries(machine.fields).map(([name, value]) => [name, String(value)]))),
    machine.assumptions.length ? details("Assumptions of the machine", make("ul", {}, machine.assumptions.map((text) => make("li", {}, text)))) : null,
    details("Stretches of the critical path", stretchesTable(contents)),
  ];
}

const details = (title, content) => make("details", {}, make("summary", {}, title), content);

function plainTable(headings, rows) {
  const cell = (value, n, tag) => make(tag, { class: n ? "number" : "" }, value);
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, headings.map((text, n) => cell(text, n, "th")))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((value, n) => cell(value, n, "td")))))));
}

function blocksTable({ blocks, machine }) {
  return plainTable(["block", "stages", "column", "row", "PEs", "weights, B a PE", "KV cache, B a PE", "buffers, B a PE", "free, B a PE"],
    blocks.map((b) => [b.name, b.stages.join(", "), b.x, b.y, `${b.columns} x ${b.rows}`, count(b.weight_bytes), count(b.kv_bytes),
      count(b.buffer_bytes), count(machine.room_bytes - b.weight_bytes - b.kv_bytes - b.buffer_bytes)]));
}

function stretchesTable({ stretches }) {
  return plainTable(["operator", "kind", "stretches", "cycles", "longest, cycles", "at cycle", "segment", "from PE", "to PE"],
    stretches.map((s) => [s.operator, s.kind, count(s.count), count(s.cycles), count(s.longest_cycles), count(s.start_cycle), s.segment,
      s.pe.join(", "), s.to_pe.join(", ")]));
}
