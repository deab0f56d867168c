// Tokens in two columns and lines between them, as strong as the weights.
import { make, shown, sized } from "./painting.js";

const ROW = 24; // pixels, as in viewer.css

export class TokenLines {
  constructor(root, { chosen, pointed }) {
    this.root = root;
    this.from = make("ol");
    this.to = make("ol");
    this.canvas = make("canvas");
    root.replaceChildren(this.from, this.canvas, this.to);
    const row = (event) => { const item = event.target.closest("li"); return item && item.parentElement === this.from ? Number(item.dataset.token) : null; };
    this.from.addEventListener("click", (e) => { if (row(e) !== null) chosen(row(e)); });
    this.from.addEventListener("pointerover", (e) => pointed(row(e)));
    this.from.addEventListener("pointerleave", () => pointed(null));
  }

  // rows, columns: positions of the tokens; labels: of all; chosen: the token whose button is pressed
  list(rows, columns, labels, chosen) {
    Object.assign(this, { rows, columns });
    this.from.replaceChildren(...rows.map((i) => {
      const button = make("button", { type: "button", textContent: shown(labels[i], 24), title: shown(labels[i], 300) });
      button.setAttribute("aria-pressed", String(i === chosen));
      const item = make("li", {}, button);
      item.dataset.token = i;
      return item;
    }));
    this.weights = columns.map(() => make("span", { className: "muted" }));
    this.to.replaceChildren(...columns.map((j, b) => make("li", {}, make("span", { textContent: shown(labels[j], 24) }), this.weights[b])));
  }

  // maps: { values (rows, columns), color } each; token: the one whose lines alone are drawn, null for all;
  // most: the weight of the strongest line; least: the weight below which there is none
  draw(maps, token, most, least) {
    const { rows, columns } = this;
    const only = token === null ? -1 : rows.indexOf(token);
    const floor = Math.max(0.02 * most, least);
    this.weights.forEach((span, j) => {
      const weight = only < 0 ? 0 : maps[0].values[only * columns.length + j];
      span.textContent = Math.abs(weight) < Math.max(0.005 * most, least) ? "" : most === 1 ? weight.toFixed(2) : weight.toPrecision(2);
    });
    const box = this.root.getBoundingClientRect();
    const pen = sized(this.canvas, this.root.clientWidth, Math.max(rows.length, columns.length) * ROW);
    const x0 = this.from.getBoundingClientRect().right - box.left + 4, x1 = this.to.getBoundingClientRect().left - box.left - 4;
    maps.forEach(({ values, color }, which) => {
      pen.strokeStyle = color;
      for (let i = only < 0 ? 0 : only; i < (only < 0 ? rows.length : only + 1); i++) {
        for (let j = 0; j < columns.length; j++) {
          const size = Math.abs(values[i * columns.length + j]);
          if (size < floor) continue;
          const weight = Math.min(size / most, 1);
          pen.globalAlpha = only < 0 ? weight * 0.8 : Math.min(1, weight + 0.08);
          pen.lineWidth = only < 0 ? 1 : 1 + 2.5 * weight;
          const y0 = i * ROW + ROW / 2, y1 = j * ROW + ROW / 2 + (only < 0 ? 0 : 3 * which);
          pen.beginPath();
          pen.moveTo(x0, y0);
          pen.bezierCurveTo(x0 + (x1 - x0) * 0.4, y0, x0 + (x1 - x0) * 0.6, y1, x1, y1);
          pen.stroke();
        }
      }
    });
  }
}
