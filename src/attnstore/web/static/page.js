// What every page does: keys, tips, panels that take long, saving, and a store that shows itself as it grows.
import "./save.js";

const byKey = (key) => document.querySelector(`[data-key="${CSS.escape(key)}"]`);
const typing = (el) => el.matches("input:not([type=radio]):not([type=range]), textarea, select");
const state = document.documentElement.dataset; // leader: "g" was pressed, a page's key comes

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") return act(event, () => document.getElementById("help").showModal());
  if (state.leader) {
    delete state.leader;
    if (event.key === "f") return act(event, () => document.querySelector(".finding input, .find-field input").focus());
    const link = document.querySelector(`header [data-key="${CSS.escape(event.key)}"]`);
    if (link) act(event, () => link.click());
    return;
  }
  if (event.key === "g") {
    state.leader = "g";
    setTimeout(() => { delete state.leader; }, 1200);
    return;
  }
  const arrow = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" }[event.key];
  if (arrow) {
    const near = document.querySelector(`[data-arrow=${arrow}]`);
    if (near) return act(event, () => near.click());
    return walk(event, arrow);
  }
  const target = document.querySelector(`main [data-key="${CSS.escape(event.key)}"]`);
  if (target) act(event, () => (target.matches("a, button") ? target.click() : target.focus()));
});

function act(event, what) {
  event.preventDefault();
  what();
}

// Arrow keys go from head to head in a grid, which is one stop of the Tab key: the head last visited.
function walk(event, arrow) {
  const at = document.activeElement?.closest?.(".chart-grid a[data-layer]");
  const grid = at ? at.closest(".chart-grid") : document.querySelector(".chart-grid");
  if (!grid || (!at && document.querySelector("#all"))) return;
  const cells = [...grid.querySelectorAll("a[data-layer]")];
  if (!cells.length) return;
  if (!at) return act(event, () => cells.find((c) => c.tabIndex === 0).focus());
  const columns = cells.filter((c) => c.dataset.layer === cells[0].dataset.layer).length;
  const i = cells.indexOf(at);
  const column = i % columns, next = i + { left: -1, right: 1, up: -columns, down: columns }[arrow];
  if ((arrow === "left" && !column) || (arrow === "right" && column === columns - 1)) return event.preventDefault();
  if (cells[next]) act(event, () => cells[next].focus());
}
document.addEventListener("focusin", (event) => {
  const at = event.target.closest?.(".chart-grid a[data-layer]");
  if (!at) return;
  for (const other of at.closest(".chart-grid").querySelectorAll("a[tabindex='0']")) other.setAttribute("tabindex", "-1");
  at.setAttribute("tabindex", "0");
});

document.getElementById("keys").addEventListener("click", () => document.getElementById("help").showModal());

// Forms of choices send themselves.
for (const form of document.querySelectorAll("form[data-submit]"))
  form.addEventListener("change", () => {
    for (const field of form.querySelectorAll("input, select")) if (!field.value) field.disabled = true;
    form.submit();
  });

const tip = document.getElementById("tip");
function showTip(target, x, y) {
  const owner = target?.closest?.("[data-tip]");
  tip.hidden = !owner;
  if (!owner) return;
  tip.textContent = owner.dataset.tip;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
}
document.addEventListener("pointermove", (e) => showTip(e.target, e.clientX, e.clientY));
document.addEventListener("focusin", (e) => {
  const box = e.target.getBoundingClientRect();
  if (e.target.matches?.("[data-tip]") && e.target.matches(":focus-visible")) showTip(e.target, box.right, box.top);
  else tip.hidden = true;
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);

// Panels that take long come after the page, with data-seen once they are scrolled to.
const onScreen = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    onScreen.unobserve(target);
    load(target);
  }
}, { rootMargin: "300px" });
for (const panel of document.querySelectorAll("[data-panel]")) {
  if ("seen" in panel.dataset) onScreen.observe(panel);
  else load(panel);
}
async function load(panel) {
  const waiting = panel.querySelector(".waiting");
  const said = waiting?.textContent.replace(/ …$/, "");
  const began = performance.now();
  const timer = setInterval(() => {
    if (waiting) waiting.textContent = `${said} … ${((performance.now() - began) / 1000).toFixed(0)} s`;
  }, 1000);
  try {
    const answer = await fetch(panel.dataset.panel, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    const page = new DOMParser().parseFromString(text, "text/html");
    panel.replaceChildren(...(answer.ok ? page.body.childNodes : [sentence(page)]));
    panel.dispatchEvent(new CustomEvent("panel", { bubbles: true }));
  } catch {
    panel.textContent = "The server does not answer.";
  } finally {
    clearInterval(timer);
  }
}

function sentence(page) {
  const p = document.createElement("p");
  p.className = "empty";
  p.textContent = page.querySelector(".lead")?.textContent || page.body.textContent;
  return p;
}

// The store page shows an ingestion going on.
const live = document.querySelector("[data-live]");
if (live) watch(live);
async function watch(part) {
  await new Promise((done) => setTimeout(done, Number(part.dataset.live)));
  let next = part;
  try {
    if (!document.hidden && !part.querySelector("form :focus, details[open]")) {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      const found = page.querySelector("[data-live]");
      if (found && found.innerHTML !== part.innerHTML) {
        if (found.childElementCount && !part.childElementCount) return location.reload();
        part.replaceWith(next = document.importNode(found, true));
      }
    }
  } catch { /* the server is gone for the moment */ }
  watch(next);
}
