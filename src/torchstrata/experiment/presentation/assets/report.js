/* The page of a torchstrata report: tables by sortable-tablesort, charts by Observable Plot. Without this script, or without
   JavaScript, the page shows whole tables and pictures. */
(() => {
  "use strict";
  const $ = (name, parent) => [...(parent || document).querySelectorAll(name)];
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // ---- tables: sortable sorts them at a click; here is the filter
  const LEAST = 6; // rows that are worth a filter
  for (const table of $("table.sortable")) {
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    if (rows.length < LEAST) continue;
    const input = make("input", { type: "search", placeholder: "filter", ariaLabel: "filter rows" });
    const count = make("span", { className: "note" });
    count.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      count.textContent = words.length ? `${left} of ${rows.length} rows` : "";
    });
    table.parentElement.before(make("div", { className: "filter" }, input, count));
  }
  addEventListener("beforeprint", () => $("details:not([open])").forEach((one) => {
    one.open = true;
    one.dataset.closed = "1";
  }));
  addEventListener("afterprint", () => $("details[data-closed]").forEach((one) => {
    one.open = false;
    delete one.dataset.closed;
  }));

  // ---- charts
  const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor", "#b8ab10"];
  const DASHES = [null, "5,2", "1.5,2", "7,2,1.5,2"];
  const MOST = 8; // curves shown at first
  const digits = (value) => (value === null || Number.isNaN(value) ? "–" : Number(value.toPrecision(4)).toString());
  const bounds = (d) => (d.low === null || d.low === undefined ? "" : ` [${digits(d.low)}, ${digits(d.high)}]`);
  const whole = (column) => (Array.isArray(column) ? column : column.codes.map((code) => column.levels[code]));
  const rowsOf = (data) => {
    const columns = Object.entries(data).map(([name, column]) => [name, whole(column)]);
    return columns[0][1].map((_, i) => Object.fromEntries(columns.map(([name, column]) => [name, column[i]])));
  };
  // the settings, which tell variants of a learner apart, stand at the end of a name
  const cut = (text, most) => (text.length <= most ? text : most < 16 ? `${text.slice(0, most - 1)}…`
    : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(-Math.floor(most / 2))}`);
  const common = (width) => ({ width, marginBottom: 46, style: { fontSize: "12px", overflow: "visible" } });
  const below = { labelAnchor: "center", labelArrow: "none", labelOffset: 40 };
  const tip = (options) => ({ ...options, fontSize: 12, lineHeight: 1.3, lineWidth: 26 });

  const charts = {
    rows(spec, rows, look, width) {
      const folds = rows.flatMap((d) => d.values.map((value, fold) => ({ label: d.label, value, fold }))
        .filter((one) => one.value !== null));
      const text = (d) => `${d.label}\n${spec.x} ${digits(d.mean)}${bounds(d)}${d.note ? `\n${d.note}` : ""}`;
      const best = spec.zero ? 0 : (spec.greater ? d3.max : d3.min)(rows, (d) => d.mean);
      return Plot.plot({
        ...common(width), height: 66 + 26 * rows.length, marginLeft: Math.min(230, 0.4 * width), marginTop: 8,
        x: { label: spec.x, grid: true, ...below },
        y: { label: null, domain: rows.map((d) => d.label), tickSize: 0, tickFormat: (t) => cut(t, width < 600 ? 20 : 34) },
        color: look.scale,
        marks: [
          Plot.ruleX([best], { stroke: "var(--quiet)", strokeDasharray: spec.zero ? null : "2,3" }),
          Plot.dot(folds, { x: "value", y: "label", r: 2.4, stroke: "label", strokeOpacity: 0.7, dy: 7,
            channels: { fold: "fold" } }),
          Plot.ruleY(rows, { x1: "low", x2: "high", y: "label", stroke: "label", strokeWidth: 2 }),
          Plot.dot(rows, { x: "mean", y: "label", r: 4.5, fill: "label" }),
          Plot.tip(rows, Plot.pointerY(tip({ x: "mean", y: "label", title: text }))),
        ],
      });
    },
    curves(spec, rows, look, width) {
      const side = Math.min(width, spec.square ? 520 : width);
      const known = rows.filter((d) => d.y !== null);
      const key = (d) => `${d.label} ${d.part || ""}`;
      const dash = (d) => (d.part === "train" ? "4,3" : look.dash(d.label));
      const text = (d) => [`${d.label}${d.part ? ` (${d.part})` : ""}`, `${spec.x} ${digits(d.x)}`,
        `${spec.y} ${digits(d.y)}${bounds(d)}`, d.note || ""].filter(Boolean).join("\n");
      const groups = [...d3.group(known, key).values()];
      const shown = new Set(known.map((d) => d.label)).size; // the bands of more would hide each other
      const marks = groups.flatMap((line) => [
        ...(spec.band && shown <= 3 ? [Plot.areaY(line, { x: "x", y1: "low", y2: "high", fill: "label", fillOpacity: 0.13 })] : []),
        Plot.line(line, { x: "x", y: "y", stroke: "label", strokeWidth: 2, strokeDasharray: dash(line[0]),
          marker: spec.dots ? "dot" : null, curve: spec.step ? "step-after" : "linear" }),
      ]);
      return Plot.plot({
        ...common(side), height: spec.square ? side : 340, marginLeft: 52,
        x: { label: spec.x, ...below, domain: spec.square ? [0, 1] : undefined },
        y: { label: spec.y, grid: true, domain: spec.square ? [0, 1] : spec.limits || undefined, labelArrow: "none" },
        color: look.scale, clip: Boolean(spec.limits),
        marks: [
          ...(spec.diagonal ? [Plot.line([[0, 0], [1, 1]], { stroke: "var(--quiet)", strokeDasharray: "2,3" })] : []),
          ...marks,
          Plot.dot(known, { x: "x", y: "y", fill: "label", r: 4, filter: "best" }),
          Plot.tip(known, Plot.pointer(tip({ x: "x", y: "y", title: text }))),
        ],
      });
    },
    points(spec, rows, look, width) {
      const text = (d) => `${d.label}\n${spec.x} ${digits(d.x)}\n${spec.y} ${digits(d.y)}${bounds(d)}${d.note ? `\n${d.note}` : ""}`;
      return Plot.plot({
        ...common(width), height: 360, marginLeft: 52,
        x: { label: spec.x, type: spec.log ? "log" : "linear", ...below, nice: true, ticks: width < 600 ? 4 : 8, tickFormat: digits },
        y: { label: spec.y, grid: true, labelArrow: "none" },
        color: look.scale,
        marks: [
          Plot.ruleX(rows, { x: "x", y1: "low", y2: "high", stroke: "label", strokeOpacity: 0.6, strokeWidth: 1.5 }),
          Plot.line(d3.sort(rows.filter((d) => d.front), (d) => d.x), { x: "x", y: "y", stroke: "var(--quiet)",
            curve: "step-after" }),
          Plot.dot(rows, { x: "x", y: "y", r: 5, fill: "label" }),
          ...(spec.best ? [Plot.line(rows, { x: "x", y: "best", z: "label", stroke: "label", curve: "step-after" })] : []),
          Plot.tip(rows, Plot.pointer(tip({ x: "x", y: "y", title: text }))),
        ],
      });
    },
    cells(spec, rows, look, width) {
      const present = new Set(rows.map((d) => d.label));
      const labels = spec.labels.filter((label) => present.has(label));
      const classes = [...new Set(rows.map((d) => d.truth))];
      const columns = Math.max(1, Math.min(labels.length, Math.floor(width / Math.max(190, 34 * classes.length + 70))));
      const text = (d) => `${d.label}\ntrue ${d.truth}, predicted ${d.predicted}\n${d.count} rows` +
        (d.share === null ? "" : `, ${digits(100 * d.share)} % of ${d.truth}`);
      const box = make("div", { className: "cells" });
      for (const label of labels) {
        const own = rows.filter((d) => d.label === label);
        const size = width / columns - 12;
        box.append(make("div", {}, make("h4", { textContent: label }), Plot.plot({
          ...common(size), height: Math.min(size, 40 + 46 * classes.length + 20), marginLeft: 60, marginTop: 4, padding: 0.03,
          x: { label: "predicted", ...below, labelOffset: 34, domain: classes, tickSize: 0, tickFormat: (t) => cut(t, 9) },
          y: { label: null, domain: classes, tickSize: 0, tickFormat: (t) => cut(t, 8) },
          marks: [
            Plot.cell(own, { x: "predicted", y: "truth", stroke: "var(--line)", fill: "none" }),
            Plot.cell(own, { x: "predicted", y: "truth", fill: "#0072b2", fillOpacity: { value: "share", scale: null } }),
            ...(classes.length <= 12 ? [Plot.text(own, { x: "predicted", y: "truth",
              text: (d) => `${d.count}`, fill: { value: (d) => (d.share > 0.55 ? "#fff" : "currentColor"), scale: null } })] : []),
            Plot.tip(own, Plot.pointer(tip({ x: "predicted", y: "truth", title: text }))),
          ],
        })));
      }
      return box;
    },
  };

  const lookOf = (labels, order) => {
    const place = new Map([...new Set([...order, ...labels])].map((label, i) => [label, i]));
    const color = (label) => PALETTE[place.get(label) % PALETTE.length];
    return {
      color,
      dash: (label) => DASHES[Math.floor(place.get(label) / PALETTE.length) % DASHES.length],
      scale: { type: "ordinal", domain: labels, range: labels.map(color) },
    };
  };

  const choose = (spec, labels) => {
    const most = spec.kind === "rows" || spec.kind === "points" ? Infinity : spec.kind === "cells" ? 4 : spec.dots ? 3 : MOST;
    return new Set(labels.slice(0, most));
  };

  const draw = (holder, spec) => {
    const rows = rowsOf(spec.data);
    const labels = spec.labels;
    const look = lookOf(labels, data.order);
    const tasks = [...new Set(rows.map((d) => d.task))];
    const shown = choose(spec, labels);
    const state = { task: tasks[0] };
    const area = make("div", { className: "area" });
    const redraw = () => {
      const width = Math.max(280, Math.floor(holder.clientWidth || 900));
      const visible = rows.filter((d) => d.task === state.task && shown.has(d.label));
      area.replaceChildren(visible.length ? charts[spec.kind](spec, visible, look, width)
        : make("p", { className: "note", textContent: "No learner is chosen that has been run on this task." }));
    };
    const controls = make("div", { className: "controls" });
    if (tasks.length > 1) {
      const select = make("select", { ariaLabel: "task" }, ...tasks.map((task) => make("option", { textContent: task, value: task })));
      select.addEventListener("change", () => { state.task = select.value; redraw(); });
      controls.append(make("label", {}, "task ", select));
    }
    const chips = labels.map((label) => {
      const chip = make("button", { type: "button", className: "chip", title: label },
        make("i", {}), make("span", { textContent: cut(label, 40) }));
      chip.firstChild.style.background = look.color(label);
      chip.setAttribute("aria-pressed", shown.has(label));
      chip.addEventListener("click", () => {
        shown[shown.has(label) ? "delete" : "add"](label);
        chip.setAttribute("aria-pressed", shown.has(label));
        redraw();
      });
      return chip;
    });
    const all = make("button", { type: "button", className: "plain", textContent: "all / none" });
    all.addEventListener("click", () => {
      const every = shown.size < labels.length;
      labels.forEach((label, i) => {
        shown[every ? "add" : "delete"](label);
        chips[i].setAttribute("aria-pressed", every);
      });
      redraw();
    });
    if (labels.length > 1) controls.append(...chips, all);
    holder.append(controls, area);
    redraw();
    let before = holder.clientWidth;
    new ResizeObserver(() => {
      if (Math.abs(holder.clientWidth - before) > 4) { before = holder.clientWidth; redraw(); }
    }).observe(holder);
  };

  const data = JSON.parse(document.getElementById("data").textContent);
  // one after the other, so that the page answers meanwhile
  $(".live").forEach((holder) => setTimeout(() => draw(holder, data.charts[holder.dataset.chart])));
  document.documentElement.classList.add("js");
})();
