// What the explorer draws above the coloured PEs.

/** The PEs that a canvas shows, as the first and the last column and row. */
function shownPes({ view, wafer }) {
  const [x0, y0] = view.toWafer(0, 0), [x1, y1] = view.toWafer(view.width, view.height);
  return {
    x0: Math.max(0, Math.floor(x0)), y0: Math.max(0, Math.floor(y0)),
    x1: Math.min(wafer.columns - 1, Math.floor(x1)), y1: Math.min(wafer.rows - 1, Math.floor(y1)),
  };
}

/** Lines between PEs and their values, where there is room. */
function drawGrid(context, explorer) {
  const { view, wafer, layer } = explorer;
  if (view.scale < GRID_SCALE) return;
  const { x0, y0, x1, y1 } = shownPes(explorer);
  context.beginPath();
  for (let x = x0; x <= x1 + 1; x++) line(context, view.toScreen(x, y0), view.toScreen(x, y1 + 1));
  for (let y = y0; y <= y1 + 1; y++) line(context, view.toScreen(x0, y), view.toScreen(x1 + 1, y));
  context.strokeStyle = styled("--canvas");
  context.lineWidth = Math.min(2, view.scale / 20);
  context.stroke();
  if (view.scale < VALUE_SCALE || !layer.unit) return;
  context.font = `${Math.min(14, view.scale / 4)}px ${styled("--font")}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const links = view.scale >= LINKS_SCALE && explorer.option === "busiest" ? wafer.linksAtHand : null;
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const at = wafer.index(x, y), value = explorer.values[at];
      if (!value) continue;
      context.fillStyle = isDark(explorer.scale.colour(value)) ? "#ffffff" : "#111111";
      if (links) drawLinks(context, view, x, y, links.map((values) => values[at]));
      else context.fillText(count(value), ...view.toScreen(x + 0.5, y + 0.5));
    }
  }
}

/** The wavelets of a router's four links, each at its side with an arrow. */
function drawLinks(context, view, x, y, wavelets) {
  const places = [["→", 0.76, 0.5], ["←", 0.24, 0.5], ["↑", 0.5, 0.2], ["↓", 0.5, 0.8]];
  context.font = `${Math.min(12, view.scale / 6.5)}px ${styled("--font")}`;
  places.forEach(([arrow, right, down], n) => {
    if (wavelets[n]) context.fillText(`${arrow}${count(wavelets[n])}`, ...view.toScreen(x + right, y + down));
  });
}

function line(context, from, to) {
  context.moveTo(...from);
  context.lineTo(...to);
}

/** Outlines of the blocks, and the names that fit. */
function drawBlocks(context, explorer) {
  const { view, wafer } = explorer;
  context.strokeStyle = styled("--outline");
  context.lineWidth = 1;
  for (const block of wafer.blocks) {
    const [left, top] = view.toScreen(block.x, block.y);
    const [right, bottom] = view.toScreen(block.x + block.extent.columns, block.y + block.extent.rows);
    if (left > view.width || top > view.height || right < 0 || bottom < 0) continue;
    const edges = [left, top, right, bottom].map(Math.round);
    context.strokeRect(edges[0] + 0.5, edges[1] + 0.5, edges[2] - edges[0] - 1, edges[3] - edges[1] - 1);
  }
}

/** A veil over all but the marked blocks, and an outline of these. */
function drawMarked(context, { view, wafer, marked }) {
  if (!marked) return;
  const veil = new Path2D(), outline = new Path2D();
  veil.rect(0, 0, view.width, view.height);
  for (const { name, x, y, extent } of wafer.blocks) {
    if (!marked.has(name)) continue;
    const box = [...view.toScreen(x, y), extent.columns * view.scale, extent.rows * view.scale];
    veil.rect(...box);
    outline.rect(...box);
  }
  context.fillStyle = styled("--veil");
  context.fill(veil, "evenodd");
  context.strokeStyle = styled("--accent");
  context.lineWidth = 2.5;
  context.stroke(outline);
}

/** The names of the blocks; none above the values of single PEs. */
function drawNames(context, { view, wafer, overlays, layer }) {
  if (!overlays.names || (view.scale >= VALUE_SCALE && layer.unit)) return;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const block of wafer.blocks) {
    const [left, top] = view.toScreen(block.x, block.y);
    const [right, bottom] = view.toScreen(block.x + block.extent.columns, block.y + block.extent.rows);
    drawName(context, block.name, Math.max(left, AXIS_LEFT), Math.max(top, AXIS_TOP), Math.min(right, view.width),
      Math.min(bottom, view.height));
  }
}

/** A name in the middle of what is shown of its block, in the largest size that fits. */
function drawName(context, name, left, top, right, bottom) {
  for (const size of NAME_SIZES) {
    context.font = `600 ${size}px ${styled("--font")}`;
    if (context.measureText(name).width > right - left - 8 || size + 4 > bottom - top) continue;
    const place = [(left + right) / 2, (top + bottom) / 2];
    context.lineWidth = 3;
    context.strokeStyle = styled("--halo");
    context.strokeText(name, ...place);
    context.fillStyle = styled("--ink");
    context.fillText(name, ...place);
    return;
  }
}

/** The critical path: messages as lines along their routes, and a dot in the colour of its kind for each PE that works. */
function drawPath(context, explorer) {
  const { view, wafer } = explorer, { kinds, colours } = wafer.contents, path = wafer.pathSteps;
  const at = (x, y) => view.toScreen(x + 0.5, y + 0.5);
  const moves = new Path2D(), dots = kinds.map(() => new Path2D());
  const radius = Math.max(1.2, Math.min(6, view.scale * 0.16));
  for (let i = 0; i < path.cycles.length; i++) {
    const from = at(path.x[i], path.y[i]), to = at(path.to_x[i], path.to_y[i]);
    if (from[0] !== to[0] || from[1] !== to[1]) {
      line(moves, from, path.downFirst[path.stage[i]] ? [from[0], to[1]] : [to[0], from[1]]);
      moves.lineTo(...to);
    }
    else if (inView(view, to)) {
      dots[path.kind[i]].moveTo(to[0] + radius, to[1]);
      dots[path.kind[i]].arc(...to, radius, 0, 7);
    }
  }
  context.lineCap = "round";
  for (const [colour, width] of [[styled("--halo"), 4], [colours.kinds.network, 1.8]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(moves);
  }
  context.lineCap = "butt";
  kinds.forEach((kind, n) => {
    context.fillStyle = colours.kinds[kind];
    context.fill(dots[n]);
  });
}

const inView = (view, [left, top]) => left > -9 && top > -9 && left < view.width + 9 && top < view.height + 9;

/** Dead PEs, never smaller than a few pixels. */
function drawDead(context, { view, wafer }) {
  if (!wafer.dead.size) return;
  const size = Math.max(view.scale, 4);
  context.beginPath();
  for (const at of wafer.dead) {
    const middle = view.toScreen((at % wafer.columns) + 0.5, Math.floor(at / wafer.columns) + 0.5);
    if (!inView(view, middle) && view.scale < 20) continue;
    const [left, top] = middle.map((value) => value - size / 2);
    line(context, [left, top], [left + size, top + size]);
    line(context, [left + size, top], [left, top + size]);
  }
  context.strokeStyle = styled("--bad");
  context.lineWidth = Math.max(1.5, size / 8);
  context.stroke();
}

/** The selected PE, with a ring around it where it is too small to see. */
function drawSelected(context, { view, selected }) {
  if (!selected) return;
  const [left, top] = view.toScreen(selected.x, selected.y), middle = view.toScreen(selected.x + 0.5, selected.y + 0.5);
  context.beginPath();
  if (view.scale < GRID_SCALE) context.arc(...middle, 9, 0, 7);
  else context.rect(left, top, view.scale, view.scale);
  for (const [colour, width] of [[styled("--halo"), 5], [styled("--accent"), 2.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}

/** Columns along the top and rows along the left side, as numbers. */
function drawAxes(context, view) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500];
  const step = steps.find((n) => n * view.scale >= 56) ?? 1000;
  context.font = `10px ${styled("--font")}`;
  context.fillStyle = styled("--paper");
  context.fillRect(0, 0, view.width, AXIS_TOP);
  context.fillRect(0, AXIS_TOP, AXIS_LEFT, view.height);
  context.fillStyle = styled("--quiet");
  context.textBaseline = "middle";
  const [x0, y0] = view.toWafer(AXIS_LEFT, AXIS_TOP), [x1, y1] = view.toWafer(view.width, view.height);
  context.textAlign = "center";
  for (let x = Math.max(0, Math.ceil(x0 / step) * step); x < Math.min(view.columns, x1); x += step) {
    context.fillText(String(x), view.toScreen(x + 0.5, 0)[0], 8);
  }
  context.textAlign = "right";
  for (let y = Math.max(0, Math.ceil(y0 / step) * step); y < Math.min(view.rows, y1); y += step) {
    context.fillText(String(y), AXIS_LEFT - 5, view.toScreen(0, y + 0.5)[1]);
  }
}
