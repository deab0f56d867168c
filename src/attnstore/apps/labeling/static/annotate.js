// The annotate page: maps held ready, a label saved with one key, the next map at once.
import { table } from "/static/painting.js";
import { Square } from "/static/square.js";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const colours = table(JSON.parse($("scales").textContent).weight);
const token = document.querySelector("meta[name=page-token]").content;

const ready = [];
const gone = []; // maps seen in this sitting, so that a skipped one does not come back
let current = null;
let asking = null;
let tokens = false;
let saving = Promise.resolve();

const name = (map) => `${map.example}-${map.layer}-${map.head}`;

async function more() {
  const without = [...gone.slice(-400), ...ready.map(name), ...(current ? [name(current)] : [])];
  const query = new URLSearchParams({ annotator: data.annotator, run: data.run, pick: data.pick, without: without.join(",") });
  const answer = await fetch(`/annotate/next?${query}`);
  if (!answer.ok) throw new Error(await answer.text());
  const found = await answer.json();
  for (const map of found) {
    if (ready.some((m) => name(m) === name(map)) || (current && name(current) === name(map))) continue;
    ready.push(prepared(map));
  }
  return found.length;
}

function prepared(map) {
  map.values = fetch(map.weights).then(async (answer) => {
    if (!answer.ok) throw new Error(await answer.text());
    return new Float32Array(await answer.arrayBuffer());
  });
  map.values.catch(() => {});
  return map;
}

function refill() {
  if (!asking && ready.length < (data.ahead * 2) / 3) asking = more().catch(fail).finally(() => { asking = null; });
  return asking;
}

async function next() {
  if (!ready.length) await refill();
  show(ready.shift() || null);
  refill();
}

async function show(map) {
  current = map;
  $("note").value = "";
  document.querySelector("[name=confidence][value='3']").checked = true;
  if (!map) {
    $("where").textContent = "No map is left";
    $("state").textContent = data.pick === "shared" ? "that others have labelled and you have not." : data.pick === "unsure" ? "that is classified and not labelled." : "to label in this run.";
    $("map").hidden = true;
    return;
  }
  try {
    const values = await map.values;
    if (current === map) draw(values);
  } catch (error) {
    fail(error);
  }
}

async function draw(values) {
  $("map").hidden = false;
  const side = Math.min($("stage").clientWidth, 560, innerHeight - 190);
  // As the classifier's own labels were made: light is the map's 0.995 quantile, linear from 0.
  const top = values.slice().sort()[Math.floor(0.995 * (values.length - 1))];
  new Square($("map"), { down: current.tokens, across: current.tokens, values, width: Math.max(side, 240), colors: colours, top, root: false, named: tokens, largest: 60 }).draw([], null);
  $("where").textContent = `Layer ${current.layer}, head ${current.head}`;
  $("state").textContent = `example ${current.example}, ${current.tokens.length} tokens`;
  $("map").dataset.map = name(current);
}

function label(kind) {
  if (!current) return;
  const { run, example, layer, head } = current;
  const confidence = Number(document.querySelector("[name=confidence]:checked").value);
  const body = { annotator: data.annotator, run, example, layer, head, label: kind, confidence, note: $("note").value };
  gone.push(name(current));
  const mine = current;
  next();
  saving = saving.then(() => send("/labels", body)).then((told) => { count(told.labelled, `${kind}: layer ${layer}, head ${head}`); agreement(); }).catch((error) => {
    fail(error);
    if (current) ready.unshift(current);
    show(mine);
  });
}

function skip() {
  if (!current) return;
  gone.push(name(current));
  next();
}

async function undo() {
  await saving;
  const told = await send("/labels/undo", { annotator: data.annotator }).catch(fail);
  if (!told) return;
  count(told.labelled, told.place ? "the last label is taken back" : "there is no label to take back");
  if (told.place) {
    if (current) ready.unshift(current);
    show(prepared(told.place));
    agreement();
  }
}

async function send(url, body) {
  const answer = await fetch(url, { method: "POST", headers: { "X-Page-Token": token }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function count(n, what) {
  $("count").classList.remove("wrong");
  $("count").textContent = `${n} in this sitting; ${what}.`;
  $("count").dataset.n = n;
}

function fail(error) {
  $("count").classList.add("wrong");
  $("count").textContent = error.message;
}

let pending = 0;
function agreement() {
  clearTimeout(pending);
  pending = setTimeout(async () => {
    const answer = await fetch(`/annotate/agreement?run=${encodeURIComponent(data.run)}`, { headers: { Accept: "text/html" } });
    if (answer.ok) $("agreement").replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
  }, 1500);
}

function confidence() {
  const all = [...document.querySelectorAll("[name=confidence]")];
  all[(all.findIndex((r) => r.checked) + 1) % all.length].checked = true;
}

function toggle() {
  tokens = !tokens;
  $("tokens").setAttribute("aria-pressed", String(tokens));
  if (current) current.values.then(draw);
}

const acts = { s: skip, z: undo, c: confidence, n: () => $("note").focus(), t: toggle };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || document.documentElement.dataset.leader) return;
  if (event.target.matches("input:not([type=radio]), select, textarea")) {
    if (event.target === $("note") && ["Escape", "Enter"].includes(event.key)) event.target.blur();
    return;
  }
  const kind = data.classes[Number(event.key) - 1];
  if (!kind && !acts[event.key]) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (kind) label(kind);
  else acts[event.key]();
}, true);
$("classes").addEventListener("click", (event) => {
  const kind = event.target.closest("[data-class]")?.dataset.class;
  if (kind) label(kind);
});
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("tokens").addEventListener("click", toggle);
addEventListener("resize", () => current?.values.then(draw));
next();
