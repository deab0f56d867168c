// Maps of one input: all heads at once, one of them large, lines from token to token, its text.
//
// new Viewer(root, data, load, changed)
//   data     tokens, words, starts (first token of each word), special, segments, texts, places (letters of each
//            token), layers, heads, scales, run
//   load     { all(run, state), one(run, layer, head, unit) }: promises of { bytes, side, across, top } of the
//            tokens that are shown, and of all weights
//   changed  called with the state whenever it changes
import { LargeMap } from "./large_map.js";
import { Overview } from "./overview.js";
import { css, equal, largest, make, rgb, shown, table } from "./painting.js";
import { part, shownTokens, strongest, units, within } from "./shown_tokens.js";
import { TokenLines } from "./token_lines.js";
import { TokenText } from "./token_text.js";
import { actOf } from "./viewer_keys.js";

export const START = {
  against: null, unit: "piece", scale: "root", range: "fixed", specials: "keep", sentences: "", least: 0, token: null,
  pins: [], zoom: null, marked: [], large: false,
};

export class Viewer {
  constructor(root, data, load, changed = () => {}) {
    Object.assign(this, { root, data, load, changed });
    this.colors = table(data.scales.weight);
    this.state = { ...START, run: data.run, layer: data.layers[0], head: data.heads[0], ...data.state };
    this.kept = new Map();
    this.#build();
    new ResizeObserver(() => this.#resized()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  #build() {
    this.allNote = make("span", { className: "muted" });
    const all = make("canvas", { className: "all", tabIndex: 0 });
    all.setAttribute("role", "application");
    all.setAttribute("aria-label", "Maps of all heads; arrow keys choose one, m keeps its lines");
    this.linesNote = make("span", { className: "muted" });
    this.marks = make("ul", { className: "pins" });
    const lines = make("div", { className: "lines" });
    const one = make("section", { className: "one" });
    const overview = make("section", { className: "overview" }, make("p", { className: "caption" }, make("b", { textContent: this.data.per_layer ? "All layers" : "All heads" }), this.allNote), make("div", { className: "scroll" }, all));
    const drawn = make("section", { className: "drawn" }, make("p", { className: "caption" }, make("b", { textContent: "From token to token" }), this.linesNote), this.marks, lines);
    this.both = make("div", { className: "example" }, overview, one, drawn);
    this.root.replaceChildren(this.both);
    this.overview = new Overview(all, this.data);
    this.one = new LargeMap(one, this);
    const about = { pointed: (i) => this.point(i), chosen: (i) => this.set({ token: i === this.state.token ? null : i }) };
    this.lines = new TokenLines(lines, about);
    const unit = (i) => (i === null || this.state.unit !== "word" ? i : this.data.starts.findLastIndex((first) => first <= i));
    this.text = new TokenText(document.querySelector(".text"), this.data, { pointed: (tokens) => this.point(tokens && unit(tokens[0])), chosen: (i) => about.chosen(unit(i)) });
    this.lit = make("p", { className: "muted small lit" });
    document.querySelector(".text")?.append(this.lit);
    all.addEventListener("click", (e) => { const head = this.overview.at(e); if (head) e.shiftKey || e.ctrlKey || e.metaKey ? this.mark(head) : this.set(head); });
    all.addEventListener("pointermove", (e) => { this.allNote.textContent = this.#named(this.overview.at(e)) ?? this.note; });
    all.addEventListener("pointerleave", () => { this.allNote.textContent = this.note; });
    document.addEventListener("pointerdown", (e) => { this.elsewhere = !this.root.contains(e.target); });
  }

  #named(head) {
    return head && (this.data.per_layer ? `layer ${head.layer}` : `layer ${head.layer}, head ${head.head}`);
  }

  get differences() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return table(this.data.scales[dark ? "difference_dark" : "difference"]);
  }

  get shares() {
    return this.data.shares ?? true;
  }

  set(change) {
    const unit = change.unit && change.unit !== this.state.unit;
    Object.assign(this.state, unit || change.sentences !== undefined ? { zoom: null } : {}, change, unit ? { token: null, pins: [] } : {});
    this.changed(this.state);
    return this.draw();
  }

  // Keep the lines of a head in a color of their own while others are chosen, or no longer.
  mark({ layer, head }) {
    const same = ([l, h]) => l === layer && h === head;
    const { marked } = this.state;
    const others = marked.filter((m) => !same(m));
    if (others.length === marked.length && marked.length >= this.data.scales.series.length) return;
    this.set({ layer, head, marked: others.length < marked.length ? others : [...marked, [layer, head]] });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const act = this.one.key(event) || actOf(this, event);
    if (!act) return false;
    event.preventDefault();
    event.stopPropagation();
    act();
    return true;
  }

  #keep(key, load) {
    if (!this.kept.has(key)) {
      if (this.kept.size > 400) this.kept.clear();
      const found = load();
      found.catch(() => this.kept.delete(key));
      this.kept.set(key, found);
    }
    return this.kept.get(key);
  }

