// The run page's selection: brushes, heads, labels and inputs, which every picture follows; the address keeps it.

import { draw } from "./charts.js";

const section = document.getElementById("linked");
const place = (name) => document.getElementById(name);
const NAMES = ["heads", "value", "length", "labels", "inputs"];
let state = read(location.search); // texts by name, as the address has them

function read(search) {
  const query = new URLSearchParams(search);
  return Object.fromEntries(NAMES.filter((n) => query.get(`s.${n}`)).map((n) => [n, query.get(`s.${n}`)]));
}

// The address with the present selection; what it does not touch stays.
function query() {
  const found = new URLSearchParams(location.search);
  const before = JSON.stringify(read(location.search));
  for (const name of NAMES) {
    found.delete(`s.${name}`);
    if (state[name]) found.set(`s.${name}`, state[name]);
  }
  if (before !== JSON.stringify(state)) found.delete("page");
  return found;
}

// Asking ------------------------------------------------------------------------------------------

// One question at a time, and then the newest selection: an answer never comes after a newer one.
let asking = false, again = false, dragged = null; // dragged: the histogram under the pointer
async function ask() {
  if (asking) { again = true; return; }
  asking = true;
  section.classList.add("waiting-for");
  do {
    again = false;
    const asked = query().toString();
    try {
      const answer = await fetch(`${section.dataset.address}/linked?${asked}`, { headers: { Accept: "application/json" } });
      if (again) continue;
      if (answer.ok) await show(await answer.json());
      else say(await answer.text());
    } catch { say("The server does not answer."); }
  } while (again);
  asking = false;
  section.classList.remove("waiting-for");
  section.dataset.shown = query();
}

function say(sentence) {
  const p = document.createElement("p");
  p.className = "wrong";
  p.textContent = sentence;
  place("selection").replaceChildren(p);
}

// What the server has made for the selection, in its places.
async function show({ html, charts, note }) {
  for (const [name, text] of Object.entries(html)) {
    const box = place(name);
    if (!box) continue;
    const focused = box.contains(document.activeElement) ? document.activeElement : null;
    const page = new DOMParser().parseFromString(text, "text/html");
    box.replaceChildren(...[...page.body.childNodes].map((node) => document.importNode(node, true)));
    if (focused) same(box, focused)?.focus({ preventScroll: true });
    box.dispatchEvent(new CustomEvent("panel", { bubbles: true }));
  }
  place("follows").textContent = note;
  place("heads").value = state.heads ?? "";
  outline();
  for (const box of section.querySelectorAll("[data-chart]")) {
    const name = box.dataset.chart;
    box.hidden = !charts[name];
    const ends = state[name]?.split("..") ?? ["", ""];
    for (const [i, field] of ["low", "high"].entries()) box.querySelector(`[name=${field}]`).value = ends[i] && Math.abs(ends[i]) < 1e300 ? short(+ends[i]) : "";
    if (charts[name] && dragged !== box) await draw(box.querySelector(".picture"), charts[name]);
  }
}

// The element of a new part that is what another was in the old one.
function same(box, old) {
  if (old.dataset.layer) return box.querySelector(`a[data-layer="${old.dataset.layer}"][data-head="${old.dataset.head}"]`);
  return old.value ? [...box.querySelectorAll("button, input")].find((e) => e.value === old.value) : box.querySelector("a");
}

// Changes: asked for at once, and one step of Back when they rest ----------------------------------

let resting = null;
function change(name, text) {
  if (text) state[name] = text;
  else delete state[name];
  clearTimeout(resting);
  resting = setTimeout(keep, 350);
  ask();
}

function keep() {
  const found = query().toString();
  if (found !== new URLSearchParams(location.search).toString()) history.pushState(null, "", found ? `?${found}` : location.pathname);
}

