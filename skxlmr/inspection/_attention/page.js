"use strict";
// The page of an AttentionDisplay. DATA, which stands before this file, has for each text its tokens, their words and the text
// of a pair that they belong to (-1: special), the attention weights as bytes (255 times the square root), and a number per head.
(function () {
  const MOST_LINKS = 1500; // that are drawn at once, the strongest
  const N_LISTED = 5; // tokens that the numbers below a figure name
  const MEAN = -1; // in place of a head: the mean of all heads of a layer
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const state = { text: 0, beside: -1, layer: DATA.layers - 1, head: MEAN, view: "tokens", direction: "first", special: false };
  let panels = [];

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element && name !== "dir") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // Numbers ---------------------------------------------------------------------------------------------------------------

  const bytesOf = new Map(); // of each text, decoded when it is first shown
  function weightsOf(number) {
    const text = DATA.texts[number], n = text.tokens.length;
    if (!bytesOf.has(number)) bytesOf.set(number, Uint8Array.from(atob(text.weights), (c) => c.charCodeAt(0)));
    const bytes = bytesOf.get(number), heads = state.head === MEAN ? [...Array(DATA.heads).keys()] : [state.head];
    const found = new Float64Array(n * n);
    for (const head of heads) {
      const start = (state.layer * DATA.heads + head) * n * n;
      for (let i = 0; i < n * n; i++) found[i] += (bytes[start + i] / 255) ** 2 / heads.length;
    }
    return found; // row after row: where each token looks
  }

  // Sum over the tokens of the word that is looked at, mean over those of the word that looks
  function betweenWords(text, weights) {
    const n = text.tokens.length, nWords = Math.max(-1, ...text.words) + 1;
    const found = new Float64Array(nWords * nWords), size = new Array(nWords).fill(0);
    for (const word of text.words) if (word >= 0) size[word]++;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const from = text.words[i], to = text.words[j];
        if (from >= 0 && to >= 0) found[from * nWords + to] += weights[i * n + j] / size[from];
      }
    }
    return { nWords, at: (from, to) => found[from * nWords + to] };
  }

  // What a panel shows: units on both sides, and the weight of each link between them
  function viewOf(number) {
    const text = DATA.texts[number], weights = weightsOf(number), n = text.tokens.length;
    if (state.view === "words" && text.pair) {
      const { nWords, at } = betweenWords(text, weights);
      const units = [...Array(nWords).keys()].map((word) => ({ number: word, label: text.wordLabels[word], of: text.wordOf[word] }));
      const [looks, seen] = [0, 1].map((of) => units.filter((unit) => unit.of === of));
      const weight = {
        first: (i, j) => at(looks[i].number, seen[j].number),
        second: (i, j) => at(seen[j].number, looks[i].number),
        both: (i, j) => (at(looks[i].number, seen[j].number) + at(seen[j].number, looks[i].number)) / 2,
      }[state.direction];
      return { words: true, looks, seen, weight };
    }
    const units = text.tokens.map((label, i) => ({
      number: i, label, special: text.of[i] < 0, goesOn: i > 0 && text.of[i] >= 0 && text.words[i] === text.words[i - 1],
    })).filter((unit) => !(state.special && unit.special));
    return { words: false, looks: units, seen: units, weight: (i, j) => weights[units[i].number * n + units[j].number] };
  }

  const shown = (weight) => weight.toFixed(weight < 0.0995 ? 3 : 2);

  // Panels ----------------------------------------------------------------------------------------------------------------

  class Panel {
    constructor(number) {
      this.number = number;
      this.text = DATA.texts[number];
      this.view = viewOf(number);
      this.active = null; // {side, place}
      this.pinned = null;
      this.element = make("article", { className: "panel", dir: this.view.words ? "ltr" : this.text.dir });
      this.build();
    }

    build() {
      const { text, view } = this;
      const head = state.head === MEAN ? "mean of all heads" : `head ${state.head}`;
      const name = DATA.texts.length > 1 ? `Text ${this.number}, layer ${state.layer}, ${head}` : `Layer ${state.layer}, ${head}`;
      const source = make("p", { className: "source" }, ...text.sources.map((part) => make("span", {}, make("bdi", {}, part))));
      const names = !view.words ? ["looks at \u2026", "\u2026 is looked at"] : {
        first: ["first text looks at \u2026", "\u2026 second text"],
        second: ["first text \u2026", "\u2026 second text looks"],
        both: ["first text", "second text"],
      }[state.direction];
      this.svg = document.createElementNS(SVG, "svg");
      this.svg.setAttribute("class", "links");
      this.svg.setAttribute("aria-hidden", "true");
      this.sides = {
        looks: this.side("looks", view.looks, view.words ? "Words of the first text" : "Tokens that look"),
        seen: this.side("seen", view.seen, view.words ? "Words of the second text" : "Tokens that are looked at"),
      };
      this.element.append(
        make("h2", {}, make("bdi", { dir: "ltr" }, name)), source,
        make("div", { className: "ends" }, make("span", {}, make("bdi", {}, names[0])), make("span", {}, make("bdi", {}, names[1]))),
        make("div", { className: "figure" }, this.sides.looks, make("div", { className: "links-cell" }, this.svg), this.sides.seen),
      );
    }

    side(side, units, label) {
      const list = make("ol", { className: `side ${side}`, "aria-label": label });
      units.forEach((unit, place) => {
        const button = make(
          "button", { type: "button", className: "token", tabIndex: place ? -1 : 0, "aria-pressed": "false", title: unit.label },
          make("bdi", { dir: "auto" }, unit.label), make("span", { className: "number" }),
        );
        button.classList.toggle("special", Boolean(unit.special));
        button.addEventListener("pointerenter", () => this.activate({ side, place }));
        button.addEventListener("pointerleave", () => this.activate(null));
        button.addEventListener("focus", () => this.activate({ side, place }));
        button.addEventListener("blur", () => this.activate(null));
        button.addEventListener("click", () => this.pin({ side, place }));
        button.addEventListener("keydown", (event) => this.key(event, side, place));
        list.append(make("li", { className: unit.goesOn ? "goes-on" : "" }, button));
      });
      return list;
    }

    buttons(side) {
      return [...this.sides[side].querySelectorAll("button")];
    }

    key(event, side, place) {
      const last = this.buttons(side).length - 1;
      const other = side === "looks" ? "seen" : "looks";
      const to = {
        ArrowDown: [side, Math.min(place + 1, last)], ArrowUp: [side, Math.max(place - 1, 0)], Home: [side, 0], End: [side, last],
        ArrowLeft: [other, Math.min(place, this.buttons(other).length - 1)],
      };
      to.ArrowRight = to.ArrowLeft;
      if (event.key === "Escape") this.pin(null);
      if (!(event.key in to)) return;
      event.preventDefault();
      this.buttons(to[event.key][0])[to[event.key][1]].focus();
    }

    pin(token) {
      const same = token && this.pinned && token.side === this.pinned.side && token.place === this.pinned.place;
      this.pinned = same ? null : token;
      this.activate(this.pinned);
    }

    // The pinned token, as another panel of the same text finds it
    kept() {
      const { pinned, view, number } = this;
      return pinned && { number, words: view.words, side: pinned.side, unit: view[pinned.side][pinned.place].number };
    }

    restore(kept) {
      if (!kept || kept.number !== this.number || kept.words !== this.view.words) return;
      const place = this.view[kept.side].findIndex((unit) => unit.number === kept.unit);
      if (place >= 0) this.pin({ side: kept.side, place });
    }

    activate(token) {
      this.active = token || this.pinned;
      for (const side of ["looks", "seen"]) {
        const buttons = this.buttons(side);
        const current = this.active && this.active.side === side ? this.active.place : -1;
        buttons.forEach((button, place) => {
          const isPinned = this.pinned && this.pinned.side === side && this.pinned.place === place;
          button.setAttribute("aria-pressed", String(Boolean(isPinned)));
          button.classList.toggle("active", place === current);
          if (current >= 0) button.tabIndex = place === current ? 0 : -1;
        });
      }
      this.shade();
      this.draw();
      (this.active ? this : panels.find((panel) => panel.active) || this).say();
    }

    // Weights between the active token and those of the other side
    toOthers(token) {
      const { view } = this, others = token.side === "looks" ? view.seen : view.looks;
      return others.map((_, place) => (token.side === "looks" ? view.weight(token.place, place) : view.weight(place, token.place)));
    }

    shade() {
      const weights = this.active ? this.toOthers(this.active) : null;
      for (const side of ["looks", "seen"]) {
        const isOther = weights && this.active.side !== side;
        const most = isOther ? Math.max(...weights) : 0;
        this.buttons(side).forEach((button, place) => {
          button.style.setProperty("--share", isOther && most ? (weights[place] / most).toFixed(3) : "0");
          button.lastChild.textContent = isOther && weights[place] >= 0.0005 ? shown(weights[place]) : "";
          if (isOther) button.dataset.weight = weights[place].toFixed(6);
          else delete button.dataset.weight;
        });
      }
    }

    draw() {
      const { view, active } = this, links = [];
      let most = 0;
      view.looks.forEach((_, i) => view.seen.forEach((__, j) => {
        const weight = view.weight(i, j), [a, b] = active && active.side === "seen" ? [j, i] : [i, j];
        most = Math.max(most, weight);
        if (!active || active.place === a) links.push({ i, j, weight, b });
      }));
      if (active) most = Math.max(0, ...links.map((link) => link.weight));
      const least = most * Number(byId("threshold").value) / 100;
      const strong = links.filter((link) => link.weight > 0 && link.weight >= least).sort((x, y) => y.weight - x.weight);
      const drawn = strong.slice(0, MOST_LINKS);
      this.left = strong.length - drawn.length;
      const box = this.svg.getBoundingClientRect();
      const middles = (side) => this.buttons(side).map((button) => {
        const own = button.getBoundingClientRect();
        return { y: own.top + own.height / 2 - box.top, start: own.left - box.left, end: own.right - box.left };
      });
      const from = middles("looks"), to = middles("seen"), mirrored = this.element.getAttribute("dir") === "rtl";
      this.svg.setAttribute("class", `links${active ? ` of-${active.side}` : ""}`);
      this.svg.replaceChildren(...drawn.reverse().map(({ i, j, weight }) => {
        const path = document.createElementNS(SVG, "path"), share = most ? weight / most : 0;
        const x1 = mirrored ? from[i].start : from[i].end, x2 = mirrored ? to[j].end : to[j].start, middle = (x1 + x2) / 2;
        path.setAttribute("d", `M${x1} ${from[i].y}C${middle} ${from[i].y} ${middle} ${to[j].y} ${x2} ${to[j].y}`);
        path.setAttribute("stroke-width", (0.75 + 3.25 * share).toFixed(2));
        path.setAttribute("stroke-opacity", ((active ? 0.25 : 0.06) + (active ? 0.75 : 0.7) * share).toFixed(2));
        return path;
      }));
    }

    // In words below the table of heads: the strongest of the numbers
    say() {
      const lines = [], { view, active } = this;
      const line = (what, label, units, weights) => {
        const found = units.map((unit, place) => [unit.label, weights[place]]).filter(([, weight]) => weight >= 0.0005)
          .sort((x, y) => y[1] - x[1]).slice(0, N_LISTED)
          .map(([other, weight]) => make("span", { className: "pair" }, make("bdi", {}, other), "\u00a0", make("span", { className: "number" }, shown(weight))));
        lines.push(make("p", {}, make("b", {}, make("bdi", {}, label)), ` ${what} `, ...(found.length ? found : ["nothing that is shown"])));
      };
      if (!active) {
        lines.push(make("p", {}, view.words ? "Hover or focus a word to see which words of the other text it meets."
          : "Hover or focus a token to see where it looks, and who looks at it."));
        if (this.left) lines.push(make("p", {}, `The ${MOST_LINKS} strongest links are drawn, ${this.left} weaker ones are not.`));
      } else if (view.words) {
        const what = { first: ["looks at", "is looked at by"], second: ["is looked at by", "looks at"], both: ["meets", "meets"] };
        const [place, other] = active.side === "looks" ? [0, view.seen] : [1, view.looks];
        line(what[state.direction][place], view[active.side][active.place].label, other, this.toOthers(active));
      } else {
        const { label } = view[active.side][active.place];
        line("looks at", label, view.seen, this.toOthers({ side: "looks", place: active.place }));
        line("is looked at by", label, view.looks, this.toOthers({ side: "seen", place: active.place }));
      }
      byId("numbers").replaceChildren(...lines);
    }
  }

  function showPanels() {
    const numbers = state.beside < 0 ? [state.text] : [state.text, state.beside];
    const kept = panels.map((panel) => panel.kept()); // a token stays chosen from head to head
    panels = numbers.map((number) => new Panel(number));
    byId("panels").classList.toggle("two", numbers.length > 1);
    byId("panels").replaceChildren(...panels.map((panel) => panel.element));
    panels.forEach((panel, i) => {
      panel.activate(null);
      panel.restore(kept[i] || null);
    });
    const hasPair = numbers.some((number) => DATA.texts[number].pair);
    for (const element of document.querySelectorAll(".pairs")) element.hidden = !hasPair;
    const words = hasPair && state.view === "words";
    byId("directions").hidden = !words;
    byId("hiding").hidden = words && numbers.every((number) => DATA.texts[number].pair);
  }

  // Overview --------------------------------------------------------------------------------------------------------------

  const valueOf = (layer, head) => {
    const row = DATA.texts[state.text].measures[byId("measure").value][layer];
    return head === MEAN ? row.reduce((sum, value) => sum + value, 0) / row.length : row[head];
  };
  const nameOf = (layer, head) => `layer ${layer}, ${head === MEAN ? "mean of all heads" : `head ${head}`}`;
  const heads = [...Array(DATA.heads).keys(), MEAN];
  const cells = new Map();

  function buildGrid() {
    const titles = make("tr", { role: "row" }, make("th", { className: "corner", scope: "col", title: "layers down, heads across" }, ""));
    for (const head of heads) titles.append(make("th", { scope: "col" }, head === MEAN ? "all" : String(head)));
    byId("grid").append(make("thead", {}, titles));
    const body = make("tbody");
    for (let layer = 0; layer < DATA.layers; layer++) {
      const row = make("tr", { role: "row" }, make("th", { scope: "row" }, String(layer)));
      for (const head of heads) {
        const cell = make("td", { role: "gridcell", tabIndex: -1, className: head === MEAN ? "mean" : "" });
        cell.dataset.layer = layer;
        cell.dataset.head = head;
        cell.addEventListener("click", () => choose(layer, head));
        cell.addEventListener("keydown", (event) => gridKey(event, layer, head));
        cells.set(`${layer} ${head}`, cell);
        row.append(cell);
      }
      body.append(row);
    }
    byId("grid").append(body);
  }

  function gridKey(event, layer, head) {
    const place = heads.indexOf(head), last = heads.length - 1;
    const to = {
      ArrowDown: [layer + 1, place], ArrowUp: [layer - 1, place], ArrowLeft: [layer, place - 1], ArrowRight: [layer, place + 1],
      Home: [layer, 0], End: [layer, last], PageUp: [0, place], PageDown: [DATA.layers - 1, place], Enter: [layer, place], " ": [layer, place],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    choose(Math.min(Math.max(to[0], 0), DATA.layers - 1), heads[Math.min(Math.max(to[1], 0), last)]);
    cells.get(`${state.layer} ${state.head}`).focus();
  }

  function choose(layer, head) {
    Object.assign(state, { layer, head });
    showHeads();
    showPanels();
  }

  function showHeads() {
    const values = [...cells.values()].map((cell) => valueOf(Number(cell.dataset.layer), Number(cell.dataset.head)));
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const [, what] = DATA.measures[byId("measure").value];
    for (const [i, cell] of [...cells.values()].entries()) {
      const [layer, head] = [Number(cell.dataset.layer), Number(cell.dataset.head)], chosen = layer === state.layer && head === state.head;
      cell.style.setProperty("--share", (most > least ? 4 + 96 * (values[i] - least) / (most - least) : 50).toFixed(1));
      cell.setAttribute("aria-selected", String(chosen));
      cell.setAttribute("aria-label", `${nameOf(layer, head)}: ${values[i].toFixed(2)} ${what}`);
      cell.title = cell.getAttribute("aria-label");
      cell.tabIndex = chosen ? 0 : -1;
      if (chosen) byId("about-head").textContent = `${cell.title[0].toUpperCase()}${cell.title.slice(1)}.`;
    }
    byId("lowest").textContent = least.toFixed(2);
    byId("highest").textContent = most.toFixed(2);
  }

  // Controls --------------------------------------------------------------------------------------------------------------

  const shorten = (text) => ([...text].length > 32 ? `${[...text].slice(0, 31).join("")}\u2026` : text);

  function fillSelect(id, options) {
    byId(id).replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
  }

  function fillMeasures() {
    const before = byId("measure").value, known = Object.keys(DATA.texts[state.text].measures);
    fillSelect("measure", known.map((name) => [name, DATA.measures[name][0]]));
    if (known.includes(before)) byId("measure").value = before;
  }

  function showThreshold() {
    byId("threshold-said").textContent = `${byId("threshold").value}\u00a0%`;
  }

  function start() {
    const titles = DATA.texts.map((text, i) => [String(i), shorten(`${i}: ${text.sources.join(" | ")}`)]);
    fillSelect("text", titles);
    fillSelect("beside", [["-1", "none"], ...titles]);
    for (const element of document.querySelectorAll(".several")) element.hidden = DATA.texts.length < 2;
    fillMeasures();
    byId("text").addEventListener("change", (event) => {
      state.text = Number(event.target.value);
      fillMeasures();
      choose(state.layer, state.head);
    });
    byId("beside").addEventListener("change", (event) => {
      state.beside = Number(event.target.value);
      showPanels();
    });
    byId("special").addEventListener("change", (event) => {
      state.special = event.target.checked;
      showPanels();
    });
    byId("measure").addEventListener("change", showHeads);
    byId("threshold").addEventListener("input", () => {
      showThreshold();
      panels.forEach((panel) => panel.activate(panel.active));
    });
    for (const name of ["view", "direction"]) {
      for (const input of document.querySelectorAll(`input[name=${name}]`)) {
        input.addEventListener("change", () => {
          state[name] = input.value;
          showPanels();
        });
      }
    }
    document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    showThreshold();
    buildGrid();
    showHeads();
    showPanels();
    new ResizeObserver(() => panels.forEach((panel) => panel.draw())).observe(byId("panels"));
  }

  start();
})();
