// All heads of an input at once, as thumbnails on one canvas.
import { css, equal, picture, shade, sized } from "./painting.js";

// Bytes of an overview, 255 √share, as places on a scale. own: each map up to its own largest;
// least: the byte below which a cell is drawn as 0.
export function places(bytes, cells, root, own, least = 0) {
  if (root && !own && !least) return bytes;
  const found = new Uint8Array(bytes.length);
  for (let start = 0; start < bytes.length; start += cells) {
    let most = 255;
    if (own) {
      most = 1;
      for (let i = start; i < start + cells; i++) most = Math.max(most, bytes[i]);
    }
    const place = Uint8Array.from({ length: 256 }, (_, q) => (q < least ? 0 : shade((q / most) ** 2, root)));
    for (let i = start; i < start + cells; i++) found[i] = place[bytes[i]];
  }
  return found;
}

// Differences of two overviews as places on a scale, and the largest of all; own: of each map its own.
function changes(mine, theirs, cells, { root, own, least }) {
  const most = [];
  for (let i = 0; i < mine.length; i++) {
    const map = Math.floor(i / cells);
    most[map] = Math.max(most[map] || 0, Math.abs(mine[i] ** 2 - theirs[i] ** 2));
  }
  const all = Math.max(...most);
  const values = mine.map((q, i) => {
    const change = q ** 2 - theirs[i] ** 2;
    return shade(Math.abs(change) < least ** 2 ? 0 : change / ((own ? most[Math.floor(i / cells)] : all) || 1), root, true);
  });
  return { values, most: all / 65025 };
}

export class Overview {
  constructor(canvas, { layers, heads, per_layer }) {
    Object.assign(this, { canvas, layers, heads, named: !per_layer });
  }

  // overviews: one, or two whose difference is drawn; how: root, own, least, colors, gray;
  // framed: [layer, head, color] of the heads in a frame. Returns the largest difference.
  draw(overviews, how, framed) {
    const { layers, heads } = this;
    const room = this.canvas.parentElement.clientWidth || 600;
    const left = 20, top = 16, gap = 3;
    const cell = Math.max(16, Math.min(84, Math.floor((room - left) / heads.length) - gap));
    Object.assign(this, { left, top, pitch: cell + gap });
    const pen = sized(this.canvas, left + heads.length * this.pitch, top + layers.length * this.pitch);
    this.#numbers(pen, cell);
    const most = this.thumbnails(pen, left, top, cell, gap, overviews, how);
    pen.lineWidth = 2;
    for (const [layer, head, color] of framed) {
      pen.strokeStyle = color;
      pen.strokeRect(left + heads.indexOf(head) * this.pitch - 1, top + layers.indexOf(layer) * this.pitch - 1, cell + 2, cell + 2);
    }
    return most;
  }

  // Draw the maps alone, so many pixels wide each. Returns the largest difference.
  thumbnails(pen, left, top, cell, gap, overviews, how) {
    const { layers, heads } = this;
    const [{ bytes, side, across }, other] = overviews;
    const cells = side * across;
    const { values, most } = other ? changes(bytes, other.bytes, cells, how) : { values: places(bytes, cells, how.root, how.own, how.least) };
    const image = cells && picture(values, across, side * layers.length * heads.length, how.colors);
    pen.imageSmoothingEnabled = side > cell * (devicePixelRatio || 1);
    layers.forEach((layer, i) => heads.forEach((head, j) => {
      const x = left + j * (cell + gap), y = top + i * (cell + gap), at = i * heads.length + j;
      if (how.own && !other && equal(bytes.subarray(at * cells, (at + 1) * cells))) {
        pen.fillStyle = how.gray;
        pen.fillRect(x, y, cell, cell);
      } else if (image) pen.drawImage(image, 0, at * side, across, side, x, y, cell, cell);
    }));
    return most;
  }

  #numbers(pen, cell) {
    pen.font = `11px ${css("--font")}`;
    pen.fillStyle = css("--soft");
    pen.textAlign = "center";
    const every = Math.ceil(18 / this.pitch);
    if (this.named) this.heads.forEach((head, j) => j % every || pen.fillText(head, this.left + j * this.pitch + cell / 2, 11));
    pen.textAlign = "end";
    this.layers.forEach((layer, i) => pen.fillText(layer, this.left - 6, this.top + i * this.pitch + cell / 2 + 4));
  }

  // The head that an event points to; null between and outside.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const layer = this.layers[Math.floor((event.clientY - box.top - this.top) / this.pitch)];
    const head = this.heads[Math.floor((event.clientX - box.left - this.left) / this.pitch)];
    return layer === undefined || head === undefined ? null : { layer, head };
  }
}
