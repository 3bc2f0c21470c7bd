// Puts the page together.

function titleOf({ report }) {
  const step = report.phase === "decode" ? `one token over ${count(report.context)} cached ones` : `a prompt of ${count(report.tokens)} tokens`;
  byId("title").textContent = `${report.model} on ${report.machine}`;
  byId("subtitle").textContent = `${step} · batch ${report.batch} · placement ${report.strategy} · timing in ${report.timing_dtype} · modelled cycles`;
}

async function main(contents) {
  const wafer = new Wafer(contents), explorer = new Explorer(wafer), inspector = new Inspector(wafer);
  explorer.onselect = (place) => inspector.show(place);
  const timeline = new Timeline(wafer, (x, y) => explorer.goTo(x, y));
  titleOf(contents);
  byId("figures").append(...figuresOf(contents));
  byId("latency-body").append(...latencyOf(contents), timeline.element);
  byId("wafer-body").append(make("div", { class: "wafer" }, explorer.element, inspector.element));
  byId("operators-body").append(new Operators(contents).element);
  byId("compiled-body").append(...compiledOf(contents).filter(Boolean));
  byId("footer").textContent = `wsesim ${contents.report.wsesim_version}. All times are modelled. docs/reports.md says how to read this page.`;
  await explorer.show("block");
  themed(() => { explorer.restyle(); timeline.draw(); });
  await timeline.load();
  return { contents, wafer, explorer, inspector };
}

start(main);
