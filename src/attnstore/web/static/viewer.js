// Maps of one input: all heads at once, one of them large, lines from token to token.
//
// new Viewer(root, data, load, changed)
//   data     tokens, words, starts (first token of each word), layers, heads, scales, run
//   load     { all(run, unit), one(run, layer, head, unit) }: promises of { bytes, side, top } and of weights
//   changed  called with the state whenever it changes
// Every text goes onto a canvas or into textContent, never into HTML.

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const LONGEST = 16;
const LINE = 24; // pixels of a token beside the lines, as in viewer.css

export function shown(text, longest = LONGEST) {
  const clean = text.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const letters = [...clean];
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("")}…` : clean;
}

export function table(anchors) {
  const found = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (anchors.length - 1);
    const a = Math.min(Math.floor(place), anchors.length - 2);
    for (let band = 0; band < 3; band++)
      found[3 * i + band] = Math.round(anchors[a][band] + (anchors[a + 1][band] - anchors[a][band]) * (place - a));
  }
  return found;
}

// Squares of values, each 0 to 255, below one another as a picture, one pixel a cell.
export function picture(values, n, colors, squares = 1) {
  const image = new ImageData(n, n * squares);
  const pixels = new Uint32Array(image.data.buffer);
  const inks = Uint32Array.from({ length: 256 }, (_, q) => (255 << 24) | (colors[3 * q + 2] << 16) | (colors[3 * q + 1] << 8) | colors[3 * q]);
  for (let i = 0; i < pixels.length; i++) pixels[i] = inks[values[i]];
  const canvas = new OffscreenCanvas(n, n * squares);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export function sized(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.imageSmoothingEnabled = false;
  pen.direction = "ltr";
  return pen;
}

// A share of the largest weight (-1 to 1 if signed) as a place on a scale, 0 to 255.
export function shade(share, root, signed = false) {
  const size = Math.min(1, root ? Math.sqrt(Math.abs(share)) : Math.abs(share));
  return Math.round(signed ? 127.5 + 127.5 * Math.sign(share) * size : 255 * size);
}

// Bytes of an overview, 255 √share, as places on a scale; own: each map up to its own largest.
export function sizes(bytes, cells, root, own) {
  if (root && !own) return bytes;
  const places = new Uint8Array(bytes.length);
  for (let start = 0; start < bytes.length; start += cells) {
    let most = 255;
    if (own) {
      most = 1;
      for (let i = start; i < start + cells; i++) most = Math.max(most, bytes[i]);
    }
    const place = Uint8Array.from({ length: 256 }, (_, q) => shade((q / most) ** 2, root));
    for (let i = start; i < start + cells; i++) places[i] = place[bytes[i]];
  }
  return places;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const make = (tag, about = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), about);
  element.append(...children);
  return element;
};

export class Viewer {
  constructor(root, data, load, changed = () => {}) {
    Object.assign(this, { root, data, load, changed });
    this.colors = table(data.scales.weight);
    this.state = { run: data.run, against: null, layer: data.layers[0], head: data.heads[0], unit: "piece", scale: "root", range: "fixed", token: null, pins: [], ...data.state };
    this.kept = new Map();
    this.#build();
    new ResizeObserver(() => this.#resized()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  #build() {
    this.allNote = make("span", { className: "muted" });
    this.all = make("canvas", { className: "all", tabIndex: 0 });
    this.all.setAttribute("role", "application");
    this.all.setAttribute("aria-label", "Maps of all heads; arrow keys choose one");
    this.oneTitle = make("b");
    this.oneLink = make("a", { textContent: "about this head", hidden: !this.data.link });
    this.large = make("div", { className: "large" });
    this.hover = make("p", { className: "hover" });
    this.hover.setAttribute("aria-live", "polite");
    this.pins = make("ul", { className: "pins" });
    this.linesNote = make("span", { className: "muted" });
    this.lines = make("div", { className: "lines" });
    const one = make("section", { className: "one" }, make("p", { className: "caption" }, this.oneTitle, this.oneLink), this.large, this.hover, this.pins);
    const overview = make("section", { className: "overview" }, make("p", { className: "caption" }, make("b", { textContent: this.data.per_layer ? "All layers" : "All heads" }), this.allNote), make("div", { className: "scroll" }, this.all));
    const lines = make("section", { className: "drawn" }, make("p", { className: "caption" }, make("b", { textContent: "From token to token" }), this.linesNote), this.lines);
    this.both = make("div", { className: "example" }, overview, one, lines);
    this.root.replaceChildren(this.both);
    this.all.addEventListener("click", (e) => this.#pick(e));
    this.all.addEventListener("pointermove", (e) => this.#point(e));
    this.all.addEventListener("pointerleave", () => { this.allNote.textContent = this.note; });
    this.all.addEventListener("keydown", (e) => this.key(e));
  }

  get differences() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return table(this.data.scales[dark ? "difference_dark" : "difference"]);
  }

  get labels() {
    return this.state.unit === "word" ? this.data.words : this.data.tokens;
  }

  set(change) {
    const unit = change.unit && change.unit !== this.state.unit;
    Object.assign(this.state, change, unit ? { token: null, pins: [] } : {});
    this.changed(this.state);
    return this.draw();
  }

  // Keys: arrows from head to head, j and k from token to token, Escape for all lines, w for words,
  // l for a linear scale, f for one range of colors for all maps or one for each.
  key(event) {
    const { layers, heads } = this.data;
    const { layer, head, token } = this.state;
    const n = this.labels.length;
    const i = layers.indexOf(layer), j = heads.indexOf(head);
    const steps = {
      ArrowLeft: () => j > 0 && this.set({ head: heads[j - 1] }),
      ArrowRight: () => j < heads.length - 1 && this.set({ head: heads[j + 1] }),
      ArrowUp: () => i > 0 && this.set({ layer: layers[i - 1] }),
      ArrowDown: () => i < layers.length - 1 && this.set({ layer: layers[i + 1] }),
      j: () => this.set({ token: token === null ? 0 : Math.min(token + 1, n - 1) }),
      k: () => this.set({ token: token === null ? n - 1 : Math.max(token - 1, 0) }),
      Escape: () => this.set({ token: null }),
      l: () => this.set({ scale: this.state.scale === "linear" ? "root" : "linear" }),
      f: () => this.set({ range: this.state.range === "map" ? "fixed" : "map" }),
      w: () => this.set({ unit: this.state.unit === "word" ? "piece" : "word" }),
    };
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey) return false;
    event.preventDefault();
    event.stopPropagation();
    steps[event.key]();
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
    const { unit } = this.state;
    return this.#keep(`${run} ${unit}`, () => this.load.all(run, unit));
  }

  mapOf(run) {
    const { layer, head, unit } = this.state;
    return this.#keep(`${run} ${layer} ${head} ${unit}`, () => this.load.one(run, layer, head, unit));
  }

  async draw() {
    const turn = (this.turn = (this.turn || 0) + 1);
    const { run, against } = this.state;
    const runs = against ? [run, against] : [run];
    try {
      const asked = [Promise.all(runs.map((r) => this.overviewOf(r))), Promise.all(runs.map((r) => this.mapOf(r)))];
      this.overviews = await asked[0];
      if (turn !== this.turn) return;
      this.#drawAll();
      this.maps = await asked[1];
      if (turn !== this.turn) return;
      this.#drawLarge();
      this.#drawLines();
      this.root.dataset.drawn = String(turn);
      performance.mark("drawn");
    } catch (error) {
      this.hover.textContent = String(error.message || error);
    }
  }

  #resized() {
    const width = this.root.clientWidth;
    if (!this.maps || width === this.width) return;
    this.width = width;
    this.#drawAll();
    this.#drawLarge();
    this.#drawLines();
  }

  // All heads -----------------------------------------------------------------------------------

  #drawAll() {
    const { layers, heads } = this.data;
    const two = this.overviews.length === 2;
    this.both.classList.toggle("three", two);
    const [{ bytes, side }, other] = this.overviews;
    const room = this.all.parentElement.clientWidth || 600;
    const left = 20, top = 16, gap = 3;
    const cell = Math.max(16, Math.min(84, Math.floor((room - left) / heads.length) - gap));
    Object.assign(this, { left, top, pitch: cell + gap });
    const pen = sized(this.all, left + heads.length * this.pitch, top + layers.length * this.pitch);
    const colors = two ? this.differences : this.colors;
    pen.font = `11px ${css("--font")}`;
    pen.fillStyle = css("--soft");
    pen.textAlign = "center";
    const every = Math.ceil(18 / this.pitch);
    if (!this.data.per_layer) heads.forEach((head, j) => j % every || pen.fillText(head, left + j * this.pitch + cell / 2, 11));
    pen.textAlign = "end";
    layers.forEach((layer, i) => pen.fillText(layer, left - 6, top + i * this.pitch + cell / 2 + 4));
    const root = this.state.scale !== "linear", own = this.state.range === "map";
    const { values, most } = two ? this.#changes(bytes, other.bytes, side ** 2, root, own) : { values: sizes(bytes, side ** 2, root, own) };
    this.most = most;
    const image = picture(values, side, colors, layers.length * heads.length);
    pen.imageSmoothingEnabled = side > cell * (devicePixelRatio || 1);
    layers.forEach((layer, i) => heads.forEach((head, j) => {
      const x = left + j * this.pitch, y = top + i * this.pitch;
      pen.drawImage(image, 0, (i * heads.length + j) * side, side, side, x, y, cell, cell);
    }));
    const i = layers.indexOf(this.state.layer), j = heads.indexOf(this.state.head);
    pen.lineWidth = 2;
    pen.strokeStyle = css("--accent");
    pen.strokeRect(left + j * this.pitch - 1, top + i * this.pitch - 1, cell + 2, cell + 2);
    this.note = this.#said(two, root, own);
    this.allNote.textContent = this.note;
  }

  // Differences of two overviews as places on a scale, and the largest of all; own: of each map its own.
  #changes(mine, theirs, cells, root, own) {
    const most = [];
    for (let i = 0; i < mine.length; i++) {
      const map = Math.floor(i / cells);
      most[map] = Math.max(most[map] || 0, Math.abs(mine[i] ** 2 - theirs[i] ** 2));
    }
    const largest = Math.max(...most);
    const values = mine.map((q, i) => shade((q ** 2 - theirs[i] ** 2) / ((own ? most[Math.floor(i / cells)] : largest) || 1), root, true));
    return { values, most: largest / 65025 };
  }

  // What the colors of all maps mean.
  #said(two, root, own) {
    const scale = `on a ${root ? "square-root" : "linear"} scale`;
    if (two) return `${this.state.run} less ${this.state.against}; orange is more, blue is less, up to ${own ? "each map's own largest" : this.most.toFixed(2)}, ${scale}`;
    const unit = `${this.data.signed ? "size of a " : ""}${this.data.unit ?? "weight"}`;
    if (own) return `light is each map's own largest ${unit}, ${scale}`;
    return (this.data.shares ?? true) ? `light is a weight of 1, ${scale}` : `light is the largest ${unit} of all maps, ${scale}`;
  }

  #at(event) {
    const box = this.all.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - this.left) / this.pitch);
    const i = Math.floor((event.clientY - box.top - this.top) / this.pitch);
    return { layer: this.data.layers[i], head: this.data.heads[j] };
  }

  #point(event) {
    const { layer, head } = this.#at(event);
    this.allNote.textContent = layer === undefined || head === undefined ? this.note : this.data.per_layer ? `layer ${layer}` : `layer ${layer}, head ${head}`;
  }

  #pick(event) {
    const { layer, head } = this.#at(event);
    if (layer !== undefined && head !== undefined) this.set({ layer, head });
  }

  // One head ------------------------------------------------------------------------------------

  #drawLarge() {
    const { run, against, layer, head } = this.state;
    const kind = this.data.kind ?? "weights";
    this.oneTitle.textContent = `Layer ${layer}${this.data.per_layer ? "" : `, head ${head}`}${kind === "weights" ? "" : `: ${kind}`}`;
    if (this.data.link) this.oneLink.href = this.data.link(this.state);
    const [mine, theirs] = this.maps;
    const n = this.labels.length;
    const views = [{ title: run, values: mine, signed: Boolean(this.data.signed) }];
    if (against) {
      const difference = mine.map((w, i) => w - theirs[i]);
      views.push({ title: against, values: theirs }, { title: `${run} less ${against}`, values: difference, signed: true });
    }
    const own = this.state.range === "map";
    const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const top = own ? Math.max(...this.maps.map(largest)) : Math.max(...this.overviews.map((o) => o.top));
    const width = this.large.clientWidth || 600;
    const each = against && width > 760 ? (width - 36) / 3 : Math.min(width, 620);
    this.large.replaceChildren(...views.map((view) => {
      const canvas = make("canvas");
      const reach = view.values === mine || view.values === theirs ? top : Math.max(largest(view.values), own ? 0 : this.most);
      const drawing = new Square(canvas, this.labels, view.values, each, view.signed ? this.differences : this.colors, reach, { signed: view.signed, root: this.state.scale !== "linear" });
      canvas.addEventListener("pointermove", (e) => this.#hovered(drawing.at(e), drawing));
      canvas.addEventListener("pointerleave", () => this.#hovered(null, drawing));
      canvas.addEventListener("click", (e) => this.#pin(drawing.at(e)));
      view.drawing = drawing;
      return make("figure", {}, ...(against ? [make("figcaption", { textContent: view.title })] : []), canvas);
    }));
    this.views = views;
    this.#drawPins();
  }

  told(i, j) {
    const weights = this.maps.map((m) => m[i * this.labels.length + j]);
    const values = weights.length === 2 ? `${weights[0].toFixed(4)} and ${weights[1].toFixed(4)}, ${(weights[0] - weights[1] >= 0 ? "+" : "−") + Math.abs(weights[0] - weights[1]).toFixed(4)}` : weights[0].toFixed(4);
    return `${shown(this.labels[i])} → ${shown(this.labels[j])}: ${values}`;
  }

  #hovered(cell) {
    for (const { drawing } of this.views) drawing.draw(this.state.pins, cell);
    this.hover.textContent = cell ? `${this.told(...cell)}  (${cell[0]} → ${cell[1]})` : "";
  }

  #pin(cell) {
    if (!cell) return;
    const same = ([i, j]) => i === cell[0] && j === cell[1];
    const { pins } = this.state;
    this.set({ pins: pins.some(same) ? pins.filter((p) => !same(p)) : [...pins, cell] });
  }

  #drawPins() {
    const n = this.labels.length;
    const pins = this.state.pins.filter(([i, j]) => i < n && j < n);
    for (const { drawing } of this.views) drawing.draw(pins, null);
    this.pins.replaceChildren(...pins.map((pin) => {
      const close = make("button", { type: "button", textContent: "×" });
      close.setAttribute("aria-label", "Take this pin away");
      close.addEventListener("click", () => this.#pin(pin));
      return make("li", {}, this.told(...pin), close);
    }));
  }

  // Lines ---------------------------------------------------------------------------------------

  #drawLines() {
    const { token, against } = this.state;
    const n = this.labels.length;
    const chosen = token !== null && token < n ? token : null;
    const most = (this.data.shares ?? true) ? 1 : Math.max(...this.maps.map((m) => m.reduce((a, b) => Math.max(a, Math.abs(b)), 0))) || 1;
    this.linesNote.textContent = chosen === null
      ? "Every token's weights, strong lines are strong weights; choose a token for its own."
      : `What “${shown(this.labels[chosen])}” attends to${against ? ": this run in the accent color, the other in blue" : ""}.`;
    const from = make("ol"), to = make("ol");
    this.labels.forEach((label, i) => {
      const button = make("button", { type: "button", textContent: shown(label, 24), title: shown(label, 300) });
      button.setAttribute("aria-pressed", String(i === chosen));
      button.addEventListener("click", () => this.set({ token: i === chosen ? null : i }));
      from.append(make("li", {}, button));
      const weight = chosen === null ? null : this.maps[0][chosen * n + i];
      const name = make("span", { textContent: shown(label, 24) });
      const item = make("li", {}, name);
      if (weight !== null && Math.abs(weight) / most >= 0.005) item.append(make("span", { className: "muted", textContent: most === 1 ? weight.toFixed(2) : weight.toPrecision(2) }));
      to.append(item);
    });
    const canvas = make("canvas");
    this.lines.replaceChildren(from, canvas, to);
    const box = this.lines.getBoundingClientRect();
    const width = this.lines.clientWidth, height = n * LINE;
    const pen = sized(canvas, width, height);
    const x0 = from.getBoundingClientRect().right - box.left + 4, x1 = to.getBoundingClientRect().left - box.left - 4;
    const colors = [css("--accent"), css("--bar")];
    this.maps.forEach((map, which) => {
      pen.strokeStyle = colors[which];
      for (let i = 0; i < n; i++) {
        if (chosen !== null ? i !== chosen : which) continue;
        for (let j = 0; j < n; j++) {
          const weight = Math.abs(map[i * n + j]) / most;
          if (weight < 0.02) continue;
          pen.globalAlpha = Math.min(1, chosen === null ? weight * 0.8 : weight + 0.08);
          pen.lineWidth = chosen === null ? 1 : 1 + 2.5 * weight;
          const y0 = (i + 0.5) * LINE, y1 = (j + 0.5) * LINE + (which ? 3 : 0);
          pen.beginPath();
          pen.moveTo(x0, y0);
          pen.bezierCurveTo(x0 + (x1 - x0) * 0.4, y0, x0 + (x1 - x0) * 0.6, y1, x1, y1);
          pen.stroke();
        }
      }
    });
  }
}

