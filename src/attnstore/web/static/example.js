// The example page: its viewer, what stands in its address, and the runs that can lie beside it.
import { saving } from "./example_save.js";
import { follow } from "./shown_run.js";
import { bind, showSwitches } from "./switches.js";
import { START, Viewer } from "./viewer.js";

const data = JSON.parse(document.getElementById("data").textContent);
data.scales = JSON.parse(document.getElementById("scales").textContent);
const path = (run) => run.split("/").map(encodeURIComponent).join("/");

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 400));
  return answer;
}
const kind = data.kind === "weights" ? "" : `&kind=${encodeURIComponent(data.kind)}`;
const asShown = ({ unit, specials, sentences }) => `unit=${unit}${kind}${specials === "keep" ? "" : `&specials=${specials}`}${sentences ? `&sentences=${sentences}` : ""}`;
const load = {
  async all(run, state) {
    const answer = await fetched(`/maps/${path(run)}/${data.example}/all?${asShown(state)}`);
    const [side, across, top] = ["Side", "Across", "Top"].map((name) => Number(answer.headers.get(`X-${name}`)));
    return { bytes: new Uint8Array(await answer.arrayBuffer()), side, across, top };
  },
  async table(state) {
    const beside = state.against ? `&against=${encodeURIComponent(state.against)}` : "";
    return (await fetched(`/maps/${path(state.run)}/${data.example}/all.csv?${asShown(state)}${beside}`)).text();
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
  const one = (name, values) => (values.includes(asked.get(name)) ? asked.get(name) : START[name]);
  const pairs = (name) => (asked.get(name) || "").split(",").map((p) => p.split("-").map(Number)).filter((p) => p.length === 2 && p.every(Number.isInteger));
  const zoom = pairs("zoom").flat();
  const least = Number(asked.get("least"));
  return {
    run: known(named) ? named : data.run,
    layer: held("layer"), head: held("head"), against: known(asked.get("against")) ? asked.get("against") : null,
    scale: one("scale", ["linear"]), range: one("range", ["map"]), unit: one("unit", ["word"]),
    specials: data.special.some(Boolean) ? one("specials", ["drop", ...(data.shares ? ["renormalise"] : [])]) : "keep",
    sentences: data.texts.length > 1 ? one("sentences", ["ab", "ba", "aa", "bb"]) : "",
    least: least > 0 && least <= 1 ? least : 0,
    token: number("token") ?? null, pins: pairs("pins"), zoom: zoom.length === 4 ? zoom : null,
    marked: pairs("heads").filter(([l, h]) => data.layers.includes(l) && data.heads.includes(h)).slice(0, data.scales.series.length),
    large: asked.get("large") === "1",
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
  const joined = (pairs) => pairs.map((p) => p.join("-")).join(",");
  for (const name of ["unit", "scale", "range", "specials", "sentences", "least", "token"])
    if (state[name] !== START[name]) query.set(name, state[name]);
  if (data.kind !== "weights") query.set("kind", data.kind);
  if (state.against) query.set("against", state.against);
  if (state.pins.length) query.set("pins", joined(state.pins));
  if (state.marked.length) query.set("heads", joined(state.marked));
  if (state.zoom) query.set("zoom", joined([state.zoom.slice(0, 2), state.zoom.slice(2)]));
  if (state.large) query.set("large", "1");
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
  showSwitches(controls, state);
  against.value = state.against || "";
  const alike = document.getElementById("alike");
  if (alike) alike.href = `/run/${path(state.run)}/head/${state.layer}/${state.head}/alike?example=${data.example}`;
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
saving(viewer, data, load.table);

// Another kind may have other heads and other runs to compare with: its page is loaded anew.
controls.addEventListener("change", ({ target }) => {
  if (target.name !== "kind") return;
  const { per_layer, runs } = data.kinds[target.value];
  const query = new URLSearchParams(location.search);
  query.delete("kind");
  if (per_layer || data.per_layer) for (const name of ["head", "heads"]) query.delete(name);
  if (!runs.includes(query.get("against"))) query.delete("against");
  if (target.value !== "weights") query.set("kind", target.value);
  location.search = query;
});
bind(controls, viewer);
against.addEventListener("change", () => viewer.set({ against: against.value || null }));
const go = (i) => checkpoints[i] && viewer.set({ run: checkpoints[i].run, against: viewer.state.against === checkpoints[i].run ? null : viewer.state.against });
steps.querySelector("input").addEventListener("input", (e) => go(Number(e.target.value)));
document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (target.matches("input:not([type=radio], [type=range]), select, textarea") || (target.matches("input") && event.key.startsWith("Arrow")) || document.querySelector("dialog[open]") || document.documentElement.dataset.leader) return;
  const at = checkpoints.findIndex((r) => r.run === viewer.state.run);
  if (event.key === "]") go(at + 1);
  else if (event.key === "[") go(at - 1);
  else viewer.key(event);
}, true);
