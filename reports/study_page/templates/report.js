"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const table = $("table");

  // trial table: sort, filter, find

  function sortBy(column, header) {
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      return "s" in cell.dataset ? Number(cell.dataset.s) : cell.textContent;
    };
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort((a, b) => (up ? order(a[0], b[0]) : order(b[0], a[0])));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }

  function filterRows() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = $("state").value;
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (state !== "" && row.cells[3].textContent !== state);
      shown += row.hidden ? 0 : 1;
    }
    $("count").textContent = `${shown.toLocaleString("en")} of ${table.tBodies[0].rows.length.toLocaleString("en")} shown`;
  }

  function find(number) {
    const row = $(`trial-${number}`);
    if (!row) return;
    if (row.hidden) {
      $("filter").value = "";
      $("state").value = "";
      filterRows();
    }
    for (const other of table.querySelectorAll(".found")) other.classList.remove("found");
    row.classList.add("found");
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  }

  if (table) {
    [...table.tHead.rows[0].cells].forEach((header, column) =>
      header.firstElementChild.addEventListener("click", () => sortBy(column, header)));
    $("filter").addEventListener("input", filterRows);
    $("state").addEventListener("change", filterRows);
    filterRows();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const target = link && link.getAttribute("href");
    if (target && target.startsWith("#trial-")) {
      event.preventDefault();
      history.replaceState(null, "", target);
      find(target.slice(7));
    }
    const copy = event.target.closest(".copy");
    if (copy && navigator.clipboard) {
      navigator.clipboard.writeText(copy.dataset.copy).then(() => {
        copy.textContent = "copied";
        setTimeout(() => { copy.textContent = "copy"; }, 1500);
      }, () => {});
    }
  });

  // scatter of accuracy against a resource

  const data = JSON.parse($("data").textContent);
  const scatter = $("scatter");
  if (!scatter) return;
  const NS = "http://www.w3.org/2000/svg";
  const W = 1060, H = 560, LEFT = 62, RIGHT = 80, TOP = 92, BOTTOM = 54;
  const points = data.points;
  const hidden = new Set();
  let current = data.resources[0];

  const SHAPES = [
    (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}Z`,
    (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0Z`,
    (r) => `M0 ${-1.25 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`,
    (r) => `M0 ${1.25 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`,
  ];
  const shape = (method, r) => SHAPES[method % SHAPES.length](r);
  const colour = (method) => `var(--c${method % 9})`;

  function make(tag, attributes, parent, text) {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  function yRange() {
    const all = points.acc.filter((_, at) => points.ok[at]);
    const sorted = (all.length ? all : points.acc).slice().sort((a, b) => a - b);
    const fronts = data.resources.flatMap((r) => r.fronts.flat().map((p) => p[1]));
    const low = Math.min(sorted[Math.floor(sorted.length * 0.02)] ?? 0, ...fronts), high = sorted[sorted.length - 1] ?? 1;
    const span = Math.max(high - low, data.score.percent ? 0.02 : 1e-6 * Math.abs(high) || 1e-9);
    const [least, most] = [data.score.bounded ? 0 : -Infinity, data.score.percent ? 1 : Infinity];
    return [Math.max(least, low - 0.08 * span), Math.min(most, high + 0.08 * span)];
  }

  function ticksOf(low, high) {
    const decade = 10 ** Math.floor(Math.log10((high - low) / 9));
    const step = [1, 2, 5, 10].map((s) => s * decade).find((s) => (high - low) / s <= 9 + 1e-9);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
    return [found, step < 0.0099 ? 1 : 0];
  }

  function shown(value, digits) {
    if (value === null) return "–";
    if (data.score.percent) return `${(100 * value).toFixed(digits)} %`;
    return String(Number((data.score.lower ? 0 - value : value).toPrecision(4)));
  }

  function labelPlaces(xs, gap) {
    const at = xs.slice();
    for (let round = 0; round < 200; round += 1) {
      let moved = false;
      for (let k = 0; k + 1 < at.length; k += 1) {
        const lack = gap - (at[k + 1] - at[k]);
        if (lack > 1e-6) { at[k] -= lack / 2; at[k + 1] += lack / 2; moved = true; }
      }
      if (!moved) break;
    }
    return at;
  }

  function draw() {
    const holder = $("scatter-plot");
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `Test results against ${current.title}` });
    const [yLow, yHigh] = yRange();
    const x = (value) => LEFT + (W - LEFT - RIGHT) * Math.log(value / current.low) / Math.log(current.high / current.low);
    const y = (value) => H - BOTTOM - (H - TOP - BOTTOM) * (Math.max(value, yLow) - yLow) / (yHigh - yLow);
    const [ticks, digits] = ticksOf(yLow, yHigh);
    for (const tick of ticks) {
      make("line", { x1: LEFT, x2: W - RIGHT, y1: y(tick), y2: y(tick), stroke: "var(--grid)" }, svg);
      make("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, svg, shown(tick, digits));
    }
    for (const [tick, label] of current.ticks) {
      make("line", { x1: x(tick), x2: x(tick), y1: H - BOTTOM, y2: H - BOTTOM + 5, stroke: "var(--soft)" }, svg);
      make("text", { x: x(tick), y: H - BOTTOM + 20, "text-anchor": "middle" }, svg, label);
    }
    make("line", { x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM, stroke: "var(--soft)" }, svg);
    make("text", { class: "axis", x: (LEFT + W - RIGHT) / 2, y: H - 8, "text-anchor": "middle" }, svg, current.title);
    drawLimits(svg, x);
    current.fronts.forEach((front, method) => {
      if (!hidden.has(method)) drawStep(svg, front, x, y, colour(method), 1.6, 0.9);
    });
    drawStep(svg, current.overall, x, y, "var(--ink)", 5, 0.16);
    drawPoints(svg, x, y, yLow);
    holder.replaceChildren(svg);
  }

  function drawLimits(svg, x) {
    const groups = new Map();
    for (const [label, bound] of current.limits) groups.set(bound, [...(groups.get(bound) ?? []), label]);
    const sorted = [...groups].sort((a, b) => a[0] - b[0]);
    const places = labelPlaces(sorted.map(([bound]) => x(bound)), 30);
    sorted.forEach(([bound, labels], at) => {
      make("line", { x1: x(bound), x2: x(bound), y1: TOP, y2: H - BOTTOM, stroke: "var(--soft)", "stroke-dasharray": "4 4" }, svg);
      make("path", { d: `M${x(bound)} ${TOP}L${places[at]} ${TOP - 9}`, stroke: "var(--soft)", fill: "none" }, svg);
      const all = labels.join(", ");
      const text = all.length <= 16 ? all : `${labels[0]}${labels.length > 1 ? ` +${labels.length - 1}` : ""}`;
      const label = make("text", { transform: `translate(${places[at]} ${TOP - 12}) rotate(-38)` }, svg, text);
      make("title", {}, label, `${all}: ${bound.toLocaleString("en")}`);
    });
  }

  function drawStep(svg, front, x, y, stroke, width, opacity) {
    if (!front.length) return;
    let path = `M${x(front[0][0])} ${y(front[0][1])}`;
    for (const [use, accuracy] of front.slice(1)) path += `H${x(use)}V${y(accuracy)}`;
    make("path", { d: `${path}H${W - RIGHT}`, fill: "none", stroke, "stroke-width": width, "stroke-opacity": opacity }, svg);
  }

  function drawPoints(svg, x, y, yLow) {
    const use = points[current.name];
    const r = use.length > 600 ? 3.4 : 5;
    const onFront = new Set([...current.fronts.flat(), ...current.overall].map(([a, b]) => `${a}/${b}`));
    use.forEach((value, at) => {
      const method = points.method[at];
      if (hidden.has(method) || value <= 0) return;
      const link = make("a", { href: `#trial-${points.number[at]}`, "data-at": at, tabindex: onFront.has(`${value}/${points.acc[at]}`) ? 0 : -1 }, svg);
      link.setAttribute("aria-label", describe(at).replaceAll("\n", ", "));
      const fill = points.ok[at] ? colour(method) : "var(--card)";
      const below = points.acc[at] < yLow;
      make("path", {
        d: shape(method, r), transform: `translate(${x(value).toFixed(1)} ${y(points.acc[at]).toFixed(1)})`, fill,
        "fill-opacity": points.ok[at] ? 0.85 : 0.01, stroke: points.ok[at] ? "var(--card)" : colour(method),
        "stroke-width": points.ok[at] ? 0.8 : 1.4, "stroke-dasharray": below ? "2 2" : "none",
      }, link);
    });
  }

  function size(value) {
    return value >= 1048576 ? `${(value / 1048576).toFixed(2)} MB` : `${(value / 1024).toFixed(1)} KB`;
  }

  function describe(at) {
    const lines = [
      `trial ${points.number[at]}: ${data.methods[points.method[at]] ?? "?"}`,
      `for ${data.budgets[points.budget[at]]}${points.ok[at] ? "" : " (over it)"}`,
      `test ${shown(points.acc[at], 2)}, validation ${shown(points.val[at], 2)}`,
      `flash ${size(points.flash[at])}, SRAM ${size(points.sram[at])}`,
      `${(points.macs[at] / 1e6).toFixed(2)} M MACs`,
    ];
    return lines.join("\n");
  }

  function showTip(event) {
    const link = event.target.closest && event.target.closest("a[data-at]");
    const tip = $("tip");
    if (!link) { tip.hidden = true; return; }
    tip.textContent = describe(Number(link.dataset.at));
    tip.hidden = false;
    const box = link.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const top = box.top - own.height - 8 < 0 ? box.bottom + 8 : box.top - own.height - 8;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${top + scrollY}px`;
  }

  const tabs = scatter.querySelector(".tabs");
  for (const resource of data.resources) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = resource.title;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-selected", String(resource === current));
    button.setAttribute("aria-controls", "scatter-plot");
    button.addEventListener("click", () => {
      current = resource;
      for (const other of tabs.children) other.setAttribute("aria-selected", String(other === button));
      draw();
    });
    tabs.append(button);
  }
  const legend = scatter.querySelector(".legend");
  data.methods.forEach((name, method) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const icon = make("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, button);
    make("path", { d: shape(method, 4), fill: colour(method) }, icon);
    button.append(document.createTextNode(name));
    button.addEventListener("click", () => {
      if (!hidden.delete(method)) hidden.add(method);
      button.setAttribute("aria-pressed", String(!hidden.has(method)));
      draw();
    });
    legend.append(button);
  });
  for (const kind of ["pointerover", "focusin", "pointerout", "focusout"]) {
    $("scatter-plot").addEventListener(kind, kind.endsWith("out") ? () => { $("tip").hidden = true; } : showTip);
  }
  scatter.hidden = false;
  draw();
})();
