// One head's map, large: of one run, or of two with their difference; its zoom, pins and values.
import { css, equal, largest, make, shown } from "./painting.js";
import { strongest } from "./shown_tokens.js";
import { Square } from "./square.js";

const DRAGGED = 6; // pixels from which a pointer chooses an area instead of a cell
const FEWEST = 4; // tokens a side that a zoom goes down to
const WIDEST = 620, ENLARGED = 1180; // pixels

export class LargeMap {
  constructor(root, viewer) {
    this.viewer = viewer;
    this.views = [];
    this.title = make("b");
    this.link = make("a", { textContent: "about this head", hidden: !viewer.data.link });
    const button = (text, label, act) => {
      const made = make("button", { type: "button", textContent: text, title: label });
      made.setAttribute("aria-label", label);
      made.addEventListener("click", act);
      return made;
    };
    this.keep = button("+ color", "Keep this head's lines in a color of their own (m)", () => viewer.mark(viewer.state));
    this.keep.hidden = Boolean(viewer.data.per_layer);
    this.out = button("−", "Zoom out (-)", () => this.zoom(2));
    this.whole = button("whole map", "Show the whole map (0)", () => viewer.set({ zoom: null }));
    this.wide = button("large", "A large map, over the whole width (e)", () => viewer.set({ large: !viewer.state.large }));
    const zooming = make("span", { className: "zooming" }, this.keep, this.out, button("+", "Zoom in (+); or draw a frame on the map", () => this.zoom(0.5)), this.whole, this.wide);
    this.pictures = make("div", { className: "large" });
    this.hover = make("p", { className: "hover" });
    this.hover.setAttribute("aria-live", "polite");
    this.pins = make("ul", { className: "pins" });
    this.values = make("details", { className: "values" }, make("summary", { textContent: "Values" }), make("div", { className: "scroll" }));
    this.values.addEventListener("toggle", () => this.#list());
    root.replaceChildren(make("p", { className: "caption" }, this.title, this.link, zooming), this.pictures, this.hover, this.pins, this.values);
  }

  say(text) {
    this.hover.textContent = text;
  }

  draw() {
    const { data, state, maps, cells, units, shown: all } = this.viewer;
    const { run, against, layer, head } = state;
    const kind = data.kind ?? "weights";
    const name = `${data.per_layer ? `Layer ${layer}` : `Layer ${layer}, head ${head}`}${kind === "weights" ? "" : `: ${kind}`}`;
    this.title.textContent = name;
    if (data.link) this.link.href = data.link(state);
    const zoomed = cells.rows.length < all.rows.length || cells.columns.length < all.columns.length;
    this.out.hidden = this.whole.hidden = !zoomed;
    this.wide.setAttribute("aria-pressed", String(state.large));
    this.keep.setAttribute("aria-pressed", String(state.marked.some(([l, h]) => l === layer && h === head)));
    this.#shape(against ? [run, against, `${run} less ${against}`] : [run]);
    const [mine, theirs] = maps.map((map) => this.viewer.partOf(map, cells));
    const values = theirs ? [mine, theirs, mine.map((w, i) => w - theirs[i])] : [mine];
    const labels = (places) => places.map((i) => units.labels[i]);
    const about = this.#scale(maps, values);
    const size = `${cells.rows.length} by ${cells.columns.length} tokens`;
    this.views.forEach((view, i) => {
      view.square = new Square(view.canvas, { down: labels(cells.rows), across: labels(cells.columns), values: values[i], least: this.viewer.least, ...about[i] });
      view.canvas.setAttribute("aria-label", `${name} of ${view.title}, ${size}; the strongest: ${this.#strongest(values[i])}. Arrow keys go from cell to cell, Enter pins one; all values are listed below.`);
    });
    this.cell = null;
    this.say("");
    this.#paint();
    this.#pinned();
    this.#list();
  }

  // A canvas for each map; those that are there stay, with their focus.
  #shape(titles) {
    if (this.views.length !== titles.length) {
      this.views = titles.map(() => this.#canvas());
      this.pictures.replaceChildren(...this.views.map((v) => v.figure));
    }
    titles.forEach((title, i) => {
      this.views[i].title = title;
      this.views[i].caption.textContent = titles.length > 1 ? title : "";
    });
  }

  #canvas() {
    const view = { canvas: make("canvas", { tabIndex: 0 }), caption: make("figcaption") };
    const { canvas } = view;
    canvas.setAttribute("role", "application");
    view.figure = make("figure", {}, view.caption, canvas);
    let down = null, area = null, skip = false;
    canvas.addEventListener("pointerdown", (e) => {
      down = e.button || e.pointerType === "touch" ? null : { x: e.clientX, y: e.clientY, cell: view.square.at(e) };
      if (down?.cell) canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", (e) => {
      const cell = view.square.at(e);
      if (down?.cell && cell && Math.hypot(e.clientX - down.x, e.clientY - down.y) > DRAGGED) area = [down.cell, cell];
      this.#point(cell, area);
    });
    canvas.addEventListener("pointerup", () => {
      if (area) {
        skip = true;
        setTimeout(() => { skip = false; });
        this.#frame(...area);
      }
      down = area = null;
    });
    canvas.addEventListener("pointercancel", () => { down = area = null; });
    canvas.addEventListener("pointerleave", () => { if (!area) this.#point(null); });
    canvas.addEventListener("click", (e) => { if (!skip) this.#pin(view.square.at(e)); });
    return view;
  }

  // Of each map its scale: the sizes share one, the difference has its own.
  #scale(maps, values) {
    const { data, state, overviews, colors, differences, most } = this.viewer;
    const own = state.range === "map", root = state.scale !== "linear";
    const room = this.pictures.clientWidth || 600;
    const width = state.against && room > 760 && !state.large ? (room - 36) / 3 : Math.min(room, state.large ? ENLARGED : WIDEST);
    const whole = own ? maps.map((map) => this.viewer.partOf(map)) : [];
    const top = own ? Math.max(...whole.map(largest)) : Math.max(...overviews.map((o) => o.top));
    return values.map((part, i) => {
      const signed = i === 2 || Boolean(data.signed);
      const gray = own && i < 2 && equal(whole[i]) ? data.scales.equal[0] : null;
      return { width, root, signed, gray, colors: signed ? differences : colors, top: i < 2 ? top : Math.max(largest(part), own ? 0 : most) };
    });
  }

  // Pointing, pinning, zooming ------------------------------------------------------------------

  #paint(area = null) {
    const { rows, columns } = this.viewer.cells;
    const pins = this.viewer.state.pins.map(([i, j]) => [rows.indexOf(i), columns.indexOf(j)]).filter(([i, j]) => i >= 0 && j >= 0);
    for (const { square } of this.views) square.draw(pins, this.cell, area);
  }

  #point(cell, area = null) {
    this.cell = cell;
    this.say(cell ? this.told(...this.#places(cell)) : "");
    this.next ??= requestAnimationFrame(() => {
      this.next = null;
      this.#paint(this.area);
    });
    this.area = area;
  }

  // Positions of the tokens of a cell.
  #places([i, j]) {
    return [this.viewer.cells.rows[i], this.viewer.cells.columns[j]];
  }

  told(i, j) {
    const { maps, units, state } = this.viewer;
    const n = units.labels.length;
    const weights = maps.map((map) => this.viewer.partOf(map, { rows: [i], columns: [j] })[0]);
    const values = weights.length === 2 ? `${weights[0].toFixed(4)} and ${weights[1].toFixed(4)}, ${(weights[0] - weights[1] >= 0 ? "+" : "−") + Math.abs(weights[0] - weights[1]).toFixed(4)}` : weights[0].toFixed(4);
    const stored = state.specials === "renormalise" ? `, stored ${maps.map((map) => map[i * n + j].toFixed(4)).join(" and ")}` : "";
    return `${shown(units.labels[i])} → ${shown(units.labels[j])}: ${values}${stored}  (${i} → ${j})`;
  }

  #pin(cell) {
    if (cell) this.#toggle(this.#places(cell));
  }

  #toggle(pin) {
    const same = ([i, j]) => i === pin[0] && j === pin[1];
    const { pins } = this.viewer.state;
    this.viewer.set({ pins: pins.some(same) ? pins.filter((p) => !same(p)) : [...pins, pin] });
  }

