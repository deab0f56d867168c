// Charts: Vega-Lite specifications from the server, drawn as SVG in the page's colors, and saved.
// The grammar is vendored, loaded when a chart is first drawn, and runs no text as code (`ast`).

import { csvOf, fitted, FONT, row } from "./save.js";

const about = JSON.parse(document.getElementById("grammar").textContent);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hex = (rgb) => `#${rgb.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const drawn = new Map(); // element: its chart

let grammar = null;
function loaded() {
  grammar ??= about.files.reduce((before, src) => before.then(() => new Promise((done, fail) => {
    document.head.append(make("script", { src, onload: done, onerror: () => fail(new Error("The charts cannot be loaded from the server; load the page again.")) }));
  })), Promise.resolve());
  return grammar;
}

// Nothing may be loaded: every value is in the specification.
const refused = () => Promise.reject(new Error("A chart loads nothing."));
const loader = { load: refused, sanitize: refused, http: refused, file: refused };

function config(dark, colors, below, narrow) {
  const guide = { labelColor: colors.soft, titleColor: colors.ink, labelFontSize: 11.5, titleFontSize: 12, titleFontWeight: 500 };
  return {
    background: colors.paper,
    font: colors.font,
    padding: 4,
    axis: { ...guide, gridColor: colors.rule, domainColor: colors.rule, tickColor: colors.rule, labelLimit: 170, titleLimit: 420 },
    legend: { ...guide, labelLimit: 230, titleLimit: 230, symbolLimit: 40, symbolOpacity: 1, ...(below ? { orient: "bottom", columns: narrow ? 2 : 4 } : {}) },
    header: { ...guide, labelFontWeight: 600 },
    title: { color: colors.ink, anchor: "start", fontSize: 13, fontWeight: 600, offset: 12 },
    view: { stroke: null },
    mark: { color: colors.bar },
    bar: { cornerRadiusEnd: 1 },
    range: {
      ramp: about.scales.weight.map(hex), heatmap: about.scales.weight.map(hex),
      diverging: about.scales[dark ? "difference_dark" : "difference"].map(hex),
    },
  };
}

const page = () => ({ paper: "transparent", ink: css("--ink"), soft: css("--soft"), rule: css("--rule"), bar: css("--bar"), font: css("--font") });
const PRINT = { paper: "#ffffff", ink: "#1b1e23", soft: "#4a4f57", rule: "#dcdcd6", bar: "#31688e", font: FONT };

// A title in lines of at most so many letters.
function lines(text, longest) {
  const made = [""];
  for (const word of text.split(" "))
    if (made.at(-1) && made.at(-1).length + word.length >= longest) made.push(word);
    else made[made.length - 1] += `${made.at(-1) && " "}${word}`;
  return made;
}

// A specification with the size that a room in pixels gives it.
function sized(spec, room) {
  const own = structuredClone(spec);
  if (own.title) own.title.text = lines(own.title.text, Math.max(24, Math.floor(room / 7.4)));
  const height = (unit) => {
    const bars = own.data.values.some((row) => typeof row.y === "string") && unit.encoding.y.type === "ordinal";
    return bars ? { step: unit.encoding.yOffset ? 12 : 20, ...(unit.encoding.yOffset ? { for: "offset" } : {}) } : null;
  };
  if (own.facet) {
    const n = new Set(own.data.values.map((row) => row.facet)).size;
    own.columns = Math.max(1, Math.min(n, Math.floor(room / 330)));
    const unit = own.spec;
    const each = Math.floor((room - (heat(unit) && room > 700 ? 150 : 20)) / own.columns) - 70;
    if (heat(unit)) Object.assign(unit, cells(own, unit, each));
    else Object.assign(unit, { width: Math.max(110, each), height: height(unit) ?? 170 });
    return own;
  }
  if (heat(own)) return Object.assign(own, cells(own, own, room - (room < 620 ? 60 : 190)));
  const steps = height(own);
  return Object.assign(own, { width: Math.min(room, 860), height: own.height ?? steps ?? Math.min(320, Math.max(220, room * 0.5)), autosize: { type: "fit-x", contains: "padding" } });
}

const heat = (unit) => unit.layer.some((layer) => layer.mark.type === "rect");
function cells(own, unit, room) {
  const count = (channel) => new Set(own.data.values.map((row) => row[channel])).size;
  const step = Math.max(2, Math.min(34, room / count("x")));
  return { width: { step }, height: { step: Math.max(2, Math.min(step, 420 / count("y"), 34)) } };
}

// What is pointed at, in the page's own tip.
const tip = document.getElementById("tip");
function tooltip(_, event, __, value) {
  if (!value || typeof value !== "object") { tip.hidden = true; return; }
  tip.textContent = Object.entries(value).map(([name, text]) => `${name}: ${text}`).join("  ");
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 8))}px`;
  tip.style.top = `${event.clientY + 18}px`;
}

