// Input: wheel, drag, pinch and keys move an Explorer; a click selects a PE.

const CLICK_DISTANCE = 5; // pixels that a finger may move in a click

class Input {
  constructor(explorer) {
    this.explorer = explorer;
    this.pointers = new Map();
    this.travelled = 0;
    const { canvas } = explorer;
    canvas.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this._down(event));
    canvas.addEventListener("pointermove", (event) => this._move(event));
    canvas.addEventListener("pointerup", (event) => this._up(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => explorer.leave());
    canvas.addEventListener("dblclick", (event) => explorer.zoom(...this._at(event), 2));
    canvas.addEventListener("keydown", (event) => this._key(event));
  }

  _at(event) {
    const box = this.explorer.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  _wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const pixels = Math.max(-240, Math.min(240, event.deltaY * lines));
    this.explorer.zoom(...this._at(event), Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0024)));
  }

  _down(event) {
    this.explorer.canvas.setPointerCapture(event.pointerId);
    if (!this.pointers.size) this.travelled = 0;
    this.pointers.set(event.pointerId, this._at(event));
  }

  _move(event) {
    const now = this._at(event), before = this.pointers.get(event.pointerId);
    if (!before) {
      this.explorer.hover(...now);
      return;
    }
    this.travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) this._pinch(before, now, other);
    else if (this.travelled > CLICK_DISTANCE) this.explorer.pan(now[0] - before[0], now[1] - before[1]);
  }

  /** Two fingers: their distance zooms, their middle pans. */
  _pinch(before, now, other) {
    const distance = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    this.explorer.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.explorer.zoom(...middle, distance(now) / distance(before));
  }

  _up(event) {
    const clicked = this.pointers.delete(event.pointerId) && !this.pointers.size && this.travelled <= CLICK_DISTANCE;
    if (!clicked) return;
    const [x, y] = this.explorer.view.toWafer(...this._at(event)).map(Math.floor);
    this.explorer.select(x, y);
  }

  _key(event) {
    const { explorer } = this, { view, selected } = explorer;
    const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (right || down) {
      if (event.shiftKey && selected) this._step(selected.x + right, selected.y + down);
      else explorer.pan(-right * view.width * 0.12, -down * view.height * 0.12);
    } else if (event.key === "+" || event.key === "=") explorer.zoom(...view.middle, 1.6);
    else if (event.key === "-") explorer.zoom(...view.middle, 1 / 1.6);
    else if (event.key === "0") explorer.fit();
    else if (event.key === "Enter") explorer.select(...view.toWafer(...view.middle).map(Math.floor));
    else if (event.key === "Escape") explorer.select(null);
    else return;
    event.preventDefault();
  }

  _step(x, y) {
    const { explorer } = this;
    if (!explorer.wafer.has(x, y)) return;
    const [left, top] = explorer.view.toScreen(x, y);
    if (!inView(explorer.view, [left, top])) explorer.centre(x, y);
    explorer.select(x, y);
  }
}
