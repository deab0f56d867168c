// The page Find: its parts asked one after the other, answers shown by head or dataset as they come.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const token = document.querySelector("meta[name=page-token]").content;
const asker = Math.random().toString(36).slice(2);
const path = (run) => run.split("/").map(encodeURIComponent).join("/");
const many = (n) => n.toLocaleString("en-US");
const groups = new Map(); // by head or dataset: what is known of it, with its best answers
const SHOWN = 12; // groups at first, and with each "more"
let shown = SHOWN;
let current = null;
let stopped = false;

function made(tag, about = {}, ...inside) {
  const { data: named, ...rest } = about;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, named);
  element.append(...inside);
  return element;
}

function drawn(tag, about, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(about)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

// Asking ------------------------------------------------------------------------------------------

async function sent(method, url, body) {
  const answer = await fetch(url, { method, headers: { "X-Page-Token": token, Accept: "application/json" }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function rows(part) {
  let state = await sent("POST", "/questions", { sql: data.sql, params: part.params, asker });
  current = state.id;
  while (state.state === "waiting" || state.state === "running") {
    await new Promise((done) => setTimeout(done, state.seconds < 1 ? 60 : 200));
    state = await sent("GET", `/questions/${state.id}`);
  }
  current = null;
  if (state.state !== "done") throw new Error(state.sentence);
  const { columns, rows } = await sent("GET", `/questions/${state.id}/rows`);
  return rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
}

async function ask() {
  const { parts } = data;
  for (const [i, part] of parts.entries()) {
    if (stopped) break;
    tell(i, `asking ${part.run}${part.about && `, ${part.about}`} …`);
    try {
      for (const row of await rows(part)) add(part, row);
    } catch (error) {
      if (!stopped) tell(i, error.message, true);
      break;
    }
    $("progress").value = i + 1;
    show();
    if (i + 1 === parts.length) {
      const beyond = await afterTheLast();
      tell(i + 1, "");
      if (beyond) $("told").textContent = beyond;
    }
  }
  if (stopped) tell($("progress").value, "stopped");
  $("stop").hidden = $("progress").hidden = true;
  show();
}

const answered = () => [...groups.values()].filter((group) => group.n);

// What there is to say on a page after the last one: a page of inputs without rows does not know how many there are.
async function afterTheLast() {
  const { page, single, parts, maps } = data;
  if (!single || page < 2) return "";
  const [some] = groups.size || maps ? groups.values() : await rows({ params: { ...parts[0].params, skip: "0", most: "1" } });
  if (!some || page <= lastOf(some.n)) return "";
  pager(some.n);
  return `There is no page ${page}: the answers have ${many(lastOf(some.n))} page${lastOf(some.n) === 1 ? "" : "s"}.`;
}

const lastOf = (n) => Math.min(Math.max(Math.ceil(n / data.per_page), 1), data.maps ? data.pages : Infinity);

function tell(done, what, wrong = false) {
  const found = answered();
  const n = found.reduce((sum, group) => sum + group.n, 0);
  const places = new Set(found.map((group) => (data.maps ? group.run : group.dataset))).size;
  const noun = data.maps ? `${data.paired ? "weight" : "place"}${n === 1 ? "" : "s"} in ${many(found.length)} head${found.length === 1 ? "" : "s"} of ${places} run${places === 1 ? "" : "s"}`
    : `input${n === 1 ? "" : "s"} of ${places} dataset${places === 1 ? "" : "s"}`;
  const over = done === data.parts.length;
  const text = n || over ? `${n ? many(n) : "No"} ${n ? noun : data.maps ? "weight is above it" : "input has it"}` : "";
  $("told").textContent = [text, what].filter(Boolean).join("; ") + (over ? "." : "");
  $("told").classList.toggle("wrong", wrong);
  $("told").dataset.n = n;
  if (over) $("told").dataset.over = "";
}

$("stop").addEventListener("click", () => {
  stopped = true;
  if (current) sent("DELETE", `/questions/${current}?asker=${asker}`).catch(() => {});
});
addEventListener("pagehide", () => {
  if (current) fetch(`/questions/${current}?asker=${asker}`, { method: "DELETE", headers: { "X-Page-Token": token }, keepalive: true });
});

// Answers -----------------------------------------------------------------------------------------

function add(part, row) {
  const key = data.maps ? `${part.run} ${row.layer} ${row.head}` : part.dataset;
  if (!groups.has(key)) groups.set(key, { run: part.run, dataset: part.dataset, layer: row.layer, head: row.head, parts: new Map(), answers: [] });
  const group = groups.get(key);
  group.parts.set(part, { n: data.maps ? row.of_head : row.n, pairs: row.pairs ?? 0 });
  if (!data.maps || row.of_head) group.answers.push(row); // otherwise only its pairs count
  const sum = (name) => [...group.parts.values()].reduce((total, counts) => total + counts[name], 0);
  Object.assign(group, { n: sum("n"), pairs: sum("pairs") });
}

function show() {
  const order = answered();
  if (data.maps) order.sort((a, b) => b.n / b.pairs - a.n / a.pairs || b.n - a.n);
  const more = made("button", { type: "button", textContent: `${order.length - shown} more heads` });
  more.addEventListener("click", () => { shown += SHOWN; show(); });
  $("answers").replaceChildren(...order.slice(0, shown).map(data.maps ? head : dataset), ...(order.length > shown ? [more] : []));
  if (data.single && order.length) pager(order[0].n);
}

function pager(n) {
  const pages = Math.max(Math.ceil(n / data.per_page), 1);
  const last = lastOf(n);
  const link = (page, text, rel) => {
    const query = new URLSearchParams(location.search);
    query.set("page", page);
    return made("a", { href: `?${query}`, rel, textContent: text });
  };
  const { page } = data;
  const said = made("span", { className: "muted", textContent: `${page} of ${many(last)}${last < pages ? "; SQL gives the rest" : ""}` });
  $("pager").replaceChildren(...(page > 1 ? [link(Math.min(page - 1, last), "← Before", "prev")] : []), ...(pages > 1 && page <= last ? [said] : []), ...(page < last ? [link(page + 1, "Next →", "next")] : []));
}

function best(group) {
  const sorted = [...group.answers].sort((a, b) => b.weight - a.weight);
  return data.single ? sorted.slice((data.page - 1) * data.per_page, data.page * data.per_page) : sorted.slice(0, 8);
}

const narrowed = (filters) => `/find?${new URLSearchParams({ q: `${data.base} ${filters}`.trim() })}`;

function head(group) {
  const { run, layer, head: number, n, pairs } = group;
  const all = !data.single && n > best(group).length ? [made("a", { href: narrowed(`run:${run} head:${layer}.${number}`), textContent: `all ${many(n)}` })] : [];
  return made("section", { className: "strip", data: { head: `${layer}.${number}`, run } },
    made("h2", {}, made("a", { href: `/run/${path(run)}/head/${layer}/${number}`, textContent: `Layer ${layer}, head ${number}` }),
      made("span", { className: "muted", textContent: run }),
      made("span", { textContent: `${many(n)} of ${many(pairs)} (${((100 * n) / pairs).toFixed(n / pairs < 0.1 ? 1 : 0)} %)` }), ...all),
    made("ol", { className: "maps" }, ...best(group).map((row) => thumbnail(group, row))));
}

function thumbnail({ run, layer, head: number }, row) {
  const [from, to] = [row.from_positions, row.to_positions].map((text) => (text ? text.split(" ").map(Number) : []));
  const query = new URLSearchParams({ layer, head: number });
  const pins = from.flatMap((i) => to.map((j) => `${i}-${j}`)).slice(0, 12);
  const pinned = pins.length ? `&pins=${pins.join(",")}` : `&token=${to[0]}`;
  const said = `${row.from_text ?? "all tokens"} → ${row.to_text}`;
  return made("li", {}, made("a", { href: `/run/${path(run)}/example/${row.example}?${query}${pinned}` },
    made("span", { className: "marked" },
      made("img", { src: `/maps/${path(run)}/${row.example}/${layer}/${number}.png`, width: 120, height: 120, loading: "lazy", alt: `Map of example ${row.example}` }),
      marks(row.length, from, to)),
    made("span", {}, made("b", { textContent: row.weight.toFixed(2) }), " ", made("span", { className: "muted", textContent: `example ${row.example}` })),
    made("bdi", { textContent: said.length > 70 ? `${said.slice(0, 69)}…` : said })));
}

// The row of the word that gives, the column of the word that receives, and a ring where they meet.
function marks(length, from, to) {
  const side = 120 / length;
  const lines = [...from.map((i) => ({ x: 0, y: i * side, width: 120, height: side })), ...to.map((j) => ({ x: j * side, y: 0, width: side, height: 120 }))];
  const rings = from.length ? [drawn("circle", { cx: (to[0] + to.at(-1) + 1) / 2 * side, cy: (from[0] + from.at(-1) + 1) / 2 * side, r: Math.max(side, 5) })] : [];
  return drawn("svg", { viewBox: "0 0 120 120", "aria-hidden": "true" }, ...lines.map((line) => drawn("rect", line)), ...rings);
}

function dataset(group) {
  const { answers, n, run } = group;
  const all = !data.single && n > answers.length ? [made("a", { href: narrowed(`dataset:${group.dataset}`), textContent: `all ${many(n)}` })] : [];
  const body = answers.map((row) => made("tr", {},
    made("td", { className: "n" }, made("a", { href: example(run, row), textContent: row.example })),
    made("td", {}, text(row), made("span", { className: "held" }, ...row.runs.split(" ").map((name) => made("a", { href: example(name, name === run ? row : { ...row, position: null }), textContent: name.split("/")[0] })))),
    made("td", { className: "n", textContent: row.length }),
    made("td", { className: "label" }, made("bdi", { textContent: row.label === null ? "" : data.labels[group.dataset]?.[row.label] ?? row.label }))));
  const heads = [["n", "Example"], ["", "Text, and the models with maps of it"], ["n", "Tokens"], ["", "Label"]].map(([kind, title]) => made("th", { className: kind, textContent: title, scope: "col" }));
  return made("section", { className: "strip", data: { dataset: group.dataset } },
    made("h2", {}, made("a", { href: `/dataset/${encodeURIComponent(group.dataset)}`, textContent: group.dataset }), made("span", { textContent: `${many(n)} input${n === 1 ? "" : "s"}` }), ...all),
    made("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: `Inputs of ${group.dataset}` }, made("table", { className: "list texts" }, made("thead", {}, made("tr", {}, ...heads)), made("tbody", {}, ...body))));
}

const example = (run, row) => `/run/${path(run)}/example/${row.example}${row.position === null ? "" : `?token=${row.position}`}`;

// A text with the places that were found; offsets count characters, as Python does.
function text(row) {
  const letters = Array.from(row.excerpt ?? "");
  const inside = row.cut ? ["…"] : [];
  let at = 0;
  for (const mark of (row.marks ?? "").split(" ").filter(Boolean)) {
    const [start, end] = mark.split("-").map(Number);
    if (start < at || end > letters.length) continue;
    inside.push(letters.slice(at, start).join(""), made("mark", { textContent: letters.slice(start, end).join("") }));
    at = end;
  }
  inside.push(letters.slice(at).join(""), row.more ? "…" : "");
  return made("bdi", {}, ...inside);
}

ask();