  #pinned() {
    const n = this.viewer.units.labels.length;
    const pins = this.viewer.state.pins.filter(([i, j]) => i < n && j < n);
    this.pins.replaceChildren(...pins.map((pin) => {
      const close = make("button", { type: "button", textContent: "×" });
      close.setAttribute("aria-label", "Take this pin away");
      close.addEventListener("click", () => this.#toggle(pin));
      return make("li", {}, this.told(...pin).replace(/ {2}\(.*/, ""), close);
    }));
  }

  #frame([i, j], [i2, j2]) {
    const { rows, columns } = this.viewer.cells;
    const sides = (list, a, b) => [list[Math.min(a, b)], list[Math.max(a, b)]];
    this.viewer.set({ zoom: [...sides(rows, i, i2), ...sides(columns, j, j2)] });
  }

  // Show so many times as many tokens a side, around the cell under the pointer, the first pin or the middle.
  zoom(factor) {
    const { cells, shown: all, state } = this.viewer;
    const at = this.cell ? this.#places(this.cell) : state.pins.find(([i, j]) => cells.rows.includes(i) && cells.columns.includes(j));
    const around = (now, list, place) => {
      const n = Math.min(list.length, Math.max(FEWEST, Math.round(now.length * factor)));
      const middle = list.indexOf(place ?? now[now.length >> 1]);
      const first = Math.max(0, Math.min(list.length - n, middle - (n >> 1)));
      return [list[first], list[first + n - 1]];
    };
    const [rows, columns] = [around(cells.rows, all.rows, at?.[0]), around(cells.columns, all.columns, at?.[1])];
    const whole = (list, ends) => ends[0] === list[0] && ends[1] === list.at(-1);
    this.viewer.set({ zoom: whole(all.rows, rows) && whole(all.columns, columns) ? null : [...rows, ...columns] });
  }

