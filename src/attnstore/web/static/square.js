// One map as a picture, with its tokens along both sides, the titles of both axes and its scale.
import { css, endOf, hundredths, inkOn, picture, rgb, shade, shown, sized } from "./painting.js";

const EDGE = 17; // pixels of an axis title
const WRITTEN = 23; // pixels of a cell in which its number has room
const SMALLEST = 7; // pixels of a row whose label can be read
const LONG = 3; // how many times as long as wide a cell may be, where there are more tokens on one side

export class Square {
  // down, across: labels of rows and columns; values: (rows, columns); top: what the end of the scale stands for;
  // least: sizes below it are drawn as 0; gray: one color for all
  constructor(canvas, { down, across, values, width, colors, top, signed = false, root = true, named = true, largest = 34, least = 0, gray = null }) {
    Object.assign(this, { canvas, down, across, values, colors, top: top || 1, signed, root, named, least, gray });
    const shades = new Uint8Array(values.length);
    for (let i = 0; i < shades.length; i++) shades[i] = this.#shade(values[i]);
    this.shades = shades;
    this.image = picture(shades, across.length, down.length, gray ? Uint8Array.from({ length: 768 }, (_, i) => gray[i % 3]) : colors);
    const room = (labels) => (named ? EDGE + Math.min(Math.max(...labels.map((l) => [...shown(l, 13)].length)) * this.#letter(width / labels.length) * 0.58 + 8, width * 0.24, 96) : 0);
    this.left = room(down);
    this.above = room(across);
    const x = Math.min((width - this.left - 2) / across.length, largest);
    const y = Math.min(Math.max(width - this.above, 200) / down.length, largest);
    this.x = Math.min(x, LONG * y);
    this.y = Math.min(y, LONG * x);
    if (across.length === down.length) this.x = this.y = Math.min(x, y);
    this.wide = this.x * across.length;
    this.high = this.y * down.length;
    this.width = Math.max(this.left + this.wide + 2, Math.min(width, 210));
    this.bar = named ? 26 : 0;
  }

  // Pixels of the letters of labels, one every so many pixels.
  #letter(pitch) {
    return Math.max(SMALLEST + 0.5, Math.min(12, pitch + 0.5));
  }

  #shade(value) {
    return shade(Math.abs(value) < this.least ? 0 : value / this.top, this.root, this.signed);
  }

  // pins: cells in a frame; cell: the one under the pointer; area: [cell, cell], opposite corners of what is chosen
  draw(pins, cell, area = null) {
    const { left, above, wide, high, x, y } = this;
    const pen = sized(this.canvas, this.width, above + high + this.bar + 2);
    pen.imageSmoothingEnabled = Math.min(x, y) * (devicePixelRatio || 1) < 1;
    pen.drawImage(this.image, left, above, wide, high);
    if (Math.min(x, y) >= WRITTEN) this.#numbers(pen);
    if (this.named) this.#names(pen, cell);
    const frame = (from, to, color) => {
      const [i, i2] = [Math.min(from[0], to[0]), Math.max(from[0], to[0])], [j, j2] = [Math.min(from[1], to[1]), Math.max(from[1], to[1])];
      pen.lineWidth = 1.5;
      pen.strokeStyle = color;
      pen.strokeRect(left + j * x - 0.5, above + i * y - 0.5, (j2 - j + 1) * x + 1, (i2 - i + 1) * y + 1);
    };
    for (const pin of pins) frame(pin, pin, "#ff5a1f");
    if (area) frame(area[0], area[1], "#fff");
    if (cell && !area) {
      pen.globalAlpha = 0.35;
      pen.strokeStyle = "#fff";
      pen.strokeRect(left, above + cell[0] * y, wide, y);
      pen.strokeRect(left + cell[1] * x, above, x, high);
      pen.globalAlpha = 1;
      frame(cell, cell, "#fff");
    }
    if (this.bar) this.#scale(pen);
  }

