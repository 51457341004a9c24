"use strict";
// What all reports draw with. Texts are set as texts and never as HTML: names may hold anything.

const BOX = { left: 46, top: 10, width: 224, height: 150 };
const SHARES = { x: [[0, "0"], [0.5, "0.5"], [1, "1"]], y: [[0, "0"], [0.5, "0.5"], [1, "1"]] };
const LOOKS = 8; // colours, which come again dashed

/** A share in percent. */
function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}%`;
}

/** An interval of shares in percent. */
function range(interval) {
  return `${(100 * interval[0]).toFixed(1)} to ${(100 * interval[1]).toFixed(1)}%`;
}

/** A number of few digits. */
function brief(value, digits = 4) {
  return Number(value.toPrecision(digits)).toString();
}

/** Three to six round numbers between two, as [share of the way, text]. */
function ticksOf(low, high, whole = false) {
  const step = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10((high - low) / 4)))
    .find((s) => (high - low) / s <= 5 && (s >= 1 || !whole)) ?? 1;
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  const digits = Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high)) / step)) + 1;
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step)
    .map((x) => [(x - low) / (high - low), brief(x, Math.min(Math.max(digits, 4), 17))]);
}

/** A text of at most so many letters. */
function cut(text, letters) {
  const all = [...text];
  return all.length > letters ? `${all.slice(0, letters - 1).join("")}…` : text;
}

/** The d of a path through points, in a box from (left, top) of a width and height. */
function path(xs, ys, box) {
  return xs.map((x, i) => {
    const px = box.left + x * box.width, py = box.top + (1 - ys[i]) * box.height;
    return `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`;
  }).join("");
}

/** The outline of a histogram, its highest bar at one. */
function outline(counts, highest) {
  const total = counts.reduce((a, b) => a + b, 0) || 1, xs = [0], ys = [0];
  counts.forEach((count, i) => {
    const y = count / total / highest;
    xs.push(i / counts.length, (i + 1) / counts.length);
    ys.push(y, y);
  });
  return [[...xs, 1], [...ys, 0]];
}

/** The highest share of a bar in several histograms. */
function tallest(several) {
  return Math.max(...several.map((c) => Math.max(...c) / (c.reduce((a, b) => a + b, 0) || 1)));
}

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "rect"].includes(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function look(detector) {
  return `line c${detector % LOOKS} d${Math.floor(detector / LOOKS) % 3}`;
}

/** A box with axes, as wide as a column of the page. */
function frame(label, xLabel, yLabel, ticks) {
  const { left, top, width, height } = BOX, bottom = top + height;
  const drawing = make("svg", { viewBox: "0 0 280 200", role: "img", "aria-label": label });
  drawing.append(make("rect", { class: "axis", x: left, y: top, width, height }));
  for (const [share, text] of ticks.x) {
    const x = left + share * width;
    drawing.append(make("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 3 }),
      make("text", { x, y: bottom + 14, "text-anchor": share > 0.97 ? "end" : "middle" }, text));
  }
  for (const [share, text] of ticks.y) {
    const y = bottom - share * height;
    drawing.append(make("line", { class: "axis", x1: left - 3, x2: left, y1: y, y2: y }),
      make("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, text));
  }
  drawing.append(
    make("text", { x: left + width / 2, y: bottom + 31, "text-anchor": "middle" }, xLabel),
    make("text", { transform: `translate(10 ${top + height / 2}) rotate(-90)`,
      "text-anchor": "middle" }, yLabel));
  return drawing;
}

function plot(title, drawing) {
  return make("figure", {}, make("figcaption", {}, title), drawing);
}

function replaceIn(name, ...children) {
  const place = document.querySelector(`[data-figure="${name}"]`);
  if (place) place.replaceChildren(...children);
  return place;
}

function selection(label, options, chosen, change) {
  const id = `choose-${label.toLowerCase()}`, select = make("select", { id });
  options.forEach((text, i) => {
    const option = make("option", { value: i }, text);
    option.selected = i === chosen;
    select.append(option);
  });
  select.addEventListener("change", () => change(Number(select.value)));
  return make("span", { class: "field" }, make("label", { for: id }, label), select);
}

function rowOf(name, cells) {
  return make("tr", {}, make("th", { scope: "row" }, name),
    ...cells.map((text) => make("td", {}, text)));
}

function tableOf(caption, columns, rows) {
  const head = make("tr", {}, ...columns.map((text) => make("th", { scope: "col" }, text)));
  const table = make("table", {}, make("caption", {}, make("span", {}, caption)), make("thead", {}, head),
    make("tbody", {}, ...rows));
  return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": caption }, table);
}

/** Counts in bins of equal width, with a line at a threshold and one of what is expected. */
function bars(of) {
  const shares = [...of.counts.map((counts) => tallest([counts])), of.expected ?? 0];
  const top = Math.max(...shares) * 1.05 || 1, { left, top: high, width, height } = BOX;
  const ticks = { x: ticksOf(of.low, of.high), y: [[0, "0"], [1 / 1.05, percent(top / 1.05)]] };
  const drawing = frame(of.text, of.x, of.y, ticks);
  of.counts.forEach((counts, i) => drawing.append(make("path",
    { class: i ? "of-ood" : "of-id", d: path(...outline(counts, top), BOX) })));
  if (of.limit !== null) {
    const x = left + Math.min(1, Math.max(0, (of.limit - of.low) / (of.high - of.low))) * width;
    drawing.append(make("line", { class: "limit", x1: x, x2: x, y1: high, y2: high + height }));
  }
  if (of.expected !== null) {
    const y = high + (1 - of.expected / top) * height;
    drawing.append(make("line", { class: "limit", x1: left, x2: left + width, y1: y, y2: y }));
  }
  return plot(of.title, drawing);
}

/** Lines over one axis, with a key below where there are several, and a limit. */
function lines(of) {
  const every = [...of.lines.flatMap((line) => line.y), ...(of.limit === null ? [] : [of.limit])];
  const places = of.lines.flatMap((line) => line.x); // lines may lack some of each other's
  const [x0, x1] = [Math.min(...places), Math.max(...places)];
  const [low, top] = [Math.min(...every), Math.max(...every)];
  const wide = x1 - x0 || 1, tall = top - low || 1;
  const drawing = frame(of.text, of.xLabel, of.yLabel,
    { x: ticksOf(x0, x0 + wide, of.lines.every((line) => line.x.every(Number.isInteger))), y: ticksOf(low, low + tall) });
  of.lines.forEach((line, i) => drawing.append(make("path", { class: look(i), d: path(
    line.x.map((x) => (x - x0) / wide), line.y.map((y) => (y - low) / tall), BOX) })));
  if (of.limit !== null) {
    const y = BOX.top + (1 - (of.limit - low) / tall) * BOX.height;
    drawing.append(make("line", { class: "limit", x1: BOX.left, x2: BOX.left + BOX.width, y1: y, y2: y }));
  }
  const key = of.lines.length > 1 ? [make("p", { class: "key" },
    ...of.lines.map((line, i) => make("span", {}, swatch(i), line.name)))] : [];
  return make("div", {}, plot(of.title, drawing), ...key);
}

function swatch(i) {
  return make("svg", { viewBox: "0 0 40 12", "aria-hidden": "true" },
    make("path", { class: look(i), d: "M0 6L40 6" }));
}

/** Mean ranks with bars of the critical difference: bars that meet are not told apart. */
function ranks(of) {
  const left = 124, width = 210, line = 17, most = of.names.length;
  const bottom = 8 + line * most, half = of.difference / 2;
  const place = (rank) => left + width * (rank - 1 + half) / (most - 1 + 2 * half || 1);
  const drawing = make("svg", { viewBox: `0 0 340 ${bottom + 36}`, role: "img", "aria-label": of.text });
  drawing.append(make("rect", { class: "band", x: place(of.ranks[0] - half), y: 4,
    width: place(of.ranks[0] + half) - place(of.ranks[0] - half), height: bottom - 4 }));
  of.names.forEach((name, i) => {
    const y = 8 + line * (i + 0.5), x = place(of.ranks[i]);
    const bar = { class: "c0", x1: place(of.ranks[i] - half), x2: place(of.ranks[i] + half), y1: y, y2: y };
    drawing.append(make("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, cut(name, 18)),
      make("line", bar), make("rect", { class: "dot", x: x - 3, y: y - 3, width: 6, height: 6 }));
  });
  drawing.append(make("line", { class: "axis", x1: left, x2: left + width, y1: bottom, y2: bottom }));
  for (const [share, text] of ticksOf(1, Math.max(most, 2))) {
    const x = place(1 + share * (most - 1));
    drawing.append(make("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 3 }),
      make("text", { x, y: bottom + 14, "text-anchor": "middle" }, text));
  }
  drawing.append(make("text", { x: left + width / 2, y: bottom + 30, "text-anchor": "middle" }, "mean rank"));
  return plot(of.title, drawing);
}

const DRAW = { bars, lines, ranks };

/** All drawings that do not move. */
function drawAll(drawings) {
  for (const [name, of] of Object.entries(drawings)) {
    const place = replaceIn(name, make("div", { class: of.kind }, DRAW[of.kind](of)));
    place.classList.add("still");
  }
}