// One map with its tokens along both sides.
export class Square {
  constructor(canvas, labels, values, width, colors, top, { signed = false, root = true, named = true, largest = 26 } = {}) {
    Object.assign(this, { canvas, labels, top, signed, root });
    const n = labels.length;
    const shades = new Uint8Array(n * n);
    for (let i = 0; i < n * n; i++) shades[i] = shade(values[i] / (top || 1), root, signed);
    this.image = picture(shades, n, colors);
    this.scale = colors;
    const letters = Math.max(...labels.map((l) => [...shown(l, 13)].length));
    this.room = named ? Math.min(letters * 6.4 + 8, width * 0.24, 96) : 0;
    this.cell = Math.min((width - this.room - 2) / n, largest);
    this.side = this.cell * n;
    this.width = Math.max(this.room + this.side + 2, Math.min(width, 170));
    this.bar = named ? 26 : 0;
  }

  draw(pins, cell) {
    const { room, side, cell: pitch, labels } = this;
    const pen = sized(this.canvas, this.width, room + side + this.bar + 2);
    pen.imageSmoothingEnabled = pitch * (devicePixelRatio || 1) < 1;
    pen.drawImage(this.image, room, room, side, side);
    if (room) this.#names(pen, cell);
    const mark = ([i, j], color) => {
      pen.lineWidth = 1.5;
      pen.strokeStyle = color;
      pen.strokeRect(room + j * pitch - 0.5, room + i * pitch - 0.5, pitch + 1, pitch + 1);
    };
    for (const pin of pins) if (pin[0] < labels.length && pin[1] < labels.length) mark(pin, "#ff5a1f");
    if (cell) {
      pen.globalAlpha = 0.35;
      pen.strokeStyle = "#fff";
      pen.strokeRect(room, room + cell[0] * pitch, side, pitch);
      pen.strokeRect(room + cell[1] * pitch, room, pitch, side);
      pen.globalAlpha = 1;
      mark(cell, "#fff");
    }
    if (this.bar) this.#scale(pen);
  }

