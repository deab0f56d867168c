// What saves the pictures of the example page: the large maps, all heads, and the lines from token to token.
import { linesOf, overviewOf, svgOf, tableOf } from "./map_svg.js";
import { table } from "./painting.js";
import { csvOf, row } from "./save.js";

// viewer: the page's; data: what the page brings; heads(state): a promise of the numbers of all heads as CSV.
export function saving(viewer, data, heads) {
  const { state, one, overview, lines } = viewer;
  const light = table(data.scales.difference);
  const views = () => one.views.map(({ title, square }) => ({ ...square, title, colors: square.signed ? light : square.colors }));
  const made = { sql: () => sql(state, data), python: () => python(state, data) };
  const named = (what) => () => [state.run, data.example, ...(what === "heads" ? [] : [`layer${state.layer}`, ...(data.per_layer ? [] : [`head${state.head}`])]), what].join("-");
  one.pins.after(row({ name: named("map"), svg: async (points) => svgOf(views(), points), csv: async () => tableOf(views(), viewer.cells), ...made }));
  const how = () => (viewer.overviews.length > 1 ? { ...viewer.how, colors: light } : viewer.how);
  overview.canvas.parentElement.after(row({ name: named("heads"), svg: async (points) => overviewOf(overview, viewer.overviews, how(), viewer.note, points), csv: () => heads(state), sql: () => sql(state, data, true), python: () => python(state, data, true) }));
  const weights = () => {
    const { shown: { rows, columns }, units: { labels }, drawn } = viewer;
    return csvOf(["from_pos", "to_pos", "from", "to", ...drawn.map((m) => m.head)], rows.flatMap((i, a) => columns.map((j, b) =>
      [i, j, labels[i], labels[j], ...drawn.map((m) => m.values[a * columns.length + b])])));
  };
  const asked = () => sql(state, data, false, [...new Set(viewer.drawn.map((m) => m.head))]);
  const ofLines = { sql: asked, python: () => `${opened()}rows = store.sql(${JSON.stringify(asked())})` };
  lines.root.after(row({ name: named("lines"), svg: async (points) => linesOf(viewer, points), csv: async () => weights(), ...ofLines }));
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

// The weights of word pieces, or of words, which have a table of their own. heads: several, as "layer.head"; every: all of the input.
function sql({ run, against, layer, head, unit }, data, every = false, heads = []) {
  const word = unit === "word";
  const from = `${word ? "word_attention" : "attention"}${data.kind === "weights" ? "" : `(kind := ${quoted(data.kind)})`}`;
  const runs = against ? `run IN (${quoted(run)}, ${quoted(against)})` : `run = ${quoted(run)}`;
  const several = heads.length > 1 && !data.per_layer;
  const one = several ? `(layer, head) IN (${heads.map((place) => `(${place.replace(".", ", ")})`).join(", ")})` : `layer = ${layer}${data.per_layer ? "" : ` AND head = ${head}`}`;
  const which = every ? `example = ${data.example}` : `example = ${data.example} AND ${one}`;
  const names = word ? "from_text, to_text" : "from_token, to_token";
  const places = every || several ? `layer, ${data.per_layer ? "" : "head, "}` : "";
  return `SELECT ${against ? "run, " : ""}${places}from_pos, to_pos, ${names}, weight\nFROM ${from}\nWHERE ${runs} AND ${which}\nORDER BY ALL`;
}

const opened = () => `import attnstore\n\nstore = attnstore.open(${JSON.stringify(document.querySelector(".root").title)})\n`;

function python({ run, against, layer, head }, data, every = false) {
  const kind = data.kind === "weights" ? "" : `, kind=${JSON.stringify(data.kind)}`;
  const all = (name) => `store.maps(${JSON.stringify(name)}, ${data.example}${kind})`;
  if (every) return `${opened()}maps = ${all(run)}  # of word pieces: (layer, head, from, to)${against ? `\nothers = ${all(against)}` : ""}`;
  const one = (name) => `store.map(${JSON.stringify(name)}, ${data.example}, layer=${layer}${data.per_layer ? "" : `, head=${head}`}${kind})`;
  return `${opened()}map_ = ${one(run)}  # of word pieces: map_.weights, map_.texts${against ? `\nother = ${one(against)}` : ""}`;
}
