"use strict";
(function () {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function roleColour(role) {
    const names = { "broke budget": "broke", failed: "broke", refused: "faint", front: "accent", limit: "broke" };
    return colour(names[role] || role) || colour("ink");
  }

  function paint(trace) {
    const copy = structuredClone(trace);
    if (copy.marker) copy.marker.color = roleColour(copy.marker.role);
    if (copy.marker && copy.marker.role === "winner") copy.marker.line = { width: 1.5, color: colour("paper") };
    if (copy.line) copy.line.color = roleColour(copy.line.role);
    for (const bar of ["error_x", "error_y"]) if (copy[bar]) copy[bar].color = roleColour(copy[bar].role);
    return copy;
  }

  function layoutOf(figure) {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("strong-line"), linecolor: colour("line"), automargin: true };
    const shapes = figure.layout.shapes.map((shape) => ({
      ...shape,
      line: { ...shape.line, color: roleColour(shape.line.role) },
      label: { ...shape.label, font: { ...shape.label.font, color: roleColour(shape.line.role) } },
    }));
    const annotations = figure.layout.annotations.map((note) => ({ ...note, font: { size: 11, color: roleColour(note.role) } }));
    return {
      annotations,
      xaxis: { ...axis, ...figure.layout.xaxis },
      yaxis: { ...axis, ...figure.layout.yaxis },
      shapes,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      hoverlabel: { align: "left", bgcolor: colour("paper"), bordercolor: colour("strong-line"), font: { color: colour("ink"), size: 12 } },
      hovermode: "closest",
      barmode: figure.layout.barmode || "group",
      margin: { l: 56, r: 20, t: 12, b: 48 },
      legend: figure.layout.legend || { orientation: "h", y: -0.24, x: 0 },
      height: 400,
    };
  }

  function draw() {
    for (const [id, figure] of Object.entries(plots)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const options = { responsive: true, displayModeBar: false };
      window.Plotly.react(place, figure.data.map(paint), layoutOf(figure), options);
      if (place.dataset.wired) continue;
      place.dataset.wired = "yes";
      place.on("plotly_click", (event) => reveal(event.points[0].customdata));
    }
  }

  function resize(size) {
    for (const id of Object.keys(plots)) {
      const place = document.getElementById(id);
      if (place) window.Plotly.relayout(place, size);
    }
  }

  function reveal(id) {
    for (const detail of document.querySelectorAll("details.candidate")) {
      if (detail.dataset.candidate !== id) continue;
      detail.open = true;
      detail.scrollIntoView({ behavior: "smooth", block: "start" });
      return;
    }
  }

  function label() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
  }

  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    draw();
  });
  prefersDark.addEventListener("change", () => { label(); draw(); });

  for (const detail of document.querySelectorAll("details")) {
    detail.addEventListener("toggle", () => {
      if (detail.open) for (const place of detail.querySelectorAll(".js-plotly-plot")) window.Plotly.Plots.resize(place);
    });
  }

  let opened = [];
  let before;
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    before = root.dataset.theme;
    root.dataset.theme = "light";
    for (const detail of opened) if (detail.classList.contains("candidate")) detail.open = true;
    draw();
    resize({ width: 640, height: 340, autosize: false });
  });
  window.addEventListener("afterprint", () => {
    for (const detail of opened) detail.open = false;
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    draw();
    resize({ width: undefined, height: 400, autosize: true });
  });

  label();
  draw();
})();
