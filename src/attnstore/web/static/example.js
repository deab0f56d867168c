// The example page: its viewer, what stands in its address, and the runs that can lie beside it.
import { follow } from "./shown_run.js";
import { Viewer } from "./viewer.js";

const data = JSON.parse(document.getElementById("data").textContent);
data.scales = JSON.parse(document.getElementById("scales").textContent);
const path = (run) => run.split("/").map(encodeURIComponent).join("/");

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 400));
  return answer;
}
const kind = data.kind === "weights" ? "" : `&kind=${encodeURIComponent(data.kind)}`;
const load = {
  async all(run, unit) {
    const answer = await fetched(`/maps/${path(run)}/${data.example}/all?unit=${unit}${kind}`);
    return { bytes: new Uint8Array(await answer.arrayBuffer()), side: Number(answer.headers.get("X-Side")), top: Number(answer.headers.get("X-Top")) };
  },
  async one(run, layer, head, unit) {
    return new Float32Array(await (await fetched(`/maps/${path(run)}/${data.example}/${layer}/${head}?unit=${unit}${kind}`)).arrayBuffer());
  },
};

// The state that an address stands for.
function read(place) {
  const asked = new URLSearchParams(place.search);
  const number = (name) => (/^\d+$/.test(asked.get(name) ?? "") ? Number(asked.get(name)) : undefined);
  const held = (name) => data[`${name}s`].includes(number(name)) ? number(name) : data[`${name}s`][0];
  const known = (run) => data.runs.some((r) => r.run === run);
  const named = decodeURIComponent(place.pathname).replace(/^\/run\/|\/example\/\d+$/g, "");
  return {
    run: known(named) ? named : data.run,
    layer: held("layer"), head: held("head"), against: known(asked.get("against")) ? asked.get("against") : null,
    scale: asked.get("scale") === "linear" ? "linear" : "root",
    range: asked.get("range") === "map" ? "map" : "fixed",
    unit: asked.get("unit") === "word" ? "word" : "piece",
    token: number("token") ?? null,
    pins: (asked.get("pins") || "").split(",").map((p) => p.split("-").map(Number)).filter((p) => p.length === 2 && p.every(Number.isInteger)),
  };
}
data.state = read(location);
data.link = data.kind === "weights" && ((state) => `/run/${path(state.run)}/head/${state.layer}/${state.head}`);

const controls = document.getElementById("controls");
const against = document.getElementById("against");
const steps = document.getElementById("steps");
const checkpoints = data.runs.filter((r) => r.step !== null || r.run === data.run || r.run === data.against);

function address(state) {
  const query = new URLSearchParams({ layer: state.layer, head: state.head });
  if (state.unit === "word") query.set("unit", "word");
  if (state.scale === "linear") query.set("scale", "linear");
  if (state.range === "map") query.set("range", "map");
  if (data.kind !== "weights") query.set("kind", data.kind);
  if (state.against) query.set("against", state.against);
  if (state.token !== null) query.set("token", state.token);
  if (state.pins.length) query.set("pins", state.pins.map((p) => p.join("-")).join(","));
  return `/run/${path(state.run)}/example/${data.example}?${query}`;
}

// Each step is an entry of the browser's history, which Back undoes.
function changed(state) {
  const now = address(state);
  if (now !== location.pathname + location.search) history.pushState(null, "", now);
  shown(state);
}

function shown(state) {
  follow(data, state.run);
  controls.elements.unit.value = state.unit;
  controls.elements.scale.value = state.scale;
  controls.elements.range.value = state.range;
  against.value = state.against || "";
  step(state);
}
addEventListener("popstate", () => {
  Object.assign(viewer.state, read(location));
  shown(viewer.state);
  viewer.draw();
});

// The slider goes over the checkpoints of a training, the run it began from among them.
function step(state) {
  const at = checkpoints.findIndex((r) => r.run === state.run);
  steps.hidden = checkpoints.length < 2;
  const [slider, told] = [steps.querySelector("input"), steps.querySelector("output")];
  slider.max = checkpoints.length - 1;
  slider.value = at;
  const { run, step } = checkpoints[at] || { run: state.run, step: null };
  told.textContent = step === null ? run : `${run} (step ${step})`;
}

const viewer = new Viewer(document.getElementById("viewer"), data, load, changed);
history.replaceState(null, "", address(viewer.state));
shown(viewer.state);
viewer.draw();

// Another kind may have other heads: its page is loaded anew.
document.getElementById("kind")?.addEventListener("change", (event) => {
  const query = new URLSearchParams(location.search);
  for (const name of ["kind", "against", "head"]) query.delete(name);
  if (event.target.value !== "weights") query.set("kind", event.target.value);
  location.search = query;
});
controls.addEventListener("submit", (e) => e.preventDefault());
for (const radio of controls.elements.unit) radio.addEventListener("change", () => viewer.set({ unit: radio.value }));
for (const radio of controls.elements.scale) radio.addEventListener("change", () => viewer.set({ scale: radio.value }));
for (const radio of controls.elements.range) radio.addEventListener("change", () => viewer.set({ range: radio.value }));
against.addEventListener("change", () => viewer.set({ against: against.value || null }));
const go = (i) => checkpoints[i] && viewer.set({ run: checkpoints[i].run, against: viewer.state.against === checkpoints[i].run ? null : viewer.state.against });
steps.querySelector("input").addEventListener("input", (e) => go(Number(e.target.value)));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=radio]), select, textarea") || document.querySelector("dialog[open]") || document.documentElement.dataset.leader) return;
  const at = checkpoints.findIndex((r) => r.run === viewer.state.run);
  if (event.key === "]") go(at + 1);
  else if (event.key === "[") go(at - 1);
  else viewer.key(event);
}, true);
