// The report of an evaluation: what its slider, menus, headings and legend move.

const SHOWN_AT_FIRST = 5;
const Z = 1.959963984540054; // of 95%

/** Wilson's interval of a share. */
function wilson(count, n) {
  const share = count / n, z2 = Z * Z;
  const centre = share + z2 / (2 * n);
  const half = Math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)));
  const scale = 1 + z2 / n;
  return [count === 0 ? 0 : (centre - half) / scale, count === n ? 1 : (centre + half) / scale];
}

/** What a detector keeps, catches and gets right at a position of the slider. */
function at(data, detector, position) {
  const rates = data.rates, curve = rates.curves[detector], n = data.id.n;
  const accepted = curve.accepted[position];
  const right = curve.right === null ? null : curve.right[position];
  return {
    rate: rates.rates_shown[position],
    threshold: curve.thresholds[position],
    bound: rates.bounds[position],
    most: rates.bounds_shown[position],
    accepted, right, refused: n - accepted, n,
    kept: accepted / n,
    interval: wilson(accepted, n),
    sets: data.sets.map((set, s) => {
      const caught = curve.caught[s][position], wrong = set.n - caught;
      return {
        name: set.name, group: set.group, n: set.n, caught, accepted: wrong,
        share: caught / set.n,
        interval: wilson(caught, set.n),
        precision: right === null ? null : right / Math.max(accepted + wrong, 1),
        f1: right === null ? null : 2 * right / (accepted + wrong + n),
      };
    }),
  };
}

/** Rows by their values in a column, the best first; or the other way round. */
function order(values, low, reversed) {
  const sign = (low ? 1 : -1) * (reversed ? -1 : 1);
  return values.map((_, i) => i).sort((a, b) => sign * (values[a] - values[b]) || a - b);
}

/** The detectors drawn at first: those best by the mean over all sets. */
function chosenAtFirst(data) {
  const values = data.metrics[0].cells.map((row) => row[row.length - 1]);
  return order(values, data.metrics[0].low, false).slice(0, SHOWN_AT_FIRST);
}

/** The controls of the alarm rate, made once; what they move is made at each step. */
function startAlarm(data, state, moved) {
  const slider = make("input", { type: "range", min: 0, max: data.rates.rates.length - 1, step: 1,
    value: state.position, id: "rate" });
  slider.addEventListener("input", () => { state.position = Number(slider.value); moved(); });
  const output = make("output", { for: "rate", id: "rate-value" });
  const controls = make("div", { class: "controls" },
    selection("Detector", data.detectors, state.detector, (i) => { state.detector = i; moved(); }),
    make("label", { for: "rate" }, "Alarm rate"), slider, output);
  const place = make("div", { id: "at-rate" });
  const summary = make("p", { "aria-live": "polite", id: "rate-words" });
  replaceIn("alarm", controls, summary, place);
  return { slider, output, summary, place };
}

function inWords(data, state) {
  const now = at(data, state.detector, state.position);
  const kept = `At a rate of ${now.rate}, ${data.detectors[state.detector]} keeps `
    + `${percent(now.kept)} of ID (95% interval ${range(now.interval)}); its threshold is `
    + `${now.threshold}.`;
  if (!data.rates.calibrated) return kept;
  return `${kept} With ${percent(data.rates.confidence, 0)} confidence, for all positions of this `
    + `detector at once, at most ${now.most} of new ID is called OOD at this one.`;
}

function drawAlarm(data, state, parts) {
  const now = at(data, state.detector, state.position);
  parts.output.textContent = now.rate;
  parts.slider.setAttribute("aria-valuetext", now.rate);
  parts.summary.textContent = inWords(data, state);
  const labelled = now.right !== null;
  const sets = tableOf("What is caught of each OOD set",
    ["OOD set", "group", "caught", "95% interval", "accepted", ...(labelled ? ["precision", "F1"] : [])],
    now.sets.map((s) => rowOf(s.name, [s.group, percent(s.share), range(s.interval),
      `${s.accepted} of ${s.n}`, ...(labelled ? [s.precision.toFixed(3), s.f1.toFixed(3)] : [])])));
  const accepted = labelled
    ? [rowOf("accepted and right", [String(now.right), percent(now.right / now.n)]),
      rowOf("accepted and wrong", [String(now.accepted - now.right), percent((now.accepted - now.right) / now.n)])]
    : [rowOf("accepted", [String(now.accepted), percent(now.kept)])];
  const ids = tableOf("What becomes of the ID samples", ["ID", "samples", "share"],
    [...accepted, rowOf("called OOD", [String(now.refused), percent(now.refused / now.n)])]);
  parts.place.replaceChildren(sets, ids);
}

