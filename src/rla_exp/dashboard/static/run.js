// The curves of one run, its sister seeds in grey behind it.
"use strict";

(async () => {
  const container = document.getElementById("charts");
  const { group, seed } = container.dataset;
  const curves = await rla.load("curves", Number(group));
  const grey = "#9aa3af";
  const { color } = charts.style(0);
  const line = (curve, values, name, style) => ({
    x: curve.steps, y: values, type: "scatter", mode: curve.steps.length === 1 ? "markers" : "lines", connectgaps: true,
    name: charts.plain(name), showlegend: false, line: style, marker: { color: style.color, size: 7 }, hovertemplate: "%{y:.4g}",
  });
  const metrics = charts.inOrder(Object.keys(curves).filter((metric) => seed in curves[metric].seeds));
  const specs = metrics.map((metric) => {
    const curve = curves[metric];
    const others = Object.entries(curve.seeds).filter(([other]) => other !== seed);
    const traces = others.map(([other, values]) => line(curve, values, `seed ${other}`, { color: grey, width: 1 }));
    traces.push(line(curve, curve.seeds[seed], `seed ${seed}`, { color, width: 2 }));
    return { key: metric, title: metric, note: others.length ? "other seeds in grey" : "", traces };
  });
  const log = document.getElementById("log");
  log.scrollTop = log.scrollHeight;
  charts.show(container, specs, "Nothing has been logged yet.");
})();
