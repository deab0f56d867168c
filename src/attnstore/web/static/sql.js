// The SQL page: the editor, a query followed until it ends, its result sorted and shown.

import { draw } from "./charts.js";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const token = document.querySelector("meta[name=page-token]").content;
const [text, told, progress] = [$("text"), $("told"), $("progress")];
// This tab, for cancelling. Kept for its next page while no page is open, so that a copy of the tab gets another.
const asker = sessionStorage.asker ?? Math.random().toString(36).slice(2);
addEventListener("pageshow", () => sessionStorage.removeItem("asker"));
addEventListener("pagehide", () => { sessionStorage.asker = asker; });
sessionStorage.removeItem("asker");
const original = data.analysis ? text.value : null;
let current = null;
let starting = null; // the request that starts a query
let show = data.show || "table";
let chosen = { ...data.chart }; // columns by channel, as far as somebody chose them

// Editor ------------------------------------------------------------------------------------------

const WORDS = /(--[^\n]*|\/\*[\s\S]*?\*\/)|('(?:[^']|'')*'?)|(\$\w+)|\b(select|from|where|group|order|by|all|having|limit|offset|join|left|right|full|inner|cross|using|on|as|and|or|not|in|is|null|between|like|case|when|then|else|end|with|recursive|materialized|union|except|intersect|distinct|over|partition|filter|qualify|unnest|values|exclude|replace|pivot|unpivot|asc|desc|nulls|first|last|true|false|semi|anti|explain|analyze|describe|summarize)\b|\b(\d+(?:\.\d+)?)\b/gi;
const KINDS = ["note", "quote", "given", "word", "number"];