  // What a key does while the map has the focus; nothing for others.
  key(event) {
    const { rows, columns } = this.viewer.cells ?? {};
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!rows || !this.views.some((v) => v.canvas === event.target)) return null;
    if (event.key === "Enter") return () => this.#pin(this.cell);
    const move = moves[event.key];
    if (!move) return null;
    const inside = (at, n) => Math.max(0, Math.min(n - 1, at));
    return () => this.#point(this.cell ? [inside(this.cell[0] + move[0], rows.length), inside(this.cell[1] + move[1], columns.length)] : [0, 0]);
  }

  // Values --------------------------------------------------------------------------------------

  #strongest(values) {
    const { cells, units } = this.viewer;
    const n = cells.columns.length;
    return strongest(values, 3).map((k) => `${shown(units.labels[cells.rows[Math.floor(k / n)]])} → ${shown(units.labels[cells.columns[k % n]])} ${values[k].toFixed(2)}`).join(", ") || "none";
  }

  // Of each token that is shown, the three that it attends to most.
  #list() {
    const { cells, units, maps } = this.viewer;
    if (!this.values.open || !maps) return;
    const values = this.viewer.partOf(maps[0], cells), n = cells.columns.length;
    const rows = cells.rows.map((i, a) => {
      const row = values.subarray(a * n, (a + 1) * n);
      const told = strongest(row, 3).map((b) => `${shown(units.labels[cells.columns[b]])} ${row[b].toFixed(4)}`);
      return make("tr", {}, make("th", { textContent: shown(units.labels[i]), scope: "row" }), ...[0, 1, 2].map((k) => make("td", { textContent: told[k] ?? "" })));
    });
    const head = make("tr", {}, ...["from", "to most", "second", "third"].map((text) => make("th", { textContent: text, scope: "col" })));
    this.values.lastChild.replaceChildren(make("table", { className: "list" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }
}
