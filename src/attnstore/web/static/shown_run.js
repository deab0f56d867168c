// Names the run whose maps are shown: the title, where the page is, and the examples beside it.

const path = (run) => run.split("/").map(encodeURIComponent).join("/");

export function follow(data, run) {
  document.title = `${run} example ${data.example} · attnstore`;
  Object.assign(document.querySelector(".crumbs a[data-run]"), { textContent: run, href: `/run/${path(run)}` });
  const [before, after] = data.runs.find((r) => r.run === run)?.near ?? [null, null];
  const links = document.querySelectorAll(".near a");
  for (const [link, key, example] of [[links[0], "p", before], [links[1], "n", after]]) {
    link.hidden = example === null;
    if (link.hidden) delete link.dataset.key;
    else link.dataset.key = key;
    link.href = `/run/${path(run)}/example/${example ?? data.example}${location.search}`;
  }
}
