// Ramps from low to high whose lightness rises all the way, so that readers with any colour vision can order them.

const RAMPS = {
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
  inferno: ["#160b39", "#420a68", "#6a176e", "#932667", "#bc3754", "#dd513a", "#f37819", "#fca50a", "#f6d746", "#fcffa4"],
};

function rgb(hex) {
  const text = hex.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/** The colour at `share` from 0 to 1. */
function ramped(name, share) {
  const stops = RAMPS[name];
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const below = Math.min(stops.length - 2, Math.floor(place));
  const [from, to] = [rgb(stops[below]), rgb(stops[below + 1])];
  return from.map((value, i) => Math.round(value + (to[i] - value) * (place - below)));
}

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
/** As an entry of a Uint32Array over the pixels of an ImageData. */
const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const mixed = (a, b, share) => a.map((value, i) => Math.round(value + (b[i] - value) * share));
const isDark = ([red, green, blue]) => 0.3 * red + 0.59 * green + 0.11 * blue < 140;
