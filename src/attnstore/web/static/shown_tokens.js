// Which tokens of an input are shown, and the weights between them.
//
// specials    keep: all tokens; drop: special tokens neither attend nor are attended to; renormalise: as
//             drop, and each row is divided by what it gives to the other tokens (0 stays 0)
// sentences   "" for all, or two letters: from which text of a pair to which; a special token belongs to
//             the text before it

// Labels, special tokens and texts (0 or 1) of word pieces or words.
export function units(data, unit) {
  if (unit !== "word") return { labels: data.tokens, special: data.special, segments: data.segments };
  const first = (values) => data.starts.map((i) => values[i]);
  return { labels: data.words, special: first(data.special), segments: first(data.segments) };
}

// Positions of the tokens that attend and that are attended to, in order.
export function shownTokens({ labels, special, segments }, { specials, sentences }) {
  const side = (letter) => labels.map((_, i) => i).filter((i) =>
    (specials === "keep" || !special[i]) && (!letter || segments[i] === "ab".indexOf(letter)));
  return { rows: side(sentences[0]), columns: side(sentences[1]) };
}

// Of those, what an area [first row, last row, first column, last column] holds; all where it holds nothing.
export function within({ rows, columns }, area) {
  if (!area) return { rows, columns };
  const between = (list, first, last) => list.filter((i) => i >= first && i <= last);
  const found = { rows: between(rows, area[0], area[1]), columns: between(columns, area[2], area[3]) };
  return found.rows.length && found.columns.length ? found : { rows, columns };
}

// Weights (rows, columns) of a map of n tokens a side; special: which tokens a row's sum leaves out, if it is made 1.
export function part(weights, n, { rows, columns }, special = null) {
  if (rows.length === n && columns.length === n && !special) return weights;
  const found = new Float32Array(rows.length * columns.length);
  let at = 0;
  for (const i of rows) {
    let sum = special ? 0 : 1;
    if (special) for (let j = 0; j < n; j++) if (!special[j]) sum += weights[i * n + j];
    for (const j of columns) found[at++] = sum ? weights[i * n + j] / sum : 0;
  }
  return found;
}

// Places of the largest values, the largest first.
export function strongest(values, n, least = 0) {
  return [...values.keys()].filter((j) => Math.abs(values[j]) > least)
    .sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, n);
}