  overviewOf(run) {
    const { unit, specials, sentences } = this.state;
    return this.#keep(`${run} ${unit} ${specials} ${sentences}`, () => this.load.all(run, { unit, specials, sentences }));
  }

  mapOf(run, layer = this.state.layer, head = this.state.head) {
    const { unit } = this.state;
    return this.#keep(`${run} ${layer} ${head} ${unit}`, () => this.load.one(run, layer, head, unit));
  }

  async draw() {
    const turn = (this.turn = (this.turn || 0) + 1);
    const { run, against, marked, unit } = this.state;
    const runs = against ? [run, against] : [run];
    try {
      this.units = units(this.data, unit);
      this.shown = shownTokens(this.units, this.state);
      if (!this.shown.rows.length || !this.shown.columns.length) throw new Error("No token is left to show; show special tokens, or all texts.");
      const asked = [Promise.all(runs.map((r) => this.overviewOf(r))), Promise.all(runs.map((r) => this.mapOf(r))), Promise.all(marked.map((m) => this.mapOf(run, ...m)))];
      this.overviews = await asked[0];
      if (turn !== this.turn) return;
      this.#drawAll();
      this.maps = await asked[1];
      this.others = await asked[2];
      if (turn !== this.turn) return;
      this.#drawOne();
      this.root.dataset.drawn = String(turn);
      performance.mark("drawn");
    } catch (error) {
      this.one.say(String(error.message || error));
    }
  }