  #names(pen, cell) {
    pen.font = `11px ${css("--font")}`;
    pen.fillStyle = css("--soft");
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const middle = (room, size) => room + Math.min(size / 2, 300);
    pen.fillText("to", middle(this.left, this.wide), 7);
    this.#turned(pen, 7, middle(this.above, this.high), () => pen.fillText("from", 0, 0));
    this.#labels(pen, this.down, this.left, false, cell?.[0]);
    this.#labels(pen, this.across, this.above, true, cell?.[1]);
  }

  #turned(pen, x, y, draw) {
    pen.save();
    pen.translate(x, y);
    pen.rotate(-Math.PI / 2);
    draw();
    pen.restore();
  }

  #labels(pen, labels, room, up, at) {
    const pitch = up ? this.x : this.y;
    const size = this.#letter(pitch);
    const every = pitch >= SMALLEST ? 1 : Math.ceil((size + 1) / pitch);
    const longest = Math.floor((room - EDGE - 6) / (size * 0.56));
    const soft = css("--soft"), ink = css("--ink"), font = css("--font");
    labels.forEach((label, i) => {
      const on = at === i;
      const hidden = every > 1 && at !== undefined && Math.abs(at - i) * pitch < size;
      if (!on && (i % every || hidden)) return;
      pen.font = `${on ? "600 " : ""}${on ? Math.max(size, 11) : size}px ${font}`;
      pen.fillStyle = on ? ink : soft;
      pen.textAlign = up ? "start" : "end";
      const text = shown(label, longest);
      if (up) this.#turned(pen, this.left + (i + 0.5) * pitch, this.above - 5, () => pen.fillText(text, 0, 0));
      else pen.fillText(text, this.left - 5, this.above + (i + 0.5) * pitch);
    });
  }

  // Hundredths in each cell, in black or white, whichever can be read on it.
  #numbers(pen) {
    const { x, y, across, colors, shades, gray } = this;
    pen.font = `${Math.min(11, x * 0.38)}px ${css("--font")}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    this.values.forEach((value, k) => {
      if (Math.abs(value) < Math.max(this.least, 0.005)) return;
      pen.fillStyle = inkOn(gray ?? colors.subarray(3 * shades[k], 3 * shades[k] + 3));
      pen.fillText(hundredths(value), this.left + ((k % across.length) + 0.5) * x, this.above + (Math.floor(k / across.length) + 0.5) * y);
    });
  }

  #scale(pen) {
    const y = this.above + this.high + 10, long = Math.min(120, this.width * 0.4);
    const written = endOf(this.top);
    pen.textBaseline = "alphabetic";
    pen.font = `11px ${css("--font")}`;
    if (this.gray) {
      pen.fillStyle = rgb(this.gray);
      pen.fillRect(this.left, y, 20, 8);
      pen.fillStyle = css("--soft");
      pen.textAlign = "start";
      return pen.fillText(`${written} everywhere`, this.left + 26, y + 8);
    }
    for (let i = 0; i < long; i++) {
      const at = 3 * Math.round((255 * i) / (long - 1));
      pen.fillStyle = rgb([...this.colors.subarray(at, at + 3)]);
      pen.fillRect(this.left + 26 + i, y, 1.5, 8);
    }
    pen.fillStyle = css("--soft");
    pen.textAlign = "end";
    pen.fillText(this.signed ? `−${written}` : "0", this.left + 22, y + 8);
    pen.textAlign = "start";
    pen.fillText(`${written}${this.root ? "  √ scale" : ""}`, this.left + 31 + long, y + 8);
  }

  // The cell [row, column] that an event points to; null outside.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - this.left) / this.x);
    const i = Math.floor((event.clientY - box.top - this.above) / this.y);
    return i >= 0 && j >= 0 && i < this.down.length && j < this.across.length ? [i, j] : null;
  }
}
