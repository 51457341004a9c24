// A page of objects, enough for the report's script to run without a browser.
// node fake_page.js SCRIPT DATA.json < steps.json; prints what the page shows after each step.
"use strict";
const fs = require("fs"), vm = require("vm");
const [, , script, dataFile] = process.argv;

class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], attributes: {}, listeners: {} });
    this.classList = { toggle: (name, on) => { this.attributes.class = on ? name : ""; } };
  }
  append(...more) { this.children.push(...more); }
  replaceChildren(...all) { this.children = [...all]; }
  setAttribute(name, value) { this.attributes[name] = String(value); if (name === "value") this.value = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  fire(name) { this.listeners[name](); }
  set textContent(text) { this.children = [String(text)]; }
  get textContent() { return this.children.map((c) => (c instanceof Element ? c.textContent : c)).join(""); }
  set innerHTML(_) { throw new Error("texts are set as texts"); }
  all(test) {
    return this.children.filter((c) => c instanceof Element)
      .flatMap((c) => [...(test(c) ? [c] : []), ...c.all(test)]);
  }
  querySelector(text) { return this.all((e) => e.tag === text)[0]; }
  querySelectorAll() { return this.all((e) => e.tag === "th" && e.column); }
}

const data = JSON.parse(fs.readFileSync(dataFile, "utf8"));
const body = new Element("body"), places = {};
for (const name of ["menu", "alarm", "histograms", "roc", "risk", "oscr", "reliability"]) {
  places[name] = new Element("div");
  body.append(places[name]);
}
const table = new Element("table"), head = new Element("thead"), rows = new Element("tbody");
for (const name of ["detector", ...data.columns.map((c) => c.name)]) {
  const th = new Element("th");
  th.column = true;
  th.append(name);
  head.append(th);
}
table.append(new Element("caption"), head, rows);
body.append(table);
const document = {
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
  getElementById: () => ({ textContent: JSON.stringify(data) }),
  querySelector: (text) => text.includes("data-table") ? table : places[text.match(/figure="(\w+)"/)[1]],
};
const sandbox = { document, console, JSON, module: { exports: {} } };
vm.runInNewContext(fs.readFileSync(script, "utf8"), sandbox);

const range = body.all((e) => e.attributes.type === "range")[0];
const cellsOf = (row) => row.children.map((c) => c.textContent);
const shown = () => ({
  words: body.all((e) => e.attributes.id === "rate-words")[0].textContent,
  sets: places.alarm.all((e) => e.tag === "tbody")[0].children.map(cellsOf),
  ids: places.alarm.all((e) => e.tag === "tbody")[1].children.map(cellsOf),
  table: rows.children.map(cellsOf),
  caption: table.children[0].textContent,
  sorted: head.children.map((th) => th.attributes["aria-sort"] ?? null),
  drawings: Object.fromEntries(Object.entries(places).map(([n, e]) => [n, e.all((x) => x.tag === "svg" && x.attributes.role === "img").length])),
  labels: places.roc.all((e) => e.attributes.role === "img").map((e) => e.attributes["aria-label"]),
});
const pages = [shown()];
for (const [what, value] of JSON.parse(fs.readFileSync(0, "utf8"))) {
  if (what === "rate") { range.value = value; range.fire("input"); }
  if (what === "sort") head.children[value].children[0].fire("click");
  if (what === "detector" || what === "metric") {
    const select = places[what === "metric" ? "menu" : "alarm"].all((e) => e.tag === "select")[0];
    select.value = value;
    select.fire("change");
  }
  if (what === "curve") {
    const box = places.roc.all((e) => e.attributes.type === "checkbox")[value];
    box.checked = !box.checked;
    box.fire("change");
  }
  pages.push(shown());
}
const { at, exactInterval, order } = sandbox.module.exports;
const shares = [[0, 9], [9, 9], [3, 70], [0, 1], [1, 1], [1, 1000000], [26032, 26032], [25000, 50000]];
const every = data.detectors.map((_, d) => data.rates.rates.map((_, p) => at(data, d, p)));
process.stdout.write(JSON.stringify({ pages, every, intervals: shares.map((x) => exactInterval(...x)),
  order: [order([0.2, 0.9, 0.2], false, false), order([0.2, 0.9, 0.2], true, false)] }));
