/* "Build your own cell": six operations, a drawing, and what the two tables say of the cell.
   The tables are in cells.js, which book/_ext/cell_builder.py writes. */
(() => {
  const root = document.getElementById("cell-builder");
  if (!root) return;
  const { operations, tables, percent, steps, seed, walks, colours } = window.LDARTS_CELLS;
  const EDGES = [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]]; // in the order of the digits
  const NODES = [[26, 95], [140, 30], [140, 160], [294, 95]];
  const NAMES = ["input", "1", "2", "output"];
  const CELLS = operations.length ** EDGES.length;

  const numbers = (text) => new Uint16Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const columns = Object.entries(tables).map(([name, text]) => [name, numbers(text)]);
  const digitsOf = (cell) => [...cell.toString(operations.length).padStart(EDGES.length, "0")].map(Number);
  const cellOf = (digits) => parseInt(digits.join(""), operations.length);
  const places = columns.map(() => new Map());

  function worth(cell, column) {
    const [name, table] = columns[column];
    const known = places[column];
    if (!known.has(table[cell])) known.set(table[cell], 1 + table.filter((other) => other > table[cell]).length);
    const place = known.get(table[cell]).toLocaleString("en");
    const share = table[cell] / steps;
    const accuracy = percent.includes(name) ? `${(100 * share).toFixed(1)} %` : share.toFixed(3);
    return `${name}: accuracy ${accuracy}, place ${place} of ${CELLS.toLocaleString("en")}`;
  }

  function element(tag, attributes = {}, ...children) {
    const svg = ["svg", "path", "circle", "text", "g"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const label = (text, x, y, more = {}) =>
    element("text", { x, y, "text-anchor": "middle", "dominant-baseline": "central", ...more }, text);

  /* What an edge is drawn as; `none` is a dotted line. */
  function drawn(digits, onEdge) {
    const picture = element("svg", { viewBox: "0 0 320 190", "aria-hidden": "true" });
    EDGES.forEach(([from, to], e) => {
      const [[x, y], [u, v]] = [NODES[from], NODES[to]];
      const middle = [(x + u) / 2, (y + v) / 2];
      if (e === 2) middle[1] = 58; // two edges cross in the middle
      const { label: text, colour } = operations[digits[e]];
      const stroke = digits[e] === 1 ? "currentColor" : colour;
      const line = { d: `M${x} ${y} L${u} ${v}`, stroke, "stroke-width": digits[e] ? 3.5 : 1.5 };
      if (digits[e] < 2) line["stroke-dasharray"] = digits[e] ? "8 4" : "2 5";
      const width = 9 * text.length + 8;
      const plate = { d: `M${middle[0] - width / 2} ${middle[1] - 11} h${width} v22 h${-width} z`, class: "plate" };
      const group = element("g", {}, element("path", line), element("path", { ...line, class: "hit" }));
      group.append(element("path", plate), label(text, ...middle, { fill: colour, class: "operation" }));
      if (onEdge) group.addEventListener("click", () => onEdge(e));
      picture.append(group);
    });
    NODES.forEach(([x, y], node) => {
      picture.append(element("circle", { cx: x, cy: y, r: 13, class: "node" }));
      picture.append(node % 3 ? label(NAMES[node], x, y) : label(NAMES[node], x, y + 27));
    });
    return picture;
  }

  function builder() {
    const menus = EDGES.map(([from, to]) => {
      const choices = operations.map(({ words }, digit) => element("option", { value: digit }, words));
      return element("select", { "aria-label": `operation from ${NAMES[from]} to ${NAMES[to]}` }, ...choices);
    });
    const picture = element("div", { class: "cell-picture" });
    const verdict = element("p", { "aria-live": "polite" });
    const cell = () => cellOf(menus.map((menu) => menu.value));
    const show = () => {
      picture.replaceChildren(drawn(digitsOf(cell()), turn));
      verdict.replaceChildren(...columns.flatMap((_, k) => [worth(cell(), k), element("br")]));
    };
    const turn = (e) => {
      menus[e].value = (Number(menus[e].value) + 1) % operations.length;
      show();
    };
    digitsOf(walks["DARTS"].at(-1)).forEach((digit, e) => (menus[e].value = digit));
    const rows = menus.map((menu, e) => {
      menu.addEventListener("change", show);
      const [from, to] = EDGES[e].map((node) => NAMES[node]);
      return element("label", {}, element("span", {}, `${from} → ${to}`), menu);
    });
    show();
    return [element("div", { class: "cell-columns" }, picture, element("div", { class: "cell-menus" }, ...rows)), verdict];
  }

  function walk() {
    const names = Object.keys(walks);
    const last = walks[names[0]].length;
    const slider = element("input", { type: "range", min: 1, max: last, value: last, "aria-label": "epoch" });
    const button = element("button", { type: "button" }, "▶ play");
    const panels = names.map((name) => {
      const title = element("strong", { style: `border-bottom: 3px solid ${colours[name]}` }, name);
      const found = [element("div", { class: "cell-picture" }), element("p")];
      return [name, ...found, element("div", {}, title, ...found)];
    });
    const heading = element("p", { class: "cell-epoch" });
    const show = () => {
      const epoch = Number(slider.value);
      heading.textContent = `epoch ${epoch} of ${last}, seed ${seed}`;
      const said = panels.map(([name, picture, words]) => {
        const cell = walks[name][epoch - 1];
        picture.replaceChildren(drawn(digitsOf(cell)));
        words.textContent = worth(cell, 0);
        return `${name}: ${words.textContent}`;
      });
      slider.setAttribute("aria-valuetext", [`epoch ${epoch}`, ...said].join("; "));
    };
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "▶ play";
    };
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(slider.value) === last) slider.value = 1;
      show();
      button.textContent = "❚❚ pause";
      timer = setInterval(() => {
        slider.value = Number(slider.value) + 1;
        show();
        if (Number(slider.value) === last) stop();
      }, 150);
    });
    slider.addEventListener("input", () => (stop(), show()));
    show();
    const bar = element("div", { class: "cell-bar" }, button, slider);
    return [heading, bar, element("div", { class: "cell-columns" }, ...panels.map((panel) => panel[3]))];
  }

  root.replaceChildren(...builder(), element("h3", {}, "The same table, walked by two searches"), ...walk());
})();