  #names(pen, cell) {
    const { room, cell: pitch, labels } = this;
    const size = Math.max(9, Math.min(12, pitch + 1));
    const every = Math.max(1, Math.ceil(size / pitch));
    const longest = Math.floor((room - 6) / (size * 0.56));
    const soft = css("--soft"), ink = css("--ink");
    labels.forEach((label, i) => {
      const text = shown(label, longest);
      for (const up of [false, true]) {
        const on = cell && cell[up ? 1 : 0] === i;
        const hidden = cell && Math.abs(cell[up ? 1 : 0] - i) * pitch < size && !on;
        if ((i % every && !on) || (hidden && every > 1)) continue;
        pen.save();
        pen.font = `${on ? "600 " : ""}${size}px ${css("--font")}`;
        pen.fillStyle = on ? ink : soft;
        pen.textBaseline = "middle";
        pen.textAlign = up ? "start" : "end";
        if (up) {
          pen.translate(room + (i + 0.5) * pitch, room - 5);
          pen.rotate(-Math.PI / 2);
          pen.fillText(text, 0, 0);
        } else pen.fillText(text, room - 5, room + (i + 0.5) * pitch);
        pen.restore();
      }
    });
  }

  #scale(pen) {
    const y = this.room + this.side + 10, long = Math.min(120, this.side * 0.5);
    for (let i = 0; i < long; i++) {
      const at = 3 * Math.round((255 * i) / (long - 1));
      pen.fillStyle = `rgb(${this.scale[at]} ${this.scale[at + 1]} ${this.scale[at + 2]})`;
      pen.fillRect(this.room + 26 + i, y, 1.5, 8);
    }
    pen.font = `11px ${css("--font")}`;
    pen.fillStyle = css("--soft");
    pen.textAlign = "end";
    pen.fillText(this.signed ? `−${this.top < 0.1 ? this.top.toPrecision(2) : this.top.toFixed(2)}` : "0", this.room + 22, y + 8);
    pen.textAlign = "start";
    pen.fillText(`${this.top < 0.1 ? this.top.toPrecision(2) : this.top.toFixed(2)}${this.root ? "  square-root scale" : ""}`, this.room + 31 + long, y + 8);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - this.room) / this.cell);
    const i = Math.floor((event.clientY - box.top - this.room) / this.cell);
    const n = this.labels.length;
    return i >= 0 && j >= 0 && i < n && j < n ? [i, j] : null;
  }
}
