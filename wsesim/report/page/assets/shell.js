// What every page has: a choice of theme, and a line if it cannot be drawn.

/** A button that goes through system, light and dark. */
function themed(onchange) {
  const themes = ["auto", "light", "dark"], button = byId("theme"), root = document.documentElement;
  const apply = (theme) => {
    root.dataset.theme = theme;
    button.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[theme];
    onchange();
  };
  button.addEventListener("click", () => apply(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onchange);
  apply("auto");
}

/** Draws a page with `main`, whose result stands in `window.wsesimReport`. A failure is told on the page. */
function start(main) {
  main(JSON.parse(byId("contents").textContent)).then((made) => {
    window.wsesimReport = { ...made, drawnAfterMs: performance.now() };
    document.documentElement.dataset.ready = "true";
  }).catch((error) => {
    const note = byId("failure");
    note.hidden = false;
    note.textContent = typeof DecompressionStream === "undefined"
      ? "This browser is too old to unpack the page: it has no DecompressionStream."
      : `The page could not be drawn: ${error.message}`;
    throw error;
  });
}
