// Explorer: a canvas of the whole wafer, from blocks to single PEs. Explorers that are linked do all things together.

const GRID_SCALE = 9, VALUE_SCALE = 40, LINKS_SCALE = 66, NAME_SIZES = [13, 12, 11, 10, 9];

class Explorer {
  constructor(wafer) {
    this.wafer = wafer;
    this.layers = layersOf(wafer);
    this.layer = this.layers[0];
    this.option = "";
    this.overlays = { names: true, path: false };
    this.stretched = false;
    this.view = new View(wafer.columns, wafer.rows);
    this.selected = null;
    this.marked = null;
    this.peers = [this];
    this.onselect = () => {};
    this.draw = everyFrame(() => this._draw());
    this.restretch = afterwards(() => this._rescale(), 140);
    this.image = document.createElement("canvas");
    this.image.width = wafer.columns;
    this.image.height = wafer.rows;
    this._build();
    new Input(this);
    new ResizeObserver(() => this._resized()).observe(this.canvas);
  }

  _build() {
    this.canvas = make("canvas", { tabindex: 0, role: "application",
      "aria-label": "Map of the wafer. Arrow keys move, plus and minus zoom, 0 shows all, Enter selects the PE in the middle, "
        + "shift and arrow keys go to the next PE." });
    this.status = make("output", { class: "status" });
    const button = (text, title, act) => make("button", { type: "button", title, "aria-label": title, onclick: act }, text);
    const middle = () => this.view.middle;
    this.buttons = make("div", { class: "zoom" },
      button("+", "Zoom in (+)", () => this.zoom(...middle(), 1.6)),
      button("−", "Zoom out (-)", () => this.zoom(...middle(), 1 / 1.6)),
      button("⤢", "Show the whole wafer (0)", () => this.fit()));
    this.legend = make("div", { class: "legend" });
    this.stage = make("div", { class: "stage" }, this.canvas, this.buttons, this.status);
    this.controls = this._controls();
    this.element = make("div", { class: "explorer" }, this.controls, this.stage);
  }

  _controls() {
    this.choices = this.layers.map((layer) => make("button", { type: "button", class: "layer", "data-layer": layer.id,
      onclick: () => this.show(layer.id) }, layer.name));
    this.stretchBox = make("input", { type: "checkbox", onchange: () => {
      for (const peer of this.peers) peer.stretched = this.stretchBox.checked;
      this._rescale();
    } });
    this.optionBox = make("select", { "aria-label": "Part of the layer",
      onchange: () => this.show(this.layer.id, this.optionBox.value) });
    this.about = make("p", { class: "quiet about" });
    const overlay = (name, text) => make("label", {}, make("input", { type: "checkbox", checked: this.overlays[name], "data-overlay": name,
      onchange: (event) => this.overlay(name, event.target.checked) }), text);
    const { colours } = this.wafer.contents;
    this.pathKey = make("ul", { class: "swatches key", hidden: true }, Object.entries(colours.kinds).map(([kind, colour]) =>
      make("li", {}, make("i", { style: `background:${colour}` }), kind === "network" ? "network (lines)" : kind)));
    const jump = make("select", { "aria-label": "Go to a block", onchange: () => {
      const block = this.wafer.blocks[Number(jump.value)];
      if (block) this.showRect(block);
      jump.value = "";
    } }, make("option", { value: "" }, "Go to a block"),
    this.wafer.blocks.map((block, n) => make("option", { value: n }, block.name)));
    const place = make("input", { type: "text", inputmode: "text", placeholder: "x, y", "aria-label": "Go to a PE: column, row" });
    const goto = make("form", { class: "goto", onsubmit: (event) => {
      event.preventDefault();
      const [x, y] = place.value.split(/[^0-9]+/).filter(Boolean).map(Number);
      const there = Number.isInteger(x) && Number.isInteger(y) && this.wafer.has(x, y);
      place.setCustomValidity(there ? "" : `Columns are 0 to ${this.wafer.columns - 1}, rows 0 to ${this.wafer.rows - 1}`);
      place.reportValidity();
      if (there) this.goTo(x, y);
    } }, place, make("button", {}, "Go"));
    place.addEventListener("input", () => place.setCustomValidity(""));
    return make("div", { class: "controls" },
      make("div", { class: "layers", role: "group", "aria-label": "Layers" }, this.choices),
      this.optionBox, this.about, this.legend,
      make("label", { class: "stretch" }, this.stretchBox, "spread the colours over the values in view"),
      make("div", { class: "overlays" }, overlay("names", "names of blocks"), overlay("path", "critical path"), this.pathKey),
      make("div", { class: "jumps" }, jump, goto));
  }

