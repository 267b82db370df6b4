// Diagnostics by layer: groups against each other across the depth, or one group over training.
"use strict";

(() => {
  const container = document.getElementById("charts");
  if (!container) {
    rla.ready();
    return;
  }
  const view = document.getElementById("view");
  const one = document.getElementById("group");
  const oneField = document.getElementById("group-field");
  const legend = document.getElementById("legend");
  const hint = document.getElementById("hint");
  const MEANINGS = {
    gamma_mean: "correction factor γ, mean", gamma_std: "correction factor γ, spread",
    share_clipped: "share of residual entries clipped", residual_norm: "norm of the residual r",
    decay_mean: "decay α, mean", decay_std: "decay α, spread", beta_mean: "write strength β, mean",
    beta_std: "write strength β, spread", S_norm: "norm of state S", R_norm: "norm of residual state R",
    activation_max: "largest activation",
  };
  let shown = [];
  let turn = 0;

  function inOrder(statistics) {
    const order = Object.keys(MEANINGS);
    const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
    return statistics.sort((a, b) => place(a) - place(b) || a.localeCompare(b, "en"));
  }

  /** The last step of every layer, a line a group. */
  function acrossLayers(loaded) {
    const statistics = inOrder([...new Set(loaded.flatMap(([, layers]) => Object.keys(layers)))]);
    return statistics.map((statistic) => {
      const having = loaded.filter(([, layers]) => statistic in layers);
      const traces = having.map(([group, layers]) => {
        const entries = Object.entries(layers[statistic]);
        const last = entries.map(([, curve]) => curve.steps.length - 1);
        const of = (key) => entries.map(([, curve], i) => curve[key][last[i]]);
        return {
          x: entries.map(([layer]) => Number(layer)), y: of("mean"), type: "scatter", mode: "lines+markers", showlegend: false,
          error_y: { type: "data", array: of("sd"), color: group.style.color, thickness: 1.2, width: 3 },
          line: { color: group.style.color, dash: group.style.dash, width: 1.6 }, marker: { color: group.style.color, size: 6 },
          name: charts.plain(group.label), customdata: of("sd").map((sd, i) => `${sd === null ? "" : ` ± ${rla.number(sd)}`} (n = ${of("n")[i]})`),
          hovertemplate: "%{y:.4g}%{customdata}",
        };
      });
      const depth = Math.max(...traces.flatMap((trace) => trace.x)) + 1;
      const xaxis = { tick0: 0, dtick: Math.ceil(depth / 12) };
      return { key: `depth ${statistic}`, title: statistic, note: MEANINGS[statistic], traces, x: "layer", xaxis };
    });
  }

  /** One group over training, a line a layer. */
  function overTraining([group, layers]) {
    const numbers = [...new Set(Object.values(layers).flatMap((curves) => Object.keys(curves).map(Number)))].sort((a, b) => a - b);
    const colour = (layer) => charts.depthColour(numbers.length > 1 ? numbers.indexOf(Number(layer)) / (numbers.length - 1) : 0.4);
    legend.replaceChildren(...numbers.map((layer) => rla.element("span", {},
      charts.swatch({ color: colour(layer), dash: "solid" }), `layer ${layer}`)));
    const numSeeds = Object.keys(group.seeds).length;
    return inOrder(Object.keys(layers)).map((statistic) => ({
      key: `time ${statistic}`, title: statistic, note: MEANINGS[statistic],
      traces: Object.entries(layers[statistic])
        .flatMap(([layer, curve]) => charts.bandTraces(curve, `layer ${layer}`, colour(layer), "solid", numSeeds)),
    }));
  }

  async function draw() {
    const mine = (turn += 1);
    const loaded = await Promise.all(shown.map(async (group) => [group, await rla.load("layers", group.id)]));
    if (mine !== turn) return;
    const overTime = view.value === "time";
    oneField.hidden = !overTime;
    legend.replaceChildren();
    const picked = loaded.find(([group]) => String(group.id) === one.value) ?? loaded[0];
    const specs = !overTime ? acrossLayers(loaded) : picked ? overTraining(picked) : [];
    hint.textContent = overTime || !loaded.length ? "" : "colours are those of the list on the left";
    charts.show(container, specs, rla.groups.some((group) => group.layers)
      ? "No group is picked. Pick some on the left, or widen the filters."
      : "No run has diagnostics. Train with trainer.diagnostics_every=100, say.");
  }

  rla.bindControl(view, "view", "depth", draw);
  one.addEventListener("change", draw);
  bindPicker((group) => group.layers, (groups) => {
    const before = one.value;
    shown = groups;
    one.replaceChildren(...groups.map((group) => rla.element("option", { value: group.id }, group.label)));
    if (groups.some((group) => String(group.id) === before)) one.value = before;
    draw();
  });
})();
