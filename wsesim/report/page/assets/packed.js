// Reads the arrays that wsesim/report/page/packed.py writes.

const ARRAYS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

async function inflated(text) {
  const raw = atob(text);
  const data = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) data[i] = raw.charCodeAt(i);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** The values, row by row. They are kept after the first call. */
async function unpacked(packed) {
  packed.values ??= inflated(packed.data).then((buffer) => restored(packed, new ARRAYS[packed.bytes](buffer)));
  return packed.values;
}

/** Sums differences up; typed arrays wrap around as the writer did. */
function restored(packed, values) {
  const [rows, columns = 1] = packed.shape;
  if (packed.differences === "rows") {
    for (let i = columns; i < values.length; i++) values[i] += values[i - columns];
  } else if (packed.differences === "columns") {
    for (let y = 0; y < rows; y++) for (let i = y * columns + 1; i < (y + 1) * columns; i++) values[i] += values[i - 1];
  }
  return values;
}
