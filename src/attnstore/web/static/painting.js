// What the parts of the viewer share: labels, colors, canvases.
// Every text goes onto a canvas or into textContent, never into HTML.

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const SPACES = { " ": "␣", "\n": "↵", "\t": "⇥" };
const LONGEST = 16;

// A token as a label: white space alone by its marks, what cannot be printed by its number.
export function shown(text, longest = LONGEST) {
  const marked = text.trim() ? text : text.replace(/[ \n\t]/g, (c) => SPACES[c]);
  const clean = marked.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const letters = [...clean];
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("")}…` : clean;
}

export function table(anchors) {
  const found = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (anchors.length - 1);
    const a = Math.min(Math.floor(place), Math.max(anchors.length - 2, 0)), b = Math.min(a + 1, anchors.length - 1);
    for (let band = 0; band < 3; band++)
      found[3 * i + band] = Math.round(anchors[a][band] + (anchors[b][band] - anchors[a][band]) * (place - a));
  }
  return found;
}

// Values, each 0 to 255, as a picture, one pixel a cell, several below one another.
export function picture(values, width, height, colors) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const inks = Uint32Array.from({ length: 256 }, (_, q) => (255 << 24) | (colors[3 * q + 2] << 16) | (colors[3 * q + 1] << 8) | colors[3 * q]);
  for (let i = 0; i < pixels.length; i++) pixels[i] = inks[values[i]];
  const canvas = new OffscreenCanvas(width, height);
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

// Black or white, whichever can be read on a color.
export const inkOn = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 120 ? "#000000" : "#ffffff");

// A weight as it stands in a cell: hundredths, without a leading 0.
export const hundredths = (value) => value.toFixed(2).replace(/^(-?)0\./, "$1.").replace("-", "−");

// The largest number of a scale.
export const endOf = (top) => (top < 0.1 ? top.toPrecision(2) : top.toFixed(2));

export const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

// True if values differ by at most 0.3 % of the largest size: a scale would show noise.
export function equal(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high - low <= 3e-3 * Math.max(Math.abs(low), Math.abs(high));
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const rgb = (bands) => `rgb(${bands.join(" ")})`;
export const make = (tag, about = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), about);
  element.append(...children);
  return element;
};
