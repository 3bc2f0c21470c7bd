// Timeline: the critical path over time. Each pixel's column shows the kinds of its cycles, the band above the stages.

const BAND = 18, PLOT = 74, AXIS = 20;

class Timeline {
  constructor(wafer, onpick) {
    this.wafer = wafer;
    this.onpick = onpick;
    this.draw = everyFrame(() => this._draw());
    this.canvas = make("canvas", { class: "timeline", style: `height:${BAND + PLOT + AXIS}px`,
      "aria-label": "Critical path over time", role: "img" });
    this.said = make("output", { class: "quiet" }, "");
    this.back = make("button", { type: "button", hidden: true, onclick: () => this._range(this.path.start[0], this.path.end) }, "whole step");
    this.element = make("div", { class: "timeline-box" }, make("h3", {}, "The critical path over time"),
      make("p", { class: "quiet" }, "Point at it to read a cycle. Drag to zoom into a part. Click to find the PE on the wafer."),
      this.canvas, make("div", { class: "line" }, this.said, this.back));
    this._listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  async load() {
    this.path = await this.wafer.path();
    this._range(this.path.start[0], this.path.end);
  }

  _range(from, to) {
    [this.from, this.to] = [from, to];
    this.back.hidden = from === this.path.start[0] && to === this.path.end;
    this.draw();
  }

  _cycle(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return this.from + share * (this.to - this.from);
  }

  /** The step of the path at a cycle, by bisection. */
  _stepAt(cycle) {
    let [low, high] = [0, this.path.start.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.path.start[middle] <= cycle) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  _listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.drag = [this._cycle(event), event.clientX]; });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.path) return;
      this.pointed = this._cycle(event);
      this._say(this._stepAt(this.pointed));
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.path || !this.drag) return;
      const [start, left] = this.drag, end = this._cycle(event);
      this.drag = null;
      if (Math.abs(event.clientX - left) > 6) this._range(Math.min(start, end), Math.max(start, end));
      else this._pick(this._stepAt(end));
    });
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    canvas.addEventListener("pointerleave", () => { this.pointed = null; this.draw(); });
  }

  _pick(i) {
    this._say(i);
    this.onpick(this.path.to_x[i], this.path.to_y[i]);
  }

  _say(i) {
    const { path } = this, kind = this.wafer.contents.kinds[path.kind[i]];
    const from = `PE (${path.x[i]}, ${path.y[i]})`, to = `PE (${path.to_x[i]}, ${path.to_y[i]})`;
    const where = from === to ? `on ${from}` : `from ${from} to ${to}`;
    this.said.textContent = `Cycle ${count(path.start[i])} to ${count(path.start[i] + path.cycles[i])}: ${kind}, `
      + `${path.operators[path.operator[i]]} of ${path.stages[path.stage[i]]}, ${where}`;
  }

  _draw() {
    if (!this.path || !this.canvas.clientWidth) return;
    const context = fitted(this.canvas), width = this.canvas.clientWidth;
    context.clearRect(0, 0, width, BAND + PLOT + AXIS);
    this._drawKinds(context, width);
    this._drawStages(context, width);
    this._drawAxis(context, width);
    if (this.pointed == null) return;
    const at = (cycle) => ((cycle - this.from) / (this.to - this.from)) * width;
    context.fillStyle = styled("--accent");
    context.fillRect(at(this.pointed) - 0.75, 0, 1.5, BAND + PLOT);
    if (!this.drag) return;
    context.globalAlpha = 0.2;
    context.fillRect(at(this.drag[0]), 0, at(this.pointed) - at(this.drag[0]), BAND + PLOT);
    context.globalAlpha = 1;
  }

  _drawKinds(context, width) {
    const { path, wafer } = this, { kinds, colours } = wafer.contents, each = (this.to - this.from) / width;
    const shares = kinds.map(() => new Float64Array(width));
    for (let i = this._stepAt(this.from); i < path.cycles.length && path.start[i] < this.to; i++) {
      const begin = Math.max(0, (path.start[i] - this.from) / each);
      const end = Math.min(width, (path.start[i] + path.cycles[i] - this.from) / each);
      for (let column = Math.floor(begin); column < end; column++) {
        shares[path.kind[i]][column] += Math.min(end, column + 1) - Math.max(begin, column);
      }
    }
    for (let column = 0; column < width; column++) {
      let bottom = BAND + PLOT;
      kinds.forEach((kind, n) => {
        const height = shares[n][column] * PLOT;
        context.fillStyle = colours.kinds[kind];
        context.fillRect(column, bottom - height, 1.02, height);
        bottom -= height;
      });
    }
  }

  _drawStages(context, width) {
    const { path } = this, at = (cycle) => ((cycle - this.from) / (this.to - this.from)) * width;
    context.font = `11px ${styled("--font")}`;
    context.textBaseline = "middle";
    let i = this._stepAt(this.from), number = 0;
    while (i < path.cycles.length && path.start[i] < this.to) {
      let next = i;
      while (next < path.cycles.length && path.stage[next] === path.stage[i]) next++;
      const end = next < path.cycles.length ? path.start[next] : path.end;
      const left = Math.max(0, at(path.start[i])), right = Math.min(width, at(end));
      context.fillStyle = styled(path.stage[i] % 2 ? "--band" : "--empty");
      context.fillRect(left, 0, right - left, BAND - 3);
      const name = path.stages[path.stage[i]];
      const shown = [name, name.replace(/^layer/, "")].find((text) => context.measureText(text).width < right - left - 6);
      context.fillStyle = styled("--ink");
      if (shown) context.fillText(shown, left + (right - left - context.measureText(shown).width) / 2, (BAND - 3) / 2 + 0.5);
      i = next;
      number++;
    }
  }

  _drawAxis(context, width) {
    const span = this.to - this.from, rough = span / Math.max(2, width / 120), power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
    context.font = `11px ${styled("--font")}`;
    context.fillStyle = styled("--quiet");
    context.textBaseline = "top";
    for (let cycle = Math.ceil(this.from / step) * step; cycle <= this.to; cycle += step) {
      const left = ((cycle - this.from) / span) * width, text = count(cycle);
      context.fillRect(left, BAND + PLOT, 1, 4);
      const wide = context.measureText(text).width;
      context.textAlign = "left";
      if (left + wide / 2 < width - 44) context.fillText(text, Math.max(0, left - wide / 2), BAND + PLOT + 6);
    }
    context.textAlign = "right";
    context.fillText("cycles", width, BAND + PLOT + 6);
    context.textAlign = "left";
  }
}