  #resized() {
    const width = this.root.clientWidth;
    if (!this.maps || width === this.width) return;
    this.width = width;
    this.#drawAll();
    this.#drawOne();
  }

  #drawOne() {
    this.cells = within(this.shown, this.state.zoom);
    this.one.draw();
    this.#listLines();
    this.point(null);
  }

  #drawAll() {
    const two = this.overviews.length === 2;
    const { layer, head, marked, scale, range, least } = this.state;
    this.both.classList.toggle("three", two || this.state.large);
    const how = { root: scale !== "linear", own: range === "map", least: 255 * Math.sqrt(least), colors: two ? this.differences : this.colors, gray: rgb(this.data.scales.equal[0]) };
    const framed = [...marked.map(([l, h], i) => [l, h, this.seriesColor(i)]), ...(this.#place(layer, head) < 0 ? [[layer, head, css("--accent")]] : [])];
    this.how = how;
    this.most = this.overview.draw(this.overviews, how, framed);
    this.note = this.#said(two, how.root, how.own);
    this.allNote.textContent = this.note;
  }

  // Of the marked heads, those first that differ most from the color of the chosen one.
  seriesColor(i) {
    return rgb(this.data.scales.series[[0, 2, 3, 4, 6, 7, 1, 5][i]]);
  }

  #place(layer, head) {
    return this.state.marked.findIndex(([l, h]) => l === layer && h === head);
  }

  // What the colors of all maps mean.
  #said(two, root, own) {
    const { least, specials } = this.state;
    const scale = `on a ${root ? "square-root" : "linear"} scale${least ? `; below ${least}${this.shares ? "" : " of it"} is drawn as 0` : ""}`;
    const unit = `${this.data.signed ? "size of a " : ""}${this.data.unit ?? "weight"}`;
    const rows = { keep: "", drop: "without special tokens, ", renormalise: "without special tokens, rows sum to 1, " }[specials];
    if (two) return `${this.state.run} less ${this.state.against}; orange is more, blue is less, up to ${own ? "each map's own largest" : this.most.toFixed(2)}, ${rows}${scale}`;
    if (own) return `light is each map's own largest ${unit}, gray where all are equal, ${rows}${scale}`;
    return this.shares ? `light is a weight of 1, ${rows}${scale}` : `light is the largest ${unit} of all maps, ${rows}${scale}`;
  }

  // Weights of a map between the tokens that are shown; cells: all of them, or those that are zoomed into.
  partOf(map, cells = this.shown) {
    const { labels, special } = this.units;
    return part(map, labels.length, cells, this.state.specials === "renormalise" ? special : null);
  }

  // The threshold as a weight.
  get least() {
    return this.state.least * (this.shares ? 1 : Math.max(...this.overviews.map((o) => o.top)));
  }

  // Lines and text ------------------------------------------------------------------------------

  #listLines() {
    const { token, against, layer, head, marked } = this.state;
    const { rows, columns } = this.shown;
    const colors = [css("--accent"), css("--bar")];
    const at = this.#place(layer, head);
    this.drawn = this.maps.map((map, i) => ({ values: this.partOf(map), color: i || at < 0 ? colors[i] : this.seriesColor(at), head: `${layer}.${head}` }));
    if (!against) this.others.forEach((map, i) => i === at || this.drawn.push({ values: this.partOf(map), color: this.seriesColor(i), head: marked[i].join(".") }));
    this.strongest = this.shares ? 1 : Math.max(...this.drawn.map(({ values }) => largest(values))) || 1;
    this.lines.list(rows, columns, this.units.labels, rows.includes(token) ? token : null);
    this.marks.replaceChildren(...(against ? [] : marked).map(([l, h], i) => {
      const close = make("button", { type: "button", textContent: "×" });
      close.setAttribute("aria-label", `Take layer ${l}, head ${h} away`);
      close.addEventListener("click", () => this.set({ marked: marked.filter((_, k) => k !== i) }));
      const dot = make("i", { className: "dot" });
      dot.style.background = this.seriesColor(i);
      return make("li", {}, dot, `layer ${l}, head ${h}`, close);
    }));
  }

  // Show what one token attends to: the one under the pointer, else the chosen one; of none, all lines.
  point(i) {
    if (!this.drawn) return;
    const { rows, columns } = this.shown;
    const { labels } = this.units;
    const token = [i, this.state.token].find((t) => t !== null && rows.includes(t)) ?? null;
    if (this.pointed === token && this.pictured === this.drawn) return;
    Object.assign(this, { pointed: token, pictured: this.drawn });
    this.lines.draw(this.drawn, token, this.strongest, this.least);
    const name = token === null ? "" : `“${shown(labels[token])}”`;
    const several = this.drawn.length > 1;
    this.linesNote.textContent = token === null
      ? `Every token's weights, strong lines are strong weights; choose a token for its own${several ? "; a color for each head" : ""}.`
      : `What ${name} attends to${this.state.against ? ": this run in the accent color, the other in blue" : several ? ", a color for each head" : ""}.`;
    this.#light(token, name, columns, labels);
  }

  // Light up a token's targets in the text: of several heads, in the color of the one with the largest weight.
  #light(token, name, columns, labels) {
    const to = new Map();
    const { rows } = this.shown;
    const row = ({ values }) => values.subarray(rows.indexOf(token) * columns.length, (rows.indexOf(token) + 1) * columns.length);
    const tokensOf = (unit) => (this.state.unit === "word" ? this.tokensOf(unit) : [unit]);
    if (token === null) this.lit.textContent = "";
    else {
      const lists = (this.state.against ? this.drawn.slice(0, 1) : this.drawn).map((drawn, _, all) => ({ weights: row(drawn), color: drawn.color, name: all.length > 1 ? `${drawn.head}: ` : "" }));
      const end = this.state.range === "map" ? Math.max(...lists.map((l) => largest(l.weights))) || 1 : this.strongest;
      columns.forEach((j, b) => {
        const { weights, color } = lists.reduce((most, list) => (Math.abs(list.weights[b]) > Math.abs(most.weights[b]) ? list : most));
        const share = Math.min(1, Math.abs(weights[b]) / end);
        if (Math.abs(weights[b]) < Math.max(this.least, 0.005 * end)) return;
        for (const t of tokensOf(j)) to.set(t, { weight: weights[b], strength: this.state.scale === "linear" ? share : Math.sqrt(share), color });
      });
      const said = lists.map(({ weights, name: head }) => {
        const most = strongest(weights, lists.length > 1 ? 2 : 4, Math.max(this.least, 0.005 * end));
        return `${head}${most.map((b) => `${shown(labels[columns[b]])} ${weights[b].toFixed(2)}`).join(", ") || "nothing"}`;
      });
      this.lit.textContent = `${name} → ${said.join("; ")}`;
    }
    this.text.light(token === null ? [] : tokensOf(token), to);
  }

  // Pieces of a word.
  tokensOf(word) {
    const { starts, tokens } = this.data;
    return Array.from({ length: (starts[word + 1] ?? tokens.length) - starts[word] }, (_, i) => starts[word] + i);
  }
}