addEventListener("popstate", () => {
  clearTimeout(resting);
  state = read(location.search);
  ask();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("#selection a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state = read(link.search);
  keep();
  ask();
});

// Histograms --------------------------------------------------------------------------------------

const short = (end) => +end.toPrecision(4);
for (const box of section?.querySelectorAll("[data-chart]") ?? []) {
  const name = box.dataset.chart;
  box.querySelector(".picture").addEventListener("drawn", ({ detail: view }) => {
    for (const mark of box.querySelectorAll("[class*=brush_brush]")) {
      mark.removeAttribute("role"); // the ends beside the picture say it in words
      mark.setAttribute("aria-hidden", "true");
    }
    view.addSignalListener("brush", (_, { x }) => change(name, x && x[0] !== x[1] ? `${short(Math.min(...x))}..${short(Math.max(...x))}` : ""));
  });
  box.addEventListener("pointerdown", () => { dragged = box; });
  box.addEventListener("change", () => {
    const [low, high] = ["low", "high"].map((field) => box.querySelector(`[name=${field}]`).value.trim().replace(",", "."));
    change(name, low === "" && high === "" ? "" : `${low === "" ? -1e300 : low}..${high === "" ? 1e300 : high}`);
  });
}
addEventListener("pointerup", () => { dragged = null; });

// Labels and inputs -------------------------------------------------------------------------------

place("labels")?.addEventListener("click", (event) => {
  const value = event.target.closest("button")?.value;
  if (value === undefined) return;
  const chosen = new Set(state.labels ? JSON.parse(state.labels) : []);
  if (!chosen.delete(value)) chosen.add(value);
  change("labels", chosen.size ? JSON.stringify([...chosen]) : "");
});
place("rows").addEventListener("change", (event) => {
  const chosen = new Set(state.inputs?.split(",") ?? []);
  if (event.target.checked) chosen.add(event.target.value);
  else chosen.delete(event.target.value);
  change("inputs", [...chosen].map(Number).sort((a, b) => a - b).join(","));
});
place("heads")?.addEventListener("change", (event) => change("heads", event.target.value.replaceAll(" ", "")));

// Heads of the grid -------------------------------------------------------------------------------

const cells = (root = document) => [...root.querySelectorAll(".chart-grid a[data-layer]")]; // of every grid
const named = (cell) => `${cell.dataset.layer}.${cell.dataset.head}`;

// The heads that are selected, one by one.
function heads() {
  const found = new Set();
  for (const part of state.heads?.split(",") ?? []) {
    const [layer, which] = part.split(".");
    const [first, last] = which === "*" ? [0, Infinity] : which.split("-").map(Number);
    for (const cell of cells()) {
      const head = Number(cell.dataset.head);
      if (cell.dataset.layer === layer && head >= first && head <= (last ?? first)) found.add(named(cell));
    }
  }
  return found;
}

function outline(picked = heads()) {
  for (const cell of cells()) {
    cell.classList.toggle("picked", picked.has(named(cell)));
    if (picked.has(named(cell))) cell.setAttribute("aria-description", "selected");
    else cell.removeAttribute("aria-description");
  }
}

function toggle(cell) {
  const picked = heads();
  if (!picked.delete(named(cell))) picked.add(named(cell));
  outline(picked);
  change("heads", [...picked].join(","));
}

let from = null, moved = false; // the head where a drag began, and whether it left it
const over = (event) => event.target.closest?.(".chart-grid a[data-layer]");
function within(a, b) {
  const between = (name, cell) => (cell.dataset[name] - a.dataset[name]) * (cell.dataset[name] - b.dataset[name]) <= 0;
  return new Set(cells(a.closest(".chart-grid").parentElement).filter((cell) => between("layer", cell) && between("head", cell)).map(named));
}
document.addEventListener("dragstart", (event) => { if (over(event)) event.preventDefault(); });
document.addEventListener("pointerdown", (event) => {
  moved = false;
  from = section && event.button === 0 && event.pointerType !== "touch" ? over(event) ?? null : null;
});
document.addEventListener("pointermove", (event) => {
  const to = from && over(event);
  if (!to || (to === from && !moved)) return;
  moved = true;
  outline(within(from, to));
});
document.addEventListener("pointerup", (event) => {
  const to = over(event);
  if (from && moved) change("heads", [...within(from, to ?? from)].join(","));
  from = null;
});
document.addEventListener("click", (event) => {
  const cell = over(event);
  if (!cell || !section || !(moved || event.shiftKey)) return;
  event.preventDefault();
  if (!moved) toggle(cell);
  moved = false;
}, true);
document.addEventListener("keydown", (event) => {
  const cell = section && event.key === " " && over(event);
  if (!cell) return;
  event.preventDefault();
  toggle(cell);
});

if (section) {
  document.addEventListener("panel", () => outline());
  ask();
}
