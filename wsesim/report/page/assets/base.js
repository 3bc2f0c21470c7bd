// Small helpers: elements, numbers with their units.

/** An element with attributes and children. Texts become text nodes, so no name can inject markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

const byId = (id) => document.getElementById(id);
const integers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (value) => integers.format(value);

/** At most four digits that mean something. */
function short(value) {
  const size = Math.abs(value);
  if (size >= 1000 || Number.isInteger(value)) return count(value);
  return String(Number(value.toPrecision(3)));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function scaled(value, units) {
  for (const [unit, size] of units) if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(4))} ${unit}`;
  const [unit, size] = units[units.length - 1];
  return `${Number((value / size).toPrecision(4))} ${unit}`;
}

const seconds = (value) => scaled(value, [["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9]]);
const bytes = (value) => scaled(value, [["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]]);
const exactBytes = (value) => `${count(value)} B`;
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** `callback` at most once a frame. */
function everyFrame(callback) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      callback();
    });
  };
}

/** `callback` once, when it has not been asked for `wait_ms`. */
function afterwards(callback, wait_ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(callback, wait_ms);
  };
}

/** A colour of the style, such as --ink. */
const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A canvas whose pixels are those of the screen. Returns its context, in CSS pixels. */
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
