// View: which part of the wafer a canvas shows. (x, y) is the point in its middle, in PEs; `scale` CSS pixels a PE.

// Numbers of columns and rows stand in a band along the top and the left side of the canvas.

const MOST_SCALE = 120;
const MARGIN = 10;
const AXIS_LEFT = 34, AXIS_TOP = 16;

class View {
  constructor(columns, rows) {
    this.columns = columns;
    this.rows = rows;
    this.width = this.height = 0;
    this.x = columns / 2;
    this.y = rows / 2;
    this.scale = 0;
  }

  /** The part of the canvas beside the bands. */
  get inner() {
    return { width: Math.max(1, this.width - AXIS_LEFT), height: Math.max(1, this.height - AXIS_TOP) };
  }

  /** The point of the canvas that shows (x, y). */
  get middle() {
    return [(this.width + AXIS_LEFT) / 2, (this.height + AXIS_TOP) / 2];
  }

  get least() {
    const { width, height } = this.inner;
    return Math.max(1e-3, Math.min((width - 2 * MARGIN) / this.columns, (height - 2 * MARGIN) / this.rows));
  }

  resize(width, height) {
    const whole = this.scale === 0 || this.scale <= this.least * 1.001;
    this.width = width;
    this.height = height;
    if (whole) this.fit();
    else this.clamp();
  }

  fit() {
    this.scale = this.least;
    this.x = this.columns / 2;
    this.y = this.rows / 2;
  }

  /** Shows a rectangle of PEs with a margin around it. */
  show({ x, y, columns, rows }) {
    this.scale = 0.86 * Math.min(this.inner.width / columns, this.inner.height / rows);
    this.x = x + columns / 2;
    this.y = y + rows / 2;
    this.clamp();
  }

  /** Shows the same PEs as another view, as far as this wafer has them. */
  follow({ x, y, scale }) {
    Object.assign(this, { x, y, scale });
    this.clamp();
  }

  toScreen(x, y) {
    const [left, top] = this.middle;
    return [(x - this.x) * this.scale + left, (y - this.y) * this.scale + top];
  }

  /** The point of the wafer under a point of the canvas, in PEs. */
  toWafer(left, top) {
    const [midLeft, midTop] = this.middle;
    return [(left - midLeft) / this.scale + this.x, (top - midTop) / this.scale + this.y];
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
    this.scale = Math.min(Math.max(MOST_SCALE, this.least), Math.max(this.least, this.scale));
    const inside = (at, length, shown) => {
      const half = shown / 2 / this.scale, margin = MARGIN / this.scale;
      if (2 * half >= length + 2 * margin) return length / 2;
      return Math.min(length + margin - half, Math.max(half - margin, at));
    };
    this.x = inside(this.x, this.columns, this.inner.width);
    this.y = inside(this.y, this.rows, this.inner.height);
  }
}
