// The slider of the compare page: another checkpoint at the left, as a step that Back undoes.

const slider = document.querySelector("#steps input");
if (slider) {
  const runs = JSON.parse(slider.dataset.runs);
  const told = document.querySelector("#steps output");
  slider.addEventListener("input", () => {
    const { run, step } = runs[Number(slider.value)];
    told.textContent = step === null ? run : `${run} (step ${step})`;
  });
  slider.addEventListener("change", (event) => {
    event.stopPropagation(); // the form around it sends its menus
    const query = new URLSearchParams(location.search);
    query.set("left", runs[Number(slider.value)].run);
    query.delete("page");
    location.search = query;
  });
}