  /** Explorers that show one layer, part of the wafer and PE from now on, in colours of one scale. */
  static link(explorers) {
    for (const explorer of explorers) explorer.peers = explorers;
  }

  /** Shows a layer. Resolves when it is drawn. */
  async show(id, option) {
    const asked = (this.asked = {});
    for (const peer of this.peers) peer.asked = asked;
    const layers = this.peers.map((peer) => peer.layers.find((each) => each.id === id));
    const chosen = option ?? layers[0].options?.[0][0] ?? "";
    const values = await Promise.all(layers.map((layer) => layer.values(chosen)));
    if (this.asked !== asked) return; // another layer was asked for meanwhile
    this.peers.forEach((peer, n) => Object.assign(peer, { layer: layers[n], option: chosen, values: values[n] }));
    if (id === "path") this.overlay("path", true);
    this._rescale();
  }

  /** Colours for the values of all peers; those in view only, if they are spread. */
  _rescale() {
    if (!this.values) return;
    const limits = this.peers.map((peer) => limitsOf(peer.layer, peer.wafer, peer.values,
      peer.stretched && peer.view.width ? shownPes(peer) : null));
    const common = [Math.min(...limits.map(([low]) => low)), Math.max(...limits.map(([, high]) => high))];
    for (const peer of this.peers) {
      peer.scale = scaleOf(peer.layer, peer.wafer, common);
      peer._paint();
      peer._describe();
      peer._draw();
    }
  }

  overlay(name, shown) {
    for (const peer of this.peers) {
      peer.overlays[name] = shown;
      peer.controls.querySelector(`[data-overlay="${name}"]`).checked = shown;
      peer.pathKey.hidden = !peer.overlays.path;
      peer.draw();
    }
  }

  /** Sets off the blocks of these names against all others; null: no block. */
  mark(names) {
    this.marked = names && new Set(names);
    this.draw();
  }

  /** Colours every PE of the image. Most layers have few values, so each one's colour is kept. */
  _paint() {
    const context = this.image.getContext("2d");
    const image = context.createImageData(this.wafer.columns, this.wafer.rows);
    const pixels = new Uint32Array(image.data.buffer), known = new Map();
    const outside = pixel(rgb(styled("--outside")));
    for (let i = 0; i < pixels.length; i++) {
      const value = this.values[i];
      let colour = known.get(value);
      if (colour === undefined) known.set(value, (colour = pixel(this.scale.colour(value))));
      pixels[i] = colour;
    }
    const { usable } = this.wafer.machine;
    for (let y = 0; y < this.wafer.rows; y++) {
      if (y < usable.y || y >= usable.y + usable.rows) pixels.fill(outside, y * this.wafer.columns, (y + 1) * this.wafer.columns);
      else {
        pixels.fill(outside, this.wafer.index(0, y), this.wafer.index(usable.x, y));
        pixels.fill(outside, this.wafer.index(usable.x + usable.columns, y), (y + 1) * this.wafer.columns);
      }
    }
    context.putImageData(image, 0, 0);
  }

  _describe() {
    for (const choice of this.choices) choice.setAttribute("aria-pressed", choice.dataset.layer === this.layer.id);
    const options = this.layer.options ?? [];
    this.optionBox.hidden = !options.length;
    this.optionBox.replaceChildren(...options.map(([value, name]) => make("option", { value }, name)));
    this.optionBox.value = this.option;
    this.about.textContent = this.layer.about;
    this.stretchBox.parentElement.hidden = !this.scale.ramp;
    this.stretchBox.checked = this.stretched;
    this.legend.replaceChildren(legendOf(this.layer, this.scale));
  }

