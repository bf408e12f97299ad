"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { layers, nodes } = data;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const options = { responsive: true, displayModeBar: false };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const select = document.getElementById("layer");

  const layout = (more) => {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 52, r: 14, t: 10, b: 40 }, height: 300,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      hoverlabel: { align: "left", bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") } },
      legend: { orientation: "h", y: 1.12, x: 0 }, ...more,
      xaxis: { ...axis, ...(more.xaxis || {}) }, yaxis: { ...axis, ...(more.yaxis || {}) },
    };
  };
  const decibels = (value) => (value === null ? "-" : value >= 200 ? "equal" : value.toFixed(1) + " dB");
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shown = (value) => (value === null ? null : Math.max(Math.min(value, data.top), -20));

  function errors() {
    const place = document.getElementById("errors");
    const text = layers.map((l) => `${escape(l.tensor)}<br>${l.op} ${l.precision}<br>so far ${decibels(l.total)}, alone ${decibels(l.own)}`);
    const x = layers.map((_, i) => i);
    const line = (name, key, role, mode) => ({
      name, x, y: layers.map((l) => shown(l[key])), text, hoverinfo: "text", mode, type: "scatter", connectgaps: false,
      marker: { size: 6, color: colour(role) }, line: { color: colour(role), width: 1.5 },
    });
    const traces = [line("all errors so far", "total", "one", "lines+markers")];
    if (layers.some((l) => l.own !== null)) traces.push(line("error of the layer alone", "own", "two", "markers"));
    window.Plotly.react(place, traces, layout({
      height: 340, hovermode: "closest", xaxis: { title: { text: "layer, in the order they run" } },
      yaxis: { title: { text: "signal to error (dB)" } },
      shapes: [{ type: "line", xref: "x", yref: "paper", x0: +select.value, x1: +select.value, y0: 0, y1: 1, line: { color: colour("range"), width: 1, dash: "dot" } }],
    }), options);
    if (!place.dataset.wired) {
      place.dataset.wired = "yes";
      place.on("plotly_click", (event) => choose(event.points[0].x));
    }
  }

  const bars = (name, h, role) => {
    const width = (h.high - h.low) / h.counts.length, total = h.counts.reduce((a, b) => a + b, 0);
    return {
      type: "bar", name, x: h.counts.map((_, i) => h.low + (i + 0.5) * width), y: h.counts.map((c) => c / total || null), width,
      marker: { color: colour(role), opacity: 0.6 }, hovertemplate: "%{x:.4g}: %{y:.3%}",
    };
  };
  const limits = (low, high) => [low, high].map((x) => ({
    type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: colour("range"), width: 2 },
  }));
  const missing = (text) => [{ text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { color: colour("faint") } }];
  const SHARE = { type: "log", title: { text: "share of values" }, tickformat: ".0e" };

  function histogram(id, traces, range, absent) {
    const more = { barmode: "overlay", bargap: 0, yaxis: SHARE, shapes: range ? limits(range[0], range[1]) : [] };
    window.Plotly.react(id, traces, layout(traces.length ? more : { annotations: missing(absent), xaxis: { visible: false }, yaxis: { visible: false } }), options);
  }

  function layer() {
    const l = layers[+select.value];
    const values = [];
    if (l.values) values.push(bars("reference", l.values, "one"));
    if (l.candidate) values.push(bars("candidate", l.candidate, "two"));
    histogram("values", values, l.range, "nothing was kept");
    histogram("weights", l.weights ? [bars("weights of the reference", l.weights, "one")] : [], l.stored, "no integer weights");
    const x = l.pairs.map((p) => p[0]), y = l.pairs.map((p) => p[1]);
    const low = Math.min(...x, ...y), high = Math.max(...x, ...y);
    window.Plotly.react("scatter", [
      { x: [low, high], y: [low, high], mode: "lines", line: { color: colour("line"), width: 1 }, hoverinfo: "skip", showlegend: false, type: "scatter" },
      { x, y, mode: "markers", marker: { size: 5, color: colour("one"), opacity: 0.7 }, showlegend: false, type: "scatter" },
    ], layout({ xaxis: { title: { text: "reference" } }, yaxis: { title: { text: "candidate" } } }), options);
    document.getElementById("told").textContent = `${l.op}, ${l.precision || "precision unknown"}; so far ${decibels(l.total)}, alone ${decibels(l.own)}; ${l.told}`;
    errors();
  }

  function choose(index) {
    select.value = String(Math.max(0, Math.min(layers.length - 1, index)));
    layer();
  }
  if (layers.length) {
    select.addEventListener("change", layer);
    document.getElementById("before").addEventListener("click", () => choose(+select.value - 1));
    document.getElementById("after").addEventListener("click", () => choose(+select.value + 1));
    dark.addEventListener("change", layer);
    layer();
  }

  const paint = document.getElementById("colour");
  if (!paint) return;
  const ramp = (value) => {
    const share = Math.max(0, Math.min(1, (value - 5) / 35));
    return `hsl(${Math.round(share * 130)} 62% ${Math.round(52 + 14 * share)}%)`;
  };
  const KINDS = { int8: "#2f6fd0", integer: "#9dbdee", float32: "#e0a03a", float16: "#6f9d3c", bfloat16: "#3f9d7c" };
  const of = (element) => nodes[element.querySelector("title").textContent.split("\n")[0].split("  ").slice(1).join("  ")];
  function colouring() {
    const way = paint.value;
    const seen = new Map();
    for (const element of document.querySelectorAll("#view .node")) {
      const known = of(element);
      const value = known === undefined ? null : way === "precision" ? known.precision : way === "own" ? known.own : known.total;
      element.classList.toggle("painted", way !== "kind" && value !== null && value !== "");
      element.classList.toggle("light", way !== "kind");
      if (way === "kind" || value === null || value === "") continue;
      const fill = way === "precision" ? KINDS[value.split(" ")[0]] || "#c9a0dc" : ramp(value);
      if (way === "precision") seen.set(value, fill);
      element.style.setProperty("--own", fill);
    }
    if (way === "own" || way === "error") for (const value of [5, 15, 25, 40]) seen.set(value === 5 ? "5 dB or less" : value === 40 ? "40 dB or more" : `${value} dB`, ramp(value));
    const legend = document.getElementById("legend");
    legend.replaceChildren(...[...seen].map(([name, fill]) => {
      const item = document.createElement("span"), box = document.createElement("i");
      box.style.background = fill;
      item.append(box, name);
      return item;
    }));
  }
  paint.addEventListener("change", colouring);
  for (const element of document.querySelectorAll("#view .node")) {
    element.addEventListener("click", () => { const known = of(element); if (known && known.layer !== null) choose(known.layer); });
  }
  if (!layers.some((l) => l.own !== null)) paint.value = "error";
  colouring();
})();