/** The histograms of a detector, whose thresholds are moved afterwards. */
function startHistograms(data, state) {
  state.drawn = state.detector;
  state.limits = data.sets.map((set, s) => {
    const of = data.histograms[state.detector][s], top = tallest(of.counts);
    const ticks = { x: ticksOf(of.low, of.high), y: [[0, "0"], [1, percent(top)]] };
    const drawing = frame("", `${cut(data.detectors[state.detector], 24)} score`, "share", ticks);
    of.counts.forEach((counts, i) => drawing.append(make("path",
      { class: i ? "of-ood" : "of-id", d: path(...outline(counts, top), BOX) })));
    const line = make("line", { class: "limit", y1: BOX.top, y2: BOX.top + BOX.height });
    drawing.append(line);
    return { of, drawing, line };
  });
  replaceIn("histograms", make("div", { class: "plots" },
    ...data.sets.map((set, s) => plot(set.name, state.limits[s].drawing))));
}

function drawHistograms(data, state) {
  if (state.drawn !== state.detector) startHistograms(data, state);
  const now = at(data, state.detector, state.position);
  state.limits.forEach(({ of, drawing, line }, s) => {
    const where = Math.min(1, Math.max(0, (now.threshold - of.low) / (of.high - of.low)));
    for (const end of ["x1", "x2"]) line.setAttribute(end, BOX.left + where * BOX.width);
    drawing.setAttribute("aria-label", `Scores of ID and of ${data.sets[s].name}; at the threshold `
      + `${percent(now.kept)} of ID is kept, ${percent(now.sets[s].share)} of ${data.sets[s].name} caught.`);
  });
}

function legend(data, state, change) {
  const boxes = data.detectors.map((name, d) => {
    const box = make("input", { type: "checkbox" });
    box.checked = state.chosen.has(d);
    box.addEventListener("change", () => {
      if (box.checked) state.chosen.add(d); else state.chosen.delete(d);
      change();
    });
    return make("label", {}, box, swatch(d), name);
  });
  return make("fieldset", {}, make("legend", {}, "Detectors in the curves"), ...boxes);
}

function curvesOf(data, state, title, pairs, xLabel, yLabel, words, chance, highest = "") {
  const chosen = [...state.chosen].sort((a, b) => a - b);
  const label = `${title}. ${chosen.map((d) => words(d)).join("; ")}`;
  const ticks = { x: SHARES.x, y: highest ? [[0, "0"], [1, highest]] : SHARES.y };
  const drawing = frame(label, xLabel, yLabel, ticks);
  if (chance) drawing.append(make("path", { class: "chance", d: path([0, 1], [0, 1], BOX) }));
  for (const d of chosen) {
    drawing.append(make("path", { class: look(d), d: path(...pairs(d), BOX) }));
  }
  return plot(title, drawing);
}

function drawCurves(data, state) {
  const auroc = data.metrics[0].cells;
  replaceIn("roc", state.legend, make("div", { class: "plots" }, ...data.sets.map((set, s) => curvesOf(
    data, state, set.name, (d) => data.roc[d][s], "share of ID called OOD", "share of OOD caught",
    (d) => `${data.detectors[d]}: AUROC ${percent(auroc[d][s])}`, true))));
  if (!data.risk[0]) return;
  const worst = Math.max(0.01, ...[...state.chosen].map((d) => Math.max(...data.risk[d][1])));
  replaceIn("risk", make("div", { class: "plots" }, curvesOf(
    data, state, "Risk against coverage", (d) => [data.risk[d][0], data.risk[d][1].map((y) => y / worst)],
    "coverage", "risk", (d) => `${data.detectors[d]}: risk ${percent(data.risk[d][1].at(-1))} at `
    + "full coverage", false, percent(worst))));
  replaceIn("oscr", make("div", { class: "plots" }, ...data.sets.map((set, s) => curvesOf(
    data, state, `OSCR: ${set.name}`, (d) => data.oscr[d][s], "share of OOD accepted", "ID accepted and right",
    (d) => data.detectors[d], false))));
}