function paint() {
  const parts = [];
  let at = 0;
  for (const match of text.value.matchAll(WORDS)) {
    parts.push(text.value.slice(at, match.index));
    const span = document.createElement("span");
    span.className = KINDS[match.slice(1).findIndex((m) => m !== undefined)];
    span.textContent = match[0];
    parts.push(span);
    at = match.index + match[0].length;
  }
  $("painted").replaceChildren(...parts, text.value.slice(at), "\n");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 380)}px`;
  $("painted").scrollTop = text.scrollTop;
}

// A field for each $name, with what it held before.
const fields = { ...data.params };
function parameters() {
  const code = text.value.replace(/--[^\n]*|'(?:[^']|'')*'/g, "");
  const names = [...new Set([...code.matchAll(/\$([A-Za-z_]\w*)/g)].map((m) => m[1]))];
  const held = [...$("parameters").querySelectorAll("[name]")].map((f) => f.name);
  if (held.join() === names.join()) return;
  $("parameters").replaceChildren(...names.map((name) => {
    const about = text.value.match(new RegExp(`^-- param ${name} \\w+(?: = ([^:\\n]+))?: (.*)$`, "m"));
    const isRun = /(^|_)run$/.test(name);
    const field = document.createElement(isRun ? "select" : "input");
    if (isRun) {
      const optional = about && about[1] !== undefined;
      field.append(...(optional ? [new Option("any", "")] : []), ...data.runs.map((run) => new Option(run, run)));
    } else Object.assign(field, { size: 12, placeholder: about?.[1] ?? "" });
    field.name = name;
    if (fields[name] !== undefined) field.value = fields[name];
    field.addEventListener("input", () => { fields[name] = field.value; });
    fields[name] = field.value;
    const label = document.createElement("label");
    label.append(`$${name} `, field);
    if (about) label.dataset.tip = about[2];
    return label;
  }));
}

function given() {
  const found = {};
  for (const field of $("parameters").querySelectorAll("[name]")) found[field.name] = field.value;
  return found;
}

text.addEventListener("input", () => { paint(); parameters(); });
text.addEventListener("scroll", () => { $("painted").scrollTop = text.scrollTop; $("painted").scrollLeft = text.scrollLeft; });
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && (current || starting)) cancel(); });
document.addEventListener("click", (event) => {
  const insert = event.target.closest("[data-insert]")?.dataset.insert;
  if (!insert) return;
  text.setRangeText(insert, text.selectionStart, text.selectionEnd, "end");
  text.focus();
  paint();
});
// One search over both lists: analyses by name and title, views by name and columns.
$("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  const holds = (...texts) => texts.some((t) => t.toLowerCase().includes(wanted));
  for (const item of $("analyses").children) {
    const link = item.firstElementChild;
    item.hidden = !holds(link.textContent, link.dataset.tip);
  }
  for (const view of $("views").children) {
    const details = view.querySelector("details");
    const own = holds(details.querySelector("summary").textContent);
    let any = false;
    for (const column of details.querySelectorAll("li")) {
      const fits = holds(column.textContent);
      column.hidden = !(own || fits);
      any ||= fits;
    }
    view.hidden = !(own || any);
    details.open = Boolean(wanted) && any && !own;
  }
  for (const list of [$("analyses"), $("views")]) {
    const n = [...list.children].filter((item) => !item.hidden).length;
    list.parentElement.querySelector("summary i").textContent = n;
  }
});

// Asking ------------------------------------------------------------------------------------------

async function sent(method, url, body) {
  const answer = await fetch(url, { method, headers: { "X-Page-Token": token, Accept: "application/json" }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

let asked = { text: text.value, params: data.params }; // the query whose result is shown
function address() {
  const query = new URLSearchParams();
  if (original !== null && asked.text === original) query.set("analysis", data.analysis);
  else query.set("q", asked.text);
  for (const [name, value] of Object.entries(asked.params)) if (value !== "") query.set(`p.${name}`, value);
  if (show !== "table") query.set("show", show);
  if (show !== "table") for (const [channel, names] of Object.entries(chosen)) for (const name of names.length ? names : [""]) query.append(channel, name);
  return `/sql?${query}`;
}

// The part of an address that says what is asked, whatever is shown of the result.
const CHANNELS = ["x", "y", "color", "facet", "interval"];
const question = (search) => new URLSearchParams([...new URLSearchParams(search)].filter(([name]) => name !== "show" && !CHANNELS.includes(name))).toString();
let present = question(location.search);

// Back and forward: another chart of the same result, or another query.
addEventListener("popstate", () => {
  const query = new URLSearchParams(location.search);
  if (question(location.search) !== present || !$("result").childElementCount) return location.reload();
  show = query.get("show") || "table";
  chosen = Object.fromEntries(CHANNELS.filter((c) => query.has(c)).map((c) => [c, query.getAll(c).filter(Boolean)]));
  shown(show);
});

function step(replace = false) {
  if (address() !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", address());
  present = question(location.search);
}

async function run(push = true) {
  if (text.value !== asked.text) chosen = {};
  asked = { text: text.value, params: given() };
  if (current || starting) await cancel();
  step(!push);
  $("result").replaceChildren();
  busy(true);
  try {
    starting = sent("POST", "/questions", { sql: asked.text, params: asked.params, asker });
    let state = await starting;
    current = state.id;
    starting = null;
    const mine = current;
    while (state.state === "waiting" || state.state === "running") {
      tell(state);
      await new Promise((done) => setTimeout(done, state.seconds < 1 ? 60 : 250));
      if (current !== mine) return;
      state = await sent("GET", `/questions/${mine}`);
    }
    if (current !== mine) return;
    if (state.state === "done") await result(state);
    else fail(state.sentence);
  } catch (error) {
    fail(error.message);
  }
  current = starting = null;
  busy(false);
}

async function cancel() {
  await starting?.catch(() => {}); // a query that is cancelled before the server has named it
  const id = current;
  if (!id) return;
  current = null;
  busy(false);
  const state = await sent("DELETE", `/questions/${id}?asker=${asker}`).catch((error) => ({ sentence: error.message }));
  fail(state.sentence || "The query had ended.");
}

function busy(on) {
  $("cancel").disabled = !on;
  progress.hidden = !on;
  progress.removeAttribute("value");
}

function tell({ state, percent, seconds }) {
  if (percent !== null && percent > 0) Object.assign(progress, { max: 100, value: percent });
  told.textContent = state === "waiting" ? "waiting for other queries …" : `${seconds.toFixed(1)} s${percent ? `, ${Math.round(percent)} %` : ""}`;
  told.classList.remove("wrong");
}

function fail(sentence) {
  told.textContent = sentence;
  told.classList.add("wrong");
}

async function result(state) {
  const answer = await fetch(`/questions/${state.id}/table`, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) return fail(page.querySelector(".lead")?.textContent || "The result cannot be read.");
  $("result").replaceChildren(...page.body.childNodes);
  told.textContent = `${state.seconds.toFixed(2)} s`;
  told.classList.remove("wrong");
  shown(show);
}

// Result ------------------------------------------------------------------------------------------

let turns = 0; // charts asked for; only the last one is drawn
async function shown(kind) {
  const buttons = [...$("result").querySelectorAll("[data-show]")];
  if (!buttons.some((b) => b.dataset.show === kind)) kind = "table";
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === kind));
  const chart = $("result").querySelector("[data-chart]");
  $("result").querySelector("[data-as=table]").hidden = kind !== "table";
  chart.hidden = kind === "table";
  if (kind === "table") return;
  chart.dataset.as = kind;
  const query = new URLSearchParams({ kind });
  for (const [channel, names] of Object.entries(chosen)) for (const name of names.length ? names : [""]) query.append(channel, name);
  const turn = (turns += 1);
  const answer = await fetch(`${chart.dataset.chart}?${query}`, { headers: { Accept: "application/json" } });
  if (turn !== turns || chart.dataset.as !== kind) return;
  const picture = chart.querySelector(".picture");
  if (!answer.ok) {
    const sentence = document.createElement("p");
    sentence.className = "wrong";
    sentence.textContent = await answer.text();
    return picture.replaceChildren(sentence);
  }
  const made = await answer.json();
  choices(chart, made);
  await draw(picture, made);
}

// A menu for each channel; what is chosen stands in the address.
function choices(chart, made) {
  chart.querySelector(".controls").replaceChildren(...Object.entries(made.options).map(([channel, options]) => {
    const menu = document.createElement("select");
    menu.name = channel;
    menu.append(...options.map((names) => new Option(names.join(" · ") || "none", JSON.stringify(names))));
    menu.value = JSON.stringify(made.chosen[channel]);
    menu.addEventListener("change", () => {
      chosen = { ...chosen, [channel]: JSON.parse(menu.value) };
      step();
      shown(show).then(() => chart.querySelector(`select[name=${channel}]`)?.focus());
    });
    const label = document.createElement("label");
    label.append(`${channel} `, menu);
    return label;
  }));
}

$("result").addEventListener("click", (event) => {
  const kind = event.target.closest("[data-show]")?.dataset.show;
  if (kind) {
    if (kind !== show) chosen = {};
    show = kind;
    step();
    return shown(kind);
  }
  const head = event.target.closest("th");
  if (head) sort(head);
});

// What is no number for JavaScript, at an end of the order; NULL and NaN first.
const PLACES = { "": -Infinity, nan: -Infinity, "-inf": -Infinity, inf: Infinity };
function sort(head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const at = [...head.parentElement.children].indexOf(head);
  const numeric = head.classList.contains("n");
  const body = head.closest("table").tBodies[0];
  const value = (row) => {
    const cell = row.cells[at];
    if (!numeric) return cell.textContent;
    return PLACES[cell.dataset.v] ?? Number(cell.dataset.v);
  };
  const rows = [...body.rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => (numeric ? a - b : a.localeCompare(b)) * (up ? 1 : -1));
  body.append(...rows.map(([, row]) => row));
}

$("query").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("cancel").addEventListener("click", () => (current || starting) && cancel());

if (!text.value) text.value = data.start;
paint();
parameters();
if (data.ask) run(false);
