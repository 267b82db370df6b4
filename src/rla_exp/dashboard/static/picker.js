// The list of groups beside the charts: filters choose what is listed, boxes what is drawn.
"use strict";

/** How many groups are drawn before anybody chose: more lines cannot be told apart. */
const FIRST_PICKS = 6;

/**
 * Bind the list to its filters and to the address.
 * @param usable which groups are listed at all
 * @param onChange called with the groups drawn, each with its `style`
 */
function bindPicker(usable, onChange) {
  const form = document.getElementById("filters");
  const list = document.getElementById("picks");
  const count = document.getElementById("count");
  const groups = rla.groups.filter(usable);
  const slots = new Map();
  let listed = [];

  const search = (group) => [group.key, group.label, group.model, group.ablation, group.data].join(" ");

  /** Each group drawn keeps its colour until it is put away. */
  function pick(group, wanted) {
    if (!wanted) slots.delete(group.id);
    else if (!slots.has(group.id)) {
      const taken = new Set(slots.values());
      let slot = 0;
      while (taken.has(slot)) slot += 1;
      slots.set(group.id, slot);
    }
  }

  const drawn = () => listed.filter((group) => slots.has(group.id))
    .map((group) => ({ ...group, style: charts.style(slots.get(group.id)) }));

  function render() {
    const manyExperiments = new Set(listed.map((group) => group.experiment)).size > 1;
    list.replaceChildren(...listed.map((group) => {
      const box = rla.element("input", { type: "checkbox", value: group.id });
      box.checked = slots.has(group.id);
      box.addEventListener("change", () => {
        pick(group, box.checked);
        changed();
        list.querySelector(`input[value="${group.id}"]`).focus();
      });
      const swatch = slots.has(group.id) ? charts.swatch(charts.style(slots.get(group.id))) : rla.element("span");
      const seeds = Object.keys(group.seeds).length;
      const note = `${manyExperiments ? `${group.experiment} · ` : ""}${seeds} seed${seeds === 1 ? "" : "s"}`;
      return rla.element("label", { class: "pick" }, box, swatch,
        rla.element("span", {}, group.label, rla.element("br"), rla.element("small", {}, note)));
    }));
    count.textContent = `${drawn().length} shown of ${listed.length}`;
  }

  function changed() {
    rla.writeAddress({ groups: drawn().map((group) => group.id).join("-") });
    render();
    onChange(drawn());
  }

  function filter() {
    const filters = rla.readFilters(form);
    listed = groups.filter((group) => rla.passes(filters, group, search(group)));
    for (const id of [...slots.keys()]) if (!listed.some((group) => group.id === id)) slots.delete(id);
    if (!slots.size) listed.slice(0, FIRST_PICKS).forEach((group) => pick(group, true));
    render();
    onChange(drawn());
  }

  function setAll(wanted) {
    listed.forEach((group) => pick(group, wanted));
    changed();
  }

  const words = rla.readAddress();
  const named = new Set((words.get("groups") ?? "").split("-"));
  groups.filter((group) => named.has(String(group.id))).forEach((group) => pick(group, true));
  if (!["experiment", "groups", "q"].some((key) => words.has(key))) {
    // one experiment at a time: others have other data and other scales
    const experiment = form.elements.experiment;
    const first = groups[0]?.experiment;
    if (first && new Set(groups.map((group) => group.experiment)).size > 1) experiment.value = first;
  }
  rla.bindFilters(form, filter);
  form.addEventListener("input", () => rla.writeAddress({ groups: "" }));
  document.getElementById("pick-all").addEventListener("click", () => setAll(true));
  document.getElementById("pick-none").addEventListener("click", () => setAll(false));
  filter();
}
