// Curves of the groups picked, a chart a metric, and their final numbers.
"use strict";

(() => {
  const container = document.getElementById("charts");
  if (!container) {
    rla.ready();
    return;
  }
  const spread = document.getElementById("spread");
  const scale = document.getElementById("scale");
  let shown = [];
  let turn = 0;

  function seedTraces(curve, group) {
    return Object.entries(curve.seeds).map(([seed, values]) => ({
      x: curve.steps, y: values, type: "scatter", mode: curve.steps.length === 1 ? "markers" : "lines", connectgaps: true,
      line: { color: charts.faded(group.style.color, 0.75), dash: group.style.dash, width: 1.2 },
      marker: { color: group.style.color }, name: charts.plain(`${group.label} seed ${seed}`), showlegend: false,
      hovertemplate: "%{y:.4g}",
    }));
  }

  async function draw() {
    const mine = (turn += 1);
    const loaded = await Promise.all(shown.map(async (group) => [group, await rla.load("curves", group.id)]));
    if (mine !== turn) return;
    const metrics = charts.inOrder([...new Set(loaded.flatMap(([, curves]) => Object.keys(curves)))]);
    const specs = metrics.map((metric) => {
      const having = loaded.filter(([, curves]) => metric in curves);
      const log = scale.value === "log";
      const traces = having.flatMap(([group, { [metric]: curve }]) => (spread.value === "seeds"
        ? seedTraces(curve, group)
        : charts.bandTraces(curve, group.label, group.style.color, group.style.dash, Object.keys(group.seeds).length, log)));
      const note = having.length < shown.length ? `${having.length} of ${shown.length} groups` : "";
      return { key: metric, title: metric, note, traces, log };
    });
    charts.show(container, specs, shown.length
      ? "These groups have no curves yet."
      : "No group is picked. Pick some on the left, or widen the filters.");
  }

  /** Rows are groups, columns the metrics of result.json. */
  function finalTable() {
    const metrics = charts.inOrder([...new Set(shown.flatMap((group) => Object.keys(group.final)))]
      .filter((metric) => !metric.startsWith("valid/")));
    const head = rla.element("tr", {}, rla.element("th", {}, "Group"), rla.element("th", {}, "Seeds"),
      ...metrics.map((metric) => rla.element("th", { class: "n" }, metric)));
    const rows = shown.map((group) => {
      const seeds = Object.entries(group.seeds).flatMap(([seed, key], i) => [
        i ? " " : "", rla.element("a", { href: `runs/${encodeURI(key)}.html`, "aria-label": `seed ${seed}` }, seed)]);
      const name = rla.element("td", { class: "name" }, charts.swatch(group.style), " ", group.label);
      name.firstChild.style.display = "inline-block";
      return rla.element("tr", {}, name, rla.element("td", {}, ...seeds), ...metrics.map((metric) => {
        const final = group.final[metric];
        const seedless = final && final.n < Object.keys(group.seeds).length ? ` (n = ${final.n})` : "";
        const text = !final ? "–" : rla.number(final.mean) + (final.sd ? ` ± ${Number(final.sd.toPrecision(2))}` : "") + seedless;
        return rla.element("td", { class: "n" }, text);
      }));
    });
    document.getElementById("final-table").replaceChildren(metrics.length
      ? rla.element("table", {}, rla.element("thead", {}, head), rla.element("tbody", {}, ...rows))
      : rla.element("p", { class: "soft" }, "No run of these groups is finished."));
  }

  rla.bindControl(spread, "spread", "band", draw);
  rla.bindControl(scale, "scale", "linear", draw);
  bindPicker(() => true, (groups) => {
    shown = groups;
    finalTable();
    draw();
  });
})();
