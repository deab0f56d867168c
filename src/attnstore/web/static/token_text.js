// The text of an input: a word under the pointer lights up what it attends to.
import { make, shown } from "./painting.js";

const STRONGEST = 40; // percent of color behind a token, on which letters can be read

const plain = (text) => text.replace(/\r\n?/g, "\n");

export class TokenText {
  // root holds a bdi for each text; data: texts, places ([first, last] letter of each token, or null), segments, tokens
  constructor(root, data, { pointed, chosen }) {
    this.spans = [];
    const texts = [...(root?.querySelectorAll("bdi") ?? [])];
    data.texts.forEach((text, segment) => {
      if (texts[segment] && plain(texts[segment].textContent) === plain(text)) this.#wrap(texts[segment], [...text], segment, data);
    });
    const found = (event) => this.spans.find(({ element }) => element === event.target.closest?.(".token"));
    root?.addEventListener("pointerover", (e) => pointed(found(e)?.tokens ?? null));
    root?.addEventListener("pointerleave", () => pointed(null));
    root?.addEventListener("click", (e) => { const span = found(e); if (span) chosen(span.tokens[0]); });
  }

  // Tokens that share letters share an element; tokens that have none stand before and after the text.
  #wrap(text, letters, segment, { tokens, places, segments }) {
    const parts = [];
    let end = 0;
    tokens.forEach((token, i) => {
      if (segments[i] !== segment) return;
      const place = places[i];
      if (!place) {
        const chip = this.#span(shown(token), [i], "token chip");
        if (parts.length) text.parentElement.append(" ", chip);
        else text.before(chip, " ");
      } else if (place[0] < end) this.spans.findLast((s) => !s.element.matches(".chip")).tokens.push(i);
      else {
        parts.push(letters.slice(end, place[0]).join(""), this.#span(letters.slice(...place).join(""), [i], "token"));
        end = place[1];
      }
    });
    text.replaceChildren(...parts, letters.slice(end).join(""));
  }

  #span(text, tokens, className) {
    const element = make("span", { textContent: text, className });
    this.spans.push({ element, tokens });
    return element;
  }

  // from: tokens that are looked from; to: by token { weight, strength 0 to 1, color } of what is lit up, or none.
  light(from, to) {
    for (const { element, tokens } of this.spans) {
      const lit = tokens.map((i) => to.get(i)).filter(Boolean);
      const most = lit.reduce((a, b) => (b.strength > (a?.strength ?? -1) ? b : a), null);
      element.classList.toggle("source", tokens.some((i) => from.includes(i)));
      if (most) element.dataset.weight = most.weight.toFixed(4);
      else delete element.dataset.weight;
      element.style.background = most ? `color-mix(in srgb, ${most.color} ${(STRONGEST * most.strength).toFixed(1)}%, transparent)` : "";
    }
  }
}
