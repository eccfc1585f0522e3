"use strict";
for (const map of document.querySelectorAll(".skxlmr-map")) {
  const svg = map.querySelector("svg.map"), tip = map.querySelector(".tip"), count = map.querySelector("output");
  const search = map.querySelector("input"), buttons = [...map.querySelectorAll("button")];
  const nameOf = (kind, code) =>
    map.querySelector(`button[data-kind="${kind}"][data-code="${code}"] span`).textContent;
  const points = [...svg.querySelectorAll(".p")].map((node) => {
    const [x, y] = node.getAttribute("transform").match(/[\d.]+/g).map(Number);
    const title = node.querySelector("title"), text = title.textContent;
    title.remove(); // the tip shows it
    const about = [];
    if (node.dataset.l !== undefined) about.push(`${map.dataset.label}: ${nameOf("l", node.dataset.l)}`);
    if (node.dataset.v !== undefined) about.push(`${map.dataset.label}: ${node.dataset.v}`);
    if (node.dataset.g !== undefined) about.push(`${map.dataset.group}: ${nameOf("g", node.dataset.g)}`);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", [text, ...about].join(", "));
    node.setAttribute("tabindex", "-1");
    return { node, x, y, text, about, found: text.toLowerCase() };
  });
  const ofNode = new Map(points.map((point) => [point.node, point]));

  function scale() { // points keep their size, however wide the map is
    const pixel = svg.getScreenCTM();
    if (!pixel || !pixel.a) return;
    const radius = points.length > 2000 ? 3 : Math.max(3.5, Math.min(5.5, svg.clientWidth / 120));
    svg.style.setProperty("--s", radius / pixel.a);
  }

  function show(point) {
    hide();
    point.node.classList.add("now");
    const text = document.createElement("div"), small = document.createElement("small");
    text.textContent = point.text;
    text.dir = point.node.dataset.dir || "ltr";
    small.textContent = point.about.join(" · ");
    tip.replaceChildren(text, ...(point.about.length ? [small] : []));
    tip.hidden = false;
    const around = map.getBoundingClientRect(), at = point.node.getBoundingClientRect();
    const left = at.left + at.width / 2 - around.left - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(0, Math.min(left, around.width - tip.offsetWidth))}px`;
    const above = at.top - around.top - tip.offsetHeight - 6;
    tip.style.top = `${above >= 0 ? above : at.bottom - around.top + 6}px`;
  }

  function hide() {
    tip.hidden = true;
    for (const node of svg.querySelectorAll(".now")) node.classList.remove("now");
  }

  function filter() {
    const words = search.value.trim().toLowerCase();
    const pressed = (kind) =>
      buttons.filter((each) => each.dataset.kind === kind && each.getAttribute("aria-pressed") === "true").map((each) => each.dataset.code);
    const [labels, groups] = ["l", "g"].map(pressed);
    let n = 0;
    for (const { node, found } of points) {
      const is = found.includes(words) && (!labels.length || labels.includes(node.dataset.l)) &&
        (!groups.length || groups.includes(node.dataset.g));
      node.classList.toggle("dim", !is);
      n += is;
    }
    count.textContent = n === points.length ? `${n} points` : `${n} of ${points.length} points`;
    hide();
    stop(points.find(({ node }) => !node.classList.contains("dim")));
  }

  function stop(point) { // the one point that Tab reaches
    for (const { node } of points) node.setAttribute("tabindex", "-1");
    if (point) point.node.setAttribute("tabindex", "0");
  }

  function next(from, dx, dy) { // the nearest point in a direction
    let best = null, least = Infinity;
    for (const point of points) {
      if (point === from || point.node.classList.contains("dim")) continue;
      const along = (point.x - from.x) * dx + (point.y - from.y) * dy;
      const aside = Math.abs((point.x - from.x) * dy) + Math.abs((point.y - from.y) * dx);
      if (along > 0 && along + 2 * aside < least) [best, least] = [point, along + 2 * aside];
    }
    return best;
  }

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const from = ofNode.get(event.target), arrow = arrows[event.key];
    if (!from || !arrow) return;
    event.preventDefault();
    const to = next(from, ...arrow);
    if (to) to.node.focus();
  });
  svg.addEventListener("focusin", (event) => {
    const point = ofNode.get(event.target);
    if (point) { stop(point); show(point); }
  });
  svg.addEventListener("focusout", hide);
  svg.addEventListener("pointerover", (event) => {
    const point = ofNode.get(event.target.closest(".p"));
    if (point) show(point); else hide();
  });
  svg.addEventListener("pointerleave", hide);
  search.addEventListener("input", filter);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  stop(points[0]);
  new ResizeObserver(scale).observe(svg); // once at the start, too
}