  zoom(left, top, factor) {
    this.view.zoomAt(left, top, factor);
    this._viewed();
  }

  pan(left, top) {
    this.view.pan(left, top);
    this._viewed();
  }

  fit() {
    this.view.fit();
    this._viewed();
  }

  showRect(rect) {
    this.view.show(rect);
    this._viewed();
  }

  /** Shows a PE in the middle. */
  centre(x, y) {
    this.view.follow({ x: x + 0.5, y: y + 0.5, scale: this.view.scale });
    this._viewed();
  }

  goTo(x, y) {
    this.view.scale = Math.max(this.view.scale, 28);
    this.centre(x, y);
    this.select(x, y);
  }

  select(x, y) {
    for (const peer of this.peers) {
      peer.selected = x != null && peer.wafer.has(x, y) ? { x, y } : null;
      peer.draw();
      peer.onselect(peer.selected);
    }
  }

  /** What the pointer is over, in words. */
  hover(left, top) {
    const [x, y] = this.view.toWafer(left, top).map(Math.floor);
    for (const peer of this.peers) peer.status.textContent = peer.wafer.has(x, y) && peer.values ? peer._words(x, y) : "";
  }

  leave() {
    for (const peer of this.peers) peer.status.textContent = "";
  }

  _words(x, y) {
    const value = this.values[this.wafer.index(x, y)], block = this.wafer.block(x, y);
    const option = (this.layer.options ?? []).find(([id]) => id === this.option);
    const told = this.layer.unit ? ` · ${option ? `${option[1]}: ` : ""}${count(value)} ${this.layer.unit}` : "";
    return `PE (${x}, ${y}) · ${block ? block.name : "no block"}${told}`;
  }

  _viewed() {
    for (const { view, draw } of this.peers) {
      view.follow(this.view);
      draw();
    }
    if (this.stretched) this.restretch();
  }

  _resized() {
    this.view.resize(this.canvas.clientWidth, this.canvas.clientHeight);
    this.draw();
  }

  /** New colours of the style: after a change of theme. */
  restyle() {
    if (this.values) this.show(this.layer.id, this.option);
  }

  _draw() {
    if (!this.scale || !this.view.width) return;
    const context = fitted(this.canvas), { view, wafer } = this;
    context.fillStyle = styled("--canvas");
    context.fillRect(0, 0, view.width, view.height);
    const [left, top] = view.toScreen(0, 0);
    context.imageSmoothingEnabled = view.scale * (window.devicePixelRatio || 1) < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, left, top, wafer.columns * view.scale, wafer.rows * view.scale);
    drawGrid(context, this);
    drawBlocks(context, this);
    drawMarked(context, this);
    if (this.overlays.path && wafer.pathSteps) drawPath(context, this);
    else if (this.overlays.path) wafer.path().then(() => this.draw());
    drawNames(context, this);
    drawDead(context, this);
    drawSelected(context, this);
    drawAxes(context, view);
  }
}

/** The legend of a layer: a ramp with ticks and the unit, or a swatch for each kind. */
function legendOf(layer, scale) {
  if (!scale.ramp) {
    return make("ul", { class: "swatches" }, scale.swatches.map(([name, colour]) =>
      make("li", {}, make("i", { style: `background:${css(colour)}` }), name)));
  }
  const stops = RAMPS[scale.ramp].map((colour, i, all) => `${colour} ${(100 * i) / (all.length - 1)}%`);
  return make("div", { class: "ramp" },
    make("div", { class: "bar", style: `background:linear-gradient(to right, ${stops.join(", ")})` }),
    make("div", { class: "ticks" }, scale.ticks.map((value, n) => {
      const at = 100 * scale.share(value);
      const side = at < 4 ? "first" : n === scale.ticks.length - 1 ? "last" : "";
      return make("span", { style: `left:${at}%`, class: side }, count(value));
    })),
    make("p", { class: "quiet" }, `${layer.unit}${layer.scale === "log" ? ", logarithmic" : ""}; PEs with 0 stay empty`));
}
