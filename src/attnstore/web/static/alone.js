// The viewer in a document of its own: weights are in the page, nothing is fetched.
import { part, shownTokens, units } from "./shown_tokens.js";
import { bind, showSwitches } from "./switches.js";
import { Viewer } from "./viewer.js";

const alone = JSON.parse(document.getElementById("data").textContent);

// float16, little-endian, as numbers.
function halves(bytes) {
  const table = new Float32Array(65536);
  for (let h = 0; h < 65536; h++) {
    const exponent = (h >> 10) & 31, fraction = h & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
    table[h] = h >> 15 ? -size : size;
  }
  return Float32Array.from(new Uint16Array(bytes), (h) => table[h]);
}

async function unpacked() {
  const packed = Uint8Array.from(atob(alone.maps), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return halves(await new Response(stream).arrayBuffer());
}

// Word pieces to words: the mean over the pieces of the word that attends, the sum over those of
// the word that is attended to.
function merged(map) {
  const n = alone.tokens.length, { starts } = alone, m = starts.length;
  const found = new Float32Array(m * m);
  for (let a = 0; a < m; a++) {
    const end = starts[a + 1] ?? n;
    for (let b = 0; b < m; b++) {
      let sum = 0;
      for (let i = starts[a]; i < end; i++) for (let j = starts[b]; j < (starts[b + 1] ?? n); j++) sum += map[i * n + j];
      found[a * m + b] = sum / (end - starts[a]);
    }
  }
  return found;
}

// FILE.html#/2/5 begins with layer 2, head 5.
const [, layer, head] = location.hash.split("/").map(Number);
if (alone.layers.includes(layer) && alone.heads.includes(head)) Object.assign(alone.state, { layer, head });

const weights = unpacked();
const maps = async (unit) => {
  const all = await weights;
  const size = alone.tokens.length ** 2;
  return Array.from({ length: all.length / size }, (_, i) => {
    const map = all.subarray(i * size, (i + 1) * size);
    return unit === "word" ? merged(map) : map;
  });
};
const kept = new Map();
const once = (unit) => kept.get(unit) ?? kept.set(unit, maps(unit)).get(unit);
const viewer = new Viewer(document.getElementById("viewer"), alone, {
  async all(_, state) {
    const found = await once(state.unit);
    const all = units(alone, state.unit), cells = shownTokens(all, state);
    const size = cells.rows.length * cells.columns.length;
    const bytes = new Uint8Array(found.length * size);
    found.forEach((map, i) => part(map, all.labels.length, cells, state.specials === "renormalise" ? all.special : null)
      .forEach((w, k) => { bytes[i * size + k] = Math.round(255 * Math.sqrt(Math.max(0, Math.min(1, w)))); }));
    return { bytes, side: cells.rows.length, across: cells.columns.length, top: 1 };
  },
  async one(_, layer, head, unit) {
    return (await once(unit))[alone.layers.indexOf(layer) * alone.heads.length + alone.heads.indexOf(head)];
  },
}, (state) => showSwitches(switches, state));
const switches = document.getElementById("controls");
bind(switches, viewer);
viewer.draw();
document.addEventListener("keydown", (event) => {
  if (!(event.target.matches("input, select") && event.key.startsWith("Arrow"))) viewer.key(event);
});