function drawReliability(data) {
  const found = data.reliability;
  if (!found) return;
  const label = `Accuracy against confidence: ${found.confidence.map((x, i) =>
    `${percent(found.accuracy[i])} right of ${found.count[i]} at ${percent(x)}`).join("; ")}`;
  const drawing = frame(label, "confidence", "accuracy", SHARES);
  drawing.append(make("path", { class: "chance", d: path([0, 1], [0, 1], BOX) }));
  found.confidence.forEach((x, i) => drawing.append(make("rect", { class: "bar",
    x: BOX.left + Math.min(Math.max(x * BOX.width, 4), BOX.width - 4) - 4, width: 8, y: BOX.top + (1 - found.accuracy[i]) * BOX.height,
    height: found.accuracy[i] * BOX.height })));
  replaceIn("reliability", make("div", { class: "plots" }, plot("Bins of equal width", drawing)));
}

function drawTable(data, state) {
  const table = document.querySelector('[data-table="detectors"]');
  const metric = data.metrics[state.metric], { column, reversed } = state.sorting;
  const names = [...data.detectors.keys()];
  const rows = column === null ? (reversed ? names.reverse() : names)
    : order(metric.cells.map((row) => row[column]), metric.low, reversed);
  const first = state.metric === 0;
  replaceCaption(table, metric.heading);
  table.querySelector("tbody").replaceChildren(...rows.map((d) => {
    const cells = metric.shown[d].map((text, i) => {
      const mark = ["", " ★", " ☆"][metric.places[d][i]] + (first && data.as_good[d][i] ? " ≈" : "");
      const cell = make("td", {}, text + mark);
      if (first) {
        const [low, high] = data.intervals[d][i].map((y) => (100 * y).toFixed(2));
        const p = data.p_values[d][i] === null ? "" : `; p = ${data.p_values[d][i]}`;
        cell.append(make("small", { class: "interval" }, `${low} to ${high}${p}`));
      }
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, data.detectors[d]), ...cells);
  }));
  table.querySelectorAll("thead tr:last-child th").forEach((head, i) => {
    const own = (column === null ? 0 : column + 1) === i && state.sorted;
    const rising = i === 0 ? !reversed : metric.low !== reversed;
    if (own) head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

function replaceCaption(table, text) {
  table.querySelector("caption").replaceChildren(make("span", {}, text));
}

function startTable(data, state) {
  const again = () => drawTable(data, state);
  const table = document.querySelector('[data-table="detectors"]');
  table.querySelectorAll("thead tr:last-child th").forEach((head, i) => {
    const column = i === 0 ? null : i - 1;
    const button = make("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const again_ = state.sorted && state.sorting.column === column;
      state.sorting = { column, reversed: again_ && !state.sorting.reversed };
      state.sorted = true;
      again();
    });
    head.replaceChildren(button);
  });
  const box = make("input", { type: "checkbox" });
  box.addEventListener("change", () => table.classList.toggle("intervals", box.checked));
  replaceIn("menu", make("div", { class: "controls" },
    selection("Metric", data.metrics.map((m) => m.heading), 0, (i) => { state.metric = i; again(); }),
    make("label", {}, box, make("span", {}, "show 95% intervals and p-values"))));
}

function startEvaluation(data) {
  const state = { detector: data.best, position: data.rates.start, metric: 0, sorted: true,
    sorting: { column: data.columns.length - 1, reversed: false }, chosen: new Set(chosenAtFirst(data)) };
  const moved = () => { drawAlarm(data, state, parts); drawHistograms(data, state); };
  const parts = startAlarm(data, state, moved);
  state.legend = legend(data, state, () => drawCurves(data, state));
  startTable(data, state);
  drawTable(data, state);
  moved();
  drawCurves(data, state);
  drawReliability(data);
}
