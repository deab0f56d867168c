// The switches of the viewer: a form whose fields are named as the state is.
const NAMES = ["unit", "scale", "range", "specials", "sentences"];

// A place of the slider, 0 to 100, as a threshold, and back: small weights have more room.
const threshold = (place) => Math.round((place / 100) ** 2 * 1e4) / 1e4;
const place = (least) => Math.round(100 * Math.sqrt(least));

export function bind(form, viewer) {
  form.addEventListener("submit", (e) => e.preventDefault());
  form.addEventListener("change", ({ target }) => {
    if (NAMES.includes(target.name)) viewer.set({ [target.name]: target.value });
    if (target.name === "least") viewer.set({ least: threshold(target.value) });
  });
  form.addEventListener("input", ({ target }) => {
    if (target.name !== "least") return;
    viewer.state.least = threshold(target.value);
    showSwitches(form, viewer.state);
    viewer.draw();
  });
  showSwitches(form, viewer.state);
}

export function showSwitches(form, state) {
  for (const name of NAMES) if (form.elements[name]) form.elements[name].value = state[name];
  form.elements.least.value = place(state.least);
  form.querySelector("#least").textContent = state.least.toFixed(state.least && state.least < 0.1 ? 3 : 2);
}
