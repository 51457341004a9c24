// The report of an evaluation: what its slider, menus, headings and legend move.

const SHOWN_AT_FIRST = 5;
const TAIL = 0.025; // of 95%, beyond each end

/** The logarithm of the gamma function of x > 0, by Stirling's series. */
function logGamma(x) {
  let shift = 0;
  for (; x < 10; x += 1) shift -= Math.log(x); // the series is exact enough from ten on
  const s = 1 / (x * x), series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s / 1680))) / x;
  return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
}

/** The distribution function of Beta(a, b) at 0 < x < 1: its continued fraction, by Lentz. */
function betaCdf(x, a, b) {
  if (x > (a + 1) / (a + b + 2)) return 1 - betaCdf(1 - x, b, a); // where it ends sooner
  const log = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x);
  let value = 2, c = 2, d = 1;
  for (let i = 1, change = 0; i < 5000 && Math.abs(change - 1) > 1e-13; i += 1) {
    const m = Math.floor(i / 2);
    const part = i % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
      : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + part * d);
    c = 1 + part / c;
    change = c * d;
    value *= change;
  }
  return Math.exp(log) / a * (value - 1);
}

/** Where the distribution function of Beta(a, b) has a value, by halving. */
function betaQuantile(value, a, b) {
  let low = 0, high = 1;
  for (let i = 0; i < 60; i += 1) {
    const middle = (low + high) / 2;
    if (betaCdf(middle, a, b) < value) low = middle; else high = middle;
  }
  return high;
}

/** The exact (Clopper-Pearson) interval of a share, as `offmap check` takes it. */
function exactInterval(count, n) {
  return [
    count === 0 ? 0 : betaQuantile(TAIL, count, n - count + 1),
    count === n ? 1 : betaQuantile(1 - TAIL, count + 1, n - count),
  ];
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
    interval: exactInterval(accepted, n),
    sets: data.sets.map((set, s) => {
      const caught = curve.caught[s][position], wrong = set.n - caught;
      return {
        name: set.name, group: set.group, n: set.n, caught, accepted: wrong,
        share: caught / set.n,
        interval: exactInterval(caught, set.n),
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
