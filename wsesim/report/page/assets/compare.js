// Puts the page of a comparison together.

async function main(contents) {
  const { comparison, said, sides } = contents;
  const all = (text) => [...new Set(comparison.sides.map(text))].join(" and "); // what is alike is said once
  byId("title").textContent = `${all((side) => side.model)} on ${all((side) => side.machine)}: ${comparison.sides.length} runs compared`;
  byId("subtitle").textContent = [
    all((side) => (side.phase === "decode" ? `one token over ${count(side.context)} cached ones` : `a prompt of ${count(side.tokens)} tokens`)),
    `batch ${all((side) => sides[side.side].batch)}`, `timing in ${all((side) => sides[side.side].timing_dtype)}`, "modelled cycles",
  ].join(" · ");

  const wafers = new Wafers(contents), verdict = make("p", { class: "verdict" });
  let shown = comparison.comparisons[0];
  const differences = new Differences(contents, (row) => {
    wafers.mark(shown, row);
    if (row) byId("wafers").scrollIntoView({ behavior: "smooth" });
  });
  wafers.onclear = () => differences.table.pick(null);
  const choices = comparison.comparisons.map((pair) => make("button", { type: "button", class: "layer", "data-pair": pair.b,
    onclick: () => show(pair) }, `${pair.b} against ${pair.a}`));
  function show(pair) {
    shown = pair;
    for (const choice of choices) choice.setAttribute("aria-pressed", choice.dataset.pair === pair.b);
    verdict.textContent = `${pair.b} against ${pair.a}: ${said[pair.b].way.replaceAll(" %", "\u00a0%")}`;
    byId("inputs-body").replaceChildren(...inputsOf(said[pair.b], pair).filter(Boolean));
    wafers.show(pair);
    differences.show(pair);
  }

  byId("runs-body").append(...runsOf(contents), choices.length > 1 ? make("div", { class: "choices", role: "group",
    "aria-label": "The pair that is shown below" }, choices) : "", verdict);
  byId("cycles-body").append(differences.element);
  byId("wafers-body").append(wafers.element);
  byId("footer").append(contents.command ? make("p", {}, "Made by ", make("code", {}, contents.command)) : "",
    `wsesim ${comparison.wsesim_version}, ${Object.entries(contents.versions).map(([name, text]) => `${name} ${text}`).join(", ")}. `
    + "All times are modelled. docs/compare.md says how to read this page.");
  show(shown);
  await wafers.explorers[0]?.show("block");
  themed(() => wafers.explorers[0]?.restyle());
  return { contents, wafers, differences, explorer: wafers.explorers[0], show };
}

start(main);
