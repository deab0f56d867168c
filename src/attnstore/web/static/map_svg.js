// Maps for a paper: each with its tokens as letters, the titles of both axes, its cells as one picture, and a scale.
//
// svgOf(views, points)  the text of an SVG so many points wide: up to three maps beside one another where it is
//                       as wide as two columns, else below one another
// overviewOf(overview, overviews, how, said, points)  all heads, as an `Overview` draws them; said: what colors mean
// linesOf(viewer, points)  the lines from token to token that a viewer shows
// tableOf(views, positions)  the numbers of maps as CSV; positions: { rows, columns } of the tokens
//   views: { title, down, across, values, shades, colors, top, signed, root, least, gray } as a `Square` holds them
import { endOf, hundredths, inkOn, picture, shown } from "./painting.js";
import { csvOf, FONT } from "./save.js";

const SPACE = "http://www.w3.org/2000/svg";
const GAP = 14, EDGE = 10, LARGEST = 15; // points: between maps, of an axis title, of a cell
const SMALLEST = 4.5, LETTERS = 7.5; // points of letters
const WRITTEN = 12; // points of a cell in which its number has room
const WIDE = 400; // points from which maps stand beside one another
const SHARP = 1200; // pixels of a picture's longer side at least, so that no reader blurs its cells

const hex = (bands) => `#${bands.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
const element = (name, about = {}, text = null) => {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(about)) made.setAttribute(key, typeof value === "number" ? Math.round(value * 100) / 100 : value);
  if (text !== null) made.textContent = text;
  return made;
};

const paper = () => element("svg", { xmlns: SPACE, "font-family": FONT, "font-size": LETTERS, fill: "#1b1e23" });
function written(root, width, height) {
  const about = { width: `${width}pt`, height: `${Math.ceil(height)}pt`, viewBox: `0 0 ${width} ${Math.ceil(height)}` };
  for (const [name, value] of Object.entries(about)) root.setAttribute(name, value);
  return new XMLSerializer().serializeToString(root);
}

export function svgOf(views, points) {
  const beside = points >= WIDE ? views.length : 1;
  const each = (points - GAP * (beside - 1)) / beside;
  const root = paper();
  let top = 0, high = 0;
  views.forEach((view, k) => {
    if (k && k % beside === 0) { top += high + GAP; high = 0; }
    const group = element("g", { transform: `translate(${(k % beside) * (each + GAP)} ${top})` });
    high = Math.max(high, one(group, view, each, views.length > 1));
    root.append(group);
  });
  return written(root, points, top + high);
}

// Draw a map into a group; returns its height.
function one(group, view, width, titled) {
  const { down, across } = view;
  const fit = (labels) => Math.max(SMALLEST, Math.min(LETTERS, (width * 0.8) / labels.length));
  const room = (labels) => EDGE + Math.min(Math.max(...labels.map((l) => [...shown(l)].length)) * fit(labels) * 0.56 + 4, width * 0.28);
  const left = room(down), above = room(across) + (titled ? 12 : 0);
  const cell = Math.min((width - left - 1) / across.length, LARGEST);
  const wide = cell * across.length, deep = cell * down.length;
  if (titled) group.append(element("text", { x: left, y: 8 }, view.title));
  group.append(element("image", { href: pixels(view), x: left, y: above, width: wide, height: deep, preserveAspectRatio: "none", "image-rendering": "pixelated" }));
  group.append(element("text", { x: left + wide / 2, y: (titled ? 12 : 0) + 7, "text-anchor": "middle" }, "to"));
  group.append(element("text", { transform: `translate(7 ${above + deep / 2}) rotate(-90)`, "text-anchor": "middle" }, "from"));
  labels(group, down, cell, left - EDGE, (i, size) => ({ x: left - 2.5, y: above + (i + 0.5) * cell + size * 0.35, "text-anchor": "end" }));
  labels(group, across, cell, room(across) - EDGE, (j, size) => ({ transform: `translate(${left + (j + 0.5) * cell + size * 0.35} ${above - 2.5}) rotate(-90)` }));
  if (cell >= WRITTEN) numbers(group, view, left, above, cell);
  scale(group, view, left, above + deep + 7, Math.min(96, wide * 0.6));
  return above + deep + 17;
}

function labels(group, texts, cell, room, place) {
  const size = Math.max(SMALLEST, Math.min(LETTERS, cell * 0.92));
  const every = Math.ceil(size / (cell + 0.3));
  const longest = Math.max(3, Math.floor(room / (size * 0.56)));
  texts.forEach((text, i) => { if (i % every === 0) group.append(element("text", { ...place(i, size), "font-size": size }, shown(text, longest))); });
}

const fills = (view) => (view.gray ? Uint8Array.from({ length: 768 }, (_, i) => view.gray[i % 3]) : view.colors);

// The cells as a PNG whose pixels each cell fills evenly.
function pixels(view) {
  const [width, height] = [view.across.length, view.down.length];
  const times = Math.max(1, Math.ceil(SHARP / Math.max(width, height)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: width * times, height: height * times });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(view.shades, width, height, fills(view)), 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL();
}

function numbers(group, view, left, above, cell) {
  const at = view.shades, colors = fills(view), size = cell * 0.4;
  view.values.forEach((value, k) => {
    if (Math.abs(value) < Math.max(view.least, 0.005)) return;
    const fill = inkOn(colors.subarray(3 * at[k], 3 * at[k] + 3));
    const [i, j] = [Math.floor(k / view.across.length), k % view.across.length];
    const about = { x: left + (j + 0.5) * cell, y: above + (i + 0.5) * cell + size * 0.35, "text-anchor": "middle", "font-size": size, fill };
    group.append(element("text", about, hundredths(value)));
  });
}

function scale(group, view, left, top, long) {
  const written = endOf(view.top);
  const text = (x, anchor, said) => group.append(element("text", { x, y: top + 6.3, "text-anchor": anchor }, said));
  if (view.gray) {
    group.append(element("rect", { x: left, y: top, width: 16, height: 7, fill: hex(view.gray) }));
    return text(left + 20, "start", `${written} everywhere`);
  }
  const steps = 48, lowest = view.signed ? `−${written}` : "0", begin = left + lowest.length * 4.4 + 3;
  for (let i = 0; i < steps; i++) {
    const at = 3 * Math.round((255 * i) / (steps - 1));
    const fill = hex([...view.colors.subarray(at, at + 3)]);
    group.append(element("rect", { x: begin + (i * long) / steps, y: top, width: long / steps + 0.2, height: 7, fill }));
  }
  text(left, "start", lowest);
  text(begin + long + 3, "start", `${written}${view.root ? ", square-root scale" : ""}`);
}

export function tableOf(views, { rows, columns }) {
  const { down, across } = views[0];
  const cells = [];
  rows.forEach((from, i) => columns.forEach((to, j) =>
    cells.push([from, to, down[i], across[j], ...views.map((v) => v.values[i * columns.length + j])])));
  return csvOf(["from_pos", "to_pos", "from", "to", ...(views.length > 1 ? views.map((v) => v.title) : ["value"])], cells);
}

export function overviewOf(overview, overviews, how, said, points) {
  const { layers, heads, named } = overview;
  const left = 18, above = named ? 11 : 2, pitch = Math.min((points - left) / heads.length, 80);
  const pixels = Math.min(240, Math.max(40, Math.floor(4800 / heads.length))), gap = Math.ceil(pixels * 0.04);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: heads.length * (pixels + gap), height: layers.length * (pixels + gap) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  overview.thumbnails(pen, 0, 0, pixels, gap, overviews, how);
  const root = paper(), every = Math.ceil(10 / pitch), wide = pitch * heads.length, deep = pitch * layers.length;
  root.append(element("image", { href: canvas.toDataURL(), x: left, y: above, width: wide, height: deep, preserveAspectRatio: "none" }));
  if (named) heads.forEach((head, j) => j % every || root.append(element("text", { x: left + (j + 0.48) * pitch, y: above - 3, "text-anchor": "middle" }, head)));
  layers.forEach((layer, i) => root.append(element("text", { x: left - 3, y: above + (i + 0.48) * pitch + 2.6, "text-anchor": "end" }, layer)));
  const lines = [""];
  for (const word of said.split(" ")) if ((lines.at(-1).length + word.length) * 3.7 > wide) lines.push(word); else lines[lines.length - 1] += `${lines.at(-1) && " "}${word}`;
  lines.forEach((line, i) => root.append(element("text", { x: left, y: above + deep + 9 + 9 * i }, line)));
  return written(root, points, above + deep + 12 + 9 * (lines.length - 1));
}

export function linesOf({ shown: { rows, columns }, units: { labels: names }, drawn, strongest, least, state }, points) {
  const width = Math.min(points, 300), high = 10.5, text = width * 0.36, begin = (points - width) / 2;
  const [from, to] = [begin + text + 3, begin + width - text - 3];
  const only = rows.indexOf(state.token), root = paper();
  const floor = Math.max(0.02 * strongest, least), longest = Math.floor(text / (LETTERS * 0.56));
  const middle = (i) => (i + 0.5) * high;
  drawn.forEach(({ values, color }, which) => {
    for (let i = only < 0 ? 0 : only; i < (only < 0 ? rows.length : only + 1); i++) {
      columns.forEach((_, j) => {
        const size = Math.abs(values[i * columns.length + j]);
        if (size < floor) return;
        const weight = Math.min(size / strongest, 1);
        const [y, to_y] = [middle(i), middle(j) + (only < 0 ? 0 : 1.5 * which)], bend = (to - from) * 0.4;
        const d = `M${from} ${y.toFixed(2)}C${from + bend} ${y.toFixed(2)} ${to - bend} ${to_y.toFixed(2)} ${to} ${to_y.toFixed(2)}`;
        const strength = only < 0 ? weight * 0.8 : Math.min(1, weight + 0.08);
        root.append(element("path", { d, fill: "none", stroke: color, "stroke-opacity": strength, "stroke-width": only < 0 ? 0.5 : 0.5 + 1.2 * weight }));
      });
    }
  });
  const label = (i, at, x, anchor, weight) => root.append(element("text", { x, y: middle(at) + 2.6, "text-anchor": anchor, "font-weight": weight }, shown(names[i], longest)));
  rows.forEach((i, a) => label(i, a, from - 3, "end", a === only ? "bold" : "normal"));
  columns.forEach((j, b) => label(j, b, to + 3, "start", "normal"));
  return written(root, points, Math.max(rows.length, columns.length) * high + 2);
}
