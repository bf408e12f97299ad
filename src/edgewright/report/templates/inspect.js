"use strict";
(() => {
  const view = document.getElementById("view");
  const graph = view.querySelector("svg");
  const width = Number(graph.getAttribute("width")), height = Number(graph.getAttribute("height"));
  let scale = 1;
  const zoom = (next, x = view.clientWidth / 2, y = view.clientHeight / 2) => {
    const before = scale, left = Math.max(0, (view.clientWidth - width * before) / 2);
    scale = Math.min(4, Math.max(0.05, next));
    const factor = scale / before, shift = Math.max(0, (view.clientWidth - width * scale) / 2);
    const [px, py] = [view.scrollLeft + x - left, view.scrollTop + y];
    graph.setAttribute("width", width * scale);
    graph.setAttribute("height", height * scale);
    view.scrollTo(px * factor - x + shift, py * factor - y);
  };
  const fit = () => zoom(Math.min(1.25, (view.clientWidth - 20) / width));
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
    const way = button.dataset.zoom;
    if (way === "fit") { fit(); } else { zoom(scale * (way === "in" ? 1.3 : 1 / 1.3)); }
  }));
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) { return; }
    event.preventDefault();
    const box = view.getBoundingClientRect();
    zoom(scale * (event.deltaY < 0 ? 1.15 : 1 / 1.15), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  let from = null;
  view.addEventListener("pointerdown", (event) => {
    if (event.button === 0) { from = [event.clientX + view.scrollLeft, event.clientY + view.scrollTop]; view.classList.add("drag"); }
  });
  addEventListener("pointermove", (event) => { if (from) { view.scrollTo(from[0] - event.clientX, from[1] - event.clientY); } });
  addEventListener("pointerup", () => { from = null; view.classList.remove("drag"); });
  const nodes = [...graph.querySelectorAll(".node")].map((node) => [node, node.querySelector("title").textContent.toLowerCase()]);
  let shown = -1;
  const search = (step) => {
    const text = document.getElementById("find").value.trim().toLowerCase();
    const hits = nodes.filter(([node, title]) => {
      const hit = text !== "" && title.split("\n")[0].includes(text);
      node.classList.toggle("hit", hit);
      return hit;
    });
    document.getElementById("hits").textContent = text === "" ? "" : `${hits.length} found`;
    if (hits.length === 0) { shown = -1; return; }
    shown = step ? (shown + 1) % hits.length : 0;
    hits[shown][0].scrollIntoView({ block: "center", inline: "center" });
  };
  document.getElementById("find").addEventListener("input", () => search(false));
  document.getElementById("find").addEventListener("keydown", (event) => { if (event.key === "Enter") { search(true); } });
  fit();
})();
