// Cards with a Plotly chart each; a chart is drawn when it comes into view.
"use strict";

const charts = (() => {
  // of Okabe and Ito, darkened where pale: told apart by readers who see few colours; after the last one dashes change
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e0a100", "#4aa3dc", "#7a5bb0", "#8a8f98"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  // viridis without its palest end, from the first layer to the last
  const DEPTHS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [190, 200, 40]];
  const CONFIG = {
    displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  // metrics that are looked at first and last; the others stand between them
  const FIRST = ["train/loss", "valid/loss", "valid/accuracy", "valid/bits_per_byte", "valid/perplexity"];
  const LAST = ["train/grad_norm", "diag/grad_norm", "train/lr", "tokens_per_s", "parameters", "state_bytes"];
  const pending = new Map();
  let drawing = [];

  const style = (slot) => ({
    color: COLOURS[slot % COLOURS.length],
    dash: DASHES[Math.floor(slot / COLOURS.length) % DASHES.length],
  });
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faded = (colour, alpha) => {
    const part = (start) => parseInt(colour.slice(start, start + 2), 16);
    return colour.startsWith("#")
      ? `rgba(${part(1)},${part(3)},${part(5)},${alpha})`
      : colour.replace("rgb(", "rgba(").replace(")", `,${alpha})`);
  };
  // Plotly reads tags in its texts
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  /** Names of metrics in the order of reading; numbers in them by size. */
  function inOrder(metrics) {
    const place = (metric) => {
      if (FIRST.includes(metric)) return FIRST.indexOf(metric) - FIRST.length;
      return LAST.includes(metric) ? 1 + LAST.indexOf(metric) : 0;
    };
    return metrics.sort((a, b) => place(a) - place(b) || a.localeCompare(b, "en", { numeric: true }));
  }

  /** Colour of layer `at` (0 to 1 of the depth). */
  function depthColour(at) {
    const place = at * (DEPTHS.length - 1);
    const low = Math.min(Math.floor(place), DEPTHS.length - 2);
    const mixed = DEPTHS[low].map((value, i) => Math.round(value + (place - low) * (DEPTHS[low + 1][i] - value)));
    return `rgb(${mixed.join(",")})`;
  }

  /** Mean and band of a curve {steps, mean, sd, n}; dotted where fewer seeds than `numSeeds` have a value. */
  function bandTraces(curve, name, colour, dash, numSeeds, log = false) {
    const whole = (i) => curve.n[i] >= numSeeds;
    const edge = (i) => whole(i) || (i > 0 && whole(i - 1)) || (i + 1 < curve.n.length && whole(i + 1));
    const label = plain(name);
    const common = { x: curve.steps, type: "scatter", legendgroup: name, showlegend: false };
    const lone = curve.steps.length === 1;
    const solid = {
      ...common, name: label, mode: lone ? "markers" : "lines", connectgaps: false,
      y: curve.mean.map((value, i) => (whole(i) ? value : null)), line: { color: colour, dash, width: 1.9 },
      marker: { color: colour, size: 8 },
      customdata: curve.sd.map((sd, i) => `${sd === null ? "" : ` ± ${rla.number(sd)}`} (n = ${curve.n[i]})`),
      hovertemplate: `%{y:.4g}%{customdata}<extra>${label}</extra>`,
    };
    if (lone && curve.sd[0] !== null) solid.error_y = { array: curve.sd, color: colour, thickness: 1.2, width: 4 };
    const traces = [solid];
    if (curve.n.some((_, i) => !whole(i))) {
      traces.push({
        ...solid, mode: lone ? "markers" : "lines", line: { color: colour, dash: "dot", width: 1.3 },
        y: curve.mean.map((value, i) => (!whole(i) || (edge(i) && i + 1 < curve.n.length && !whole(i + 1)) ? value : null)),
        hoverinfo: curve.n.every((_, i) => !whole(i)) ? undefined : "skip",
      });
      if (traces[1].hoverinfo) delete traces[1].hovertemplate;
    }
    const inBand = curve.steps.map((_, i) => i).filter((i) => curve.sd[i] !== null);
    if (inBand.length > 1) {
      const x = inBand.map((i) => curve.steps[i]);
      // a logarithmic axis has no place for what is not positive: the band ends at a twentieth of the mean there
      const lower = (i) => (log ? Math.max(curve.mean[i] - curve.sd[i], curve.mean[i] / 20) : curve.mean[i] - curve.sd[i]);
      traces.unshift({
        ...common, mode: "lines", hoverinfo: "skip", fill: "toself", fillcolor: faded(colour, 0.16), line: { width: 0 },
        x: [...x, ...x.toReversed()],
        y: [...inBand.map((i) => curve.mean[i] + curve.sd[i]), ...inBand.toReversed().map(lower)],
      });
    }
    return traces;
  }

  function layout(spec) {
    const axis = {
      gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), automargin: true,
      tickfont: { size: 11 }, title: { font: { size: 11 }, standoff: 8 },
    };
    return {
      margin: { l: 46, r: 8, t: 8, b: 38 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
      hoverlabel: {
        font: { size: 11.5, color: css("--text") }, namelength: 44, bgcolor: css("--card"), bordercolor: css("--line"),
      },
      hovermode: spec.traces.length > 40 ? "closest" : "x unified",
      xaxis: {
        ...axis, title: { ...axis.title, text: spec.x ?? "step" }, unifiedhovertitle: { text: `${spec.x ?? "step"} %{x}` },
        ...spec.xaxis,
      },
      yaxis: { ...axis, type: spec.log ? "log" : "linear", ...(spec.log ? { dtick: "D1", exponentformat: "power" } : {}) },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent"), orientation: "h" },
      showlegend: false,
    };
  }

  function draw(plot) {
    const spec = pending.get(plot);
    if (!spec) return;
    pending.delete(plot);
    // bands behind all lines
    const traces = spec.traces.toSorted((a, b) => Boolean(b.fill) - Boolean(a.fill));
    drawing.push(Plotly.react(plot, traces, layout(spec), CONFIG));
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) draw(target);
    Promise.all(drawing.splice(0)).then(rla.ready);
  }, { rootMargin: "150px" });

  /**
   * Show these charts and no others, in this order: {key, title, note, traces, log, x, xaxis}.
   * A card that is there already is drawn anew in its place.
   */
  function show(container, specs, empty) {
    const cards = new Map([...container.querySelectorAll(".chart")].map((card) => [card.dataset.key, card]));
    const ordered = specs.map((spec) => {
      const card = cards.get(spec.key) ?? make(spec);
      cards.delete(spec.key);
      card.querySelector("small").textContent = spec.note ?? "";
      const plot = card.querySelector(".plot");
      pending.set(plot, spec);
      // observed anew, a chart in view is told of at once
      observer.unobserve(plot);
      observer.observe(plot);
      return card;
    });
    for (const card of cards.values()) {
      const plot = card.querySelector(".plot");
      observer.unobserve(plot);
      pending.delete(plot);
      Plotly.purge(plot);
    }
    container.replaceChildren(...ordered);
    if (!specs.length) {
      container.append(rla.element("p", { class: "card empty", style: "grid-column:1/-1" }, empty));
      rla.ready();
    }
  }

  function make(spec) {
    const heading = rla.element("h3", {}, rla.element("span", {}, spec.title), rla.element("small"));
    const plot = rla.element("div", { class: "plot", role: "img", "aria-label": `Chart of ${spec.title}` });
    return rla.element("figure", { class: "card chart", "data-key": spec.key }, heading, plot);
  }

  /** A short line of that style, for lists. */
  function swatch({ color, dash }) {
    const dashes = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2" }[dash];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", "22");
    svg.setAttribute("height", "10");
    svg.setAttribute("aria-hidden", "true");
    svg.innerHTML = `<line x1="1" x2="21" y1="5" y2="5" stroke="${color}" stroke-width="3" stroke-dasharray="${dashes}"/>`;
    return svg;
  }

  return { show, inOrder, style, depthColour, bandTraces, faded, plain, swatch };
})();
