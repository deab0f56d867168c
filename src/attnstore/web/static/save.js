// Save on every picture: SVG, PDF, PNG and CSV as wide as a paper's columns, and the SQL and Python that make it.
//
// row({ name, svg, csv, sql, python }) makes the row of buttons that stands under a picture.
//   name         of the files, without their ending; it, sql and python may be functions that give the text of now
//   svg(points)  a promise of the picture for paper, so many points (1/72 inch) wide, as the text of an SVG
//   csv()        a promise of its numbers as text; none for a picture without
// Where a server gives the picture: an element with `data-save` and this as JSON, svg and csv as addresses; in a list
// of pictures a `details` with `data-save-later`, which holds it and gets its buttons when it is opened.

import { make } from "./painting.js";

export const WIDTHS = { one: ["one column, 3.3 in", 237.6], two: ["two columns, 6.9 in", 496.8] };
export const FONT = "Helvetica, Arial, sans-serif";
const DOTS = 300; // of a PNG, per inch
const TYPES = { svg: "image/svg+xml", png: "image/png", pdf: "application/pdf", csv: "text/csv" };

const now = (text) => (typeof text === "function" ? text() : text);

export function row({ name, svg, csv, sql, python }) {
  const told = make("span", { className: "wrong", role: "status" });
  const width = make("select", { ariaLabel: "Width of the picture" }, ...Object.entries(WIDTHS).map(([key, [title]]) => new Option(title, key)));
  width.value = localStorage.saveWidth in WIDTHS ? localStorage.saveWidth : "one";
  width.addEventListener("change", () => { localStorage.saveWidth = width.value; });
  const button = (kind, content) => {
    const made = make("button", { type: "button", className: "plain", textContent: kind.toUpperCase() });
    made.setAttribute("aria-label", `Save as ${made.textContent}`);
    made.addEventListener("click", async () => {
      made.disabled = true;
      told.textContent = "";
      try {
        keep(await content(WIDTHS[width.value][1]), `${now(name)}.${kind}`, TYPES[kind]);
      } catch (error) {
        told.textContent = String(error.message || error);
      }
      made.disabled = false;
    });
    return made;
  };
  const kinds = [button("svg", svg), button("pdf", async (points) => pdf(await svg(points))), button("png", async (points) => png(await svg(points)))];
  if (csv) kinds.push(button("csv", csv));
  const buttons = make("div", { className: "saving small", role: "group", ariaLabel: "Save the picture" }, make("span", { className: "muted", textContent: "Save" }), ...kinds, width, told);
  return make("div", { className: "saved" }, buttons, ...(sql || python ? [made({ sql, python })] : []));
}

function made({ sql, python }) {
  const texts = Object.entries({ SQL: sql, Python: python }).filter(([, text]) => text);
  const blocks = texts.map(([title]) => make("pre", { className: "command", tabIndex: 0, role: "region", ariaLabel: title }));
  const details = make("details", { className: "made small" }, make("summary", { textContent: `${texts.map(([title]) => title).join(" and ")} of these numbers` }), ...blocks);
  const write = () => texts.forEach(([, text], i) => { blocks[i].textContent = now(text); });
  details.addEventListener("toggle", write);
  if (texts.every(([, text]) => typeof text === "string")) write();
  return details;
}

function keep(content, name, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  make("a", { href: url, download: name.replaceAll(/[^\w.+-]+/g, "-") }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Texts for files ---------------------------------------------------------------------------------

export function csvOf(names, rows) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows, []].map((cells) => cells.map(quoted).join(",")).join("\n");
}

const size = (root) => ["width", "height"].map((side) => parseFloat(root.getAttribute(side)));

// A picture as wide as asked for: scaled, but letters by at most a quarter more, then with room at both sides.
export function fitted(text, points) {
  const root = parsed(text);
  const [width, height] = size(root);
  const scale = Math.min(points / width, 0.94);
  const room = points / scale;
  const top = (root.getAttribute("viewBox") || `0 0 ${width} ${height}`).split(/[ ,]+/).map(Number);
  root.setAttribute("viewBox", `${top[0] - (room - width) / 2} ${top[1]} ${room} ${height}`);
  root.setAttribute("width", `${points}pt`);
  root.setAttribute("height", `${Math.round(height * scale * 100) / 100}pt`);
  return new XMLSerializer().serializeToString(root);
}

function parsed(text) {
  return new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
}

// PNG and PDF -------------------------------------------------------------------------------------

