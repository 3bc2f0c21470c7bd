// View: which part of the wafer a canvas shows. (x, y) is the point in its middle, in PEs; `scale` CSS pixels a PE.

const MOST_SCALE = 120;
const MARGIN = 14;

class View {
  constructor(columns, rows) {
    this.columns = columns;
    this.rows = rows;
    this.width = this.height = 0;
    this.x = columns / 2;
    this.y = rows / 2;
    this.scale = 0;
  }

  get least() {
    return Math.min((this.width - 2 * MARGIN) / this.columns, (this.height - 2 * MARGIN) / this.rows);
  }

  resize(width, height) {
    const whole = this.scale === 0 || this.scale <= this.least * 1.001;
    this.width = width;
    this.height = height;
    if (whole) this.fit();
    else this.clamp();
  }

  fit() {
    this.scale = Math.max(this.least, 1e-3);
    this.x = this.columns / 2;
    this.y = this.rows / 2;
  }

  /** Shows a rectangle of PEs with a margin around it. */
  show({ x, y, columns, rows }) {
    this.scale = 0.86 * Math.min(this.width / columns, this.height / rows);
    this.x = x + columns / 2;
    this.y = y + rows / 2;
    this.clamp();
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  /** The point of the wafer under a point of the canvas, in PEs. */
  toWafer(left, top) {
    return [(left - this.width / 2) / this.scale + this.x, (top - this.height / 2) / this.scale + this.y];
  }

  /** Zooms by `factor`; the point of the wafer at (left, top) stays there. */
  zoomAt(left, top, factor) {
    const [x, y] = this.toWafer(left, top);
    this.scale *= factor;
    this.clamp();
    const [nowX, nowY] = this.toWafer(left, top);
    this.x += x - nowX;
    this.y += y - nowY;
    this.clamp();
  }

  pan(left, top) {
    this.x -= left / this.scale;
    this.y -= top / this.scale;
    this.clamp();
  }

  clamp() {
    this.scale = Math.min(Math.max(MOST_SCALE, this.least), Math.max(this.least, 1e-3, this.scale));
    const inside = (at, length, shown) => {
      const half = shown / 2 / this.scale, margin = MARGIN / this.scale;
      if (2 * half >= length + 2 * margin) return length / 2;
      return Math.min(length + margin - half, Math.max(half - margin, at));
    };
    this.x = inside(this.x, this.columns, this.width);
    this.y = inside(this.y, this.rows, this.height);
  }
}
