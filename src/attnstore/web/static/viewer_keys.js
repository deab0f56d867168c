// Keys of the viewer: arrows from head to head, j and k from token to token, Escape for all lines, w words, l a
// linear scale, f each map's own range, s special tokens, b texts of a pair, < and > the threshold, m keeps a
// head's lines, + - 0 zoom, e a large map.
const SPECIALS = ["keep", "drop", "renormalise"], SENTENCES = ["", "ab", "ba", "aa", "bb"];
const STEPS = 20; // of the threshold, at equal distances of its root

const next = (list, now) => list[(list.indexOf(now) + 1) % list.length];
const other = (now, a, b) => (now === a ? b : a);

// What a key does; nothing where it has nothing to do, so that arrows scroll.
export function actOf(viewer, { key, target }) {
  const { data, state, shares } = viewer;
  const { layers, heads } = data;
  const { layer, head, token, least } = state;
  const rows = viewer.shown?.rows ?? [];
  const i = layers.indexOf(layer), j = heads.indexOf(head), at = rows.indexOf(token);
  const set = (change) => () => viewer.set(change);
  const toHead = (there, change) => there && !(viewer.elsewhere && !viewer.root.contains(target)) && set(change);
  const threshold = (by) => Math.round(Math.min(1, Math.max(0, Math.round(Math.sqrt(least) * STEPS) + by) / STEPS) ** 2 * 1e4) / 1e4;
  return {
    ArrowLeft: toHead(j > 0, { head: heads[j - 1] }),
    ArrowRight: toHead(j < heads.length - 1, { head: heads[j + 1] }),
    ArrowUp: toHead(i > 0, { layer: layers[i - 1] }),
    ArrowDown: toHead(i < layers.length - 1, { layer: layers[i + 1] }),
    j: set({ token: rows[at < 0 ? 0 : Math.min(at + 1, rows.length - 1)] ?? null }),
    k: set({ token: rows[at < 0 ? rows.length - 1 : Math.max(at - 1, 0)] ?? null }),
    Escape: set({ token: null }),
    l: set({ scale: other(state.scale, "linear", "root") }),
    f: set({ range: other(state.range, "map", "fixed") }),
    w: set({ unit: other(state.unit, "word", "piece") }),
    s: data.special.some(Boolean) && set({ specials: next(shares ? SPECIALS : SPECIALS.slice(0, 2), state.specials) }),
    b: data.texts.length > 1 && set({ sentences: next(SENTENCES, state.sentences) }),
    "<": set({ least: threshold(-1) }),
    ">": set({ least: threshold(1) }),
    m: !data.per_layer && (() => viewer.mark({ layer, head })),
    "+": () => viewer.one.zoom(0.5),
    "-": () => viewer.one.zoom(2),
    0: set({ zoom: null }),
    e: set({ large: !state.large }),
  }[key];
}
