const list = document.getElementById("answers");
const samples = [...list.querySelectorAll(".sample")];
const [search, outcome, order] = ["search", "outcome", "order"].map((id) => document.getElementById(id));
const keys = {
  given: (s) => Number(s.dataset.index),
  best: (s) => -Number(s.dataset.preference),
  worst: (s) => Number(s.dataset.preference),
  gap: (s) => -Number(s.dataset.gap),
};

function choose() {
  const words = search.value.toLowerCase();
  let shown = 0;
  for (const sample of samples) {
    const kind = outcome.value;
    const fits = kind === "all" || sample.dataset.outcome === kind || (kind === "turned" && sample.dataset.turned === "1");
    sample.hidden = !fits || (words !== "" && !sample.textContent.toLowerCase().includes(words));
    shown += sample.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = `${shown} of ${samples.length} prompts`;
}

function sort() {
  const key = keys[order.value];
  samples.sort((x, y) => key(x) - key(y) || keys.given(x) - keys.given(y));
  list.append(...samples);
}

search.addEventListener("input", choose);
outcome.addEventListener("change", choose);
order.addEventListener("change", sort);
document.getElementById("controls").hidden = false;
choose();