async function embedded(element, chart, room, colors, dark) {
  await loaded();
  return vegaEmbed(element, sized(chart.spec, room), {
    mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, hover: false, logLevel: 1,
    tooltip, loader, config: config(dark, colors, room < 620 || (chart.spec.facet && !heat(chart.spec.spec)), room < 620),
  });
}

// A gradient of this page, whatever its address holds.
const inPage = (fill) => fill.replace(/^url\(.*#/, "url(#");

const darkness = matchMedia("(prefers-color-scheme: dark)");

// Draw a chart into an element; it is drawn again when the theme or the width changes.
export async function draw(element, chart) {
  const picture = make("div", { className: "vega" });
  const room = Math.max(240, element.clientWidth);
  try {
    const made = await embedded(picture, chart, room, page(), darkness.matches);
    for (const part of picture.querySelectorAll("[fill^='url(']")) part.setAttribute("fill", inPage(part.getAttribute("fill")));
    drawn.get(element)?.made.finalize();
    element.replaceChildren(picture, ...notes(chart), saving(chart));
    drawn.set(element, { chart, made, room });
    element.dispatchEvent(new CustomEvent("drawn", { detail: made.view }));
  } catch (error) {
    element.replaceChildren(make("p", { className: "wrong", textContent: String(error.message || error) }));
  }
}

function notes(chart) {
  return (chart.notes ?? []).map((text) => make("p", { className: "muted small", textContent: text }));
}

function again() {
  for (const [element, { chart }] of drawn) if (element.isConnected && element.clientWidth) draw(element, chart);
}
darkness.addEventListener("change", again);
let waiting = null;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => [...drawn].some(([e, d]) => e.clientWidth && Math.abs(e.clientWidth - d.room) > 24) && again(), 200);
});

// Saving ------------------------------------------------------------------------------------------

function saving(chart) {
  const { columns } = chart.spec.usermeta;
  const csv = () => csvOf(Object.values(columns), chart.spec.data.values.map((row) => Object.keys(columns).map((channel) => row[channel])));
  return row({ name: chart.name ?? "chart", svg: (points) => printed(chart, points), csv, sql: chart.sql, python: chart.python });
}

// A chart for paper: drawn in pixels of a window of that width, so that its letters have 7 to 9 points.
async function printed(chart, points) {
  const room = Math.round(points / 0.75);
  const made = await embedded(make("div"), chart, room, PRINT, false);
  const text = await made.view.toSVG();
  made.finalize();
  return fitted(text, points);
}

// Charts that a page brings with it ---------------------------------------------------------------

export function drawAll(root = document) {
  for (const element of root.querySelectorAll("[data-spec]")) {
    const chart = JSON.parse(element.querySelector("script").textContent);
    element.removeAttribute("data-spec");
    draw(element, chart);
  }
}
drawAll();
document.addEventListener("panel", (event) => drawAll(event.target));