async function png(text) {
  const [width, height] = size(parsed(text));
  const url = URL.createObjectURL(new Blob([text], { type: TYPES.svg }));
  try {
    const image = await new Promise((done, fail) => {
      const loading = make("img", { onload: () => done(loading), onerror: () => fail(new Error("The browser cannot draw this picture; save it as SVG.")) });
      loading.src = url;
    });
    const canvas = make("canvas", { width: Math.round((width * DOTS) / 72), height: Math.round((height * DOTS) / 72) });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, TYPES.png));
  } finally {
    URL.revokeObjectURL(url);
  }
}

let writer = null; // of PDF: vendored, loaded when a PDF is first saved
function loaded() {
  writer ??= ["jspdf.min.js", "svg2pdf.min.js"].reduce((before, file) => before.then(() => new Promise((done, fail) => {
    const src = new URL(`vendor/${file}`, import.meta.url).href;
    document.head.append(make("script", { src, onload: done, onerror: () => fail(new Error("What writes PDF cannot be loaded from the server; load the page again.")) }));
  })), Promise.resolve());
  return writer;
}

async function pdf(text) {
  await loaded();
  const root = parsed(text);
  const [width, height] = size(root);
  for (const part of root.querySelectorAll("[font-weight]")) part.setAttribute("font-weight", Number(part.getAttribute("font-weight")) > 550 ? "bold" : "normal");
  foreign(root);
  const paper = new globalThis.jspdf.jsPDF({ unit: "pt", format: [width, height], orientation: width > height ? "landscape" : "portrait", compress: true });
  root.setAttribute("width", width);
  root.setAttribute("height", height);
  await globalThis.svg2pdf.svg2pdf(root, paper, { x: 0, y: 0, width, height });
  return paper.output("blob");
}

// The fonts that every reader of PDF has know the letters of Western Europe only. A text with others is
// drawn by the browser, whose fonts know them, and stands there as a picture.
const KNOWN = /^[\x20-\x7e\xa0-\xff€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ\s]*$/;
const SHARP = 8;
function foreign(root) {
  for (const text of root.querySelectorAll("text")) {
    if (text.childElementCount) continue;
    text.textContent = text.textContent.replaceAll("\u2212", "\u2013");
    if (KNOWN.test(text.textContent)) continue;
    const about = (name) => text.closest(`[${name}]`)?.getAttribute(name);
    const letters = parseFloat(about("font-size"));
    const pen = new OffscreenCanvas(1, 1).getContext("2d");
    const font = `${about("font-weight") ?? 400} ${letters * SHARP}px ${about("font-family") ?? FONT}`;
    pen.font = font;
    const width = Math.ceil(pen.measureText(text.textContent).width) + 2 * SHARP, height = Math.ceil(letters * SHARP * 1.5);
    const canvas = make("canvas", { width, height });
    const drawing = canvas.getContext("2d");
    Object.assign(drawing, { font, fillStyle: about("fill") ?? "#000", textBaseline: "alphabetic" });
    drawing.fillText(text.textContent, SHARP, letters * SHARP * 1.1);
    const shift = { middle: 0.5, end: 1 }[about("text-anchor")] ?? 0;
    const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
    const place = {
      href: canvas.toDataURL(), width: width / SHARP, height: height / SHARP,
      x: Number(text.getAttribute("x") ?? 0) - 1 - ((width / SHARP - 2) * shift), y: Number(text.getAttribute("y") ?? 0) - letters * 1.1,
    };
    for (const [name, value] of Object.entries(place)) image.setAttribute(name, value);
    if (text.hasAttribute("transform")) image.setAttribute("transform", text.getAttribute("transform"));
    text.replaceWith(image);
  }
}

// Pictures of the server --------------------------------------------------------------------------

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 400));
  return answer.text();
}

function rows(root) {
  for (const element of root.querySelectorAll("[data-save]")) {
    element.removeAttribute("data-save");
    const about = JSON.parse(element.querySelector("script").textContent);
    const csv = about.csv ? () => fetched(about.csv) : null;
    element.replaceChildren(row({ ...about, csv, svg: (points) => fetched(`${about.svg}${about.svg.includes("?") ? "&" : "?"}width=${points}`) }));
  }
}
rows(document);
document.addEventListener("toggle", ({ target }) => {
  if (!target.open || !target.matches("[data-save-later]")) return;
  target.removeAttribute("data-save-later");
  target.querySelector("div").dataset.save = "";
  rows(target);
}, true);
document.addEventListener("panel", (event) => rows(event.target));
