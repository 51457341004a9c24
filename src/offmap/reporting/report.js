// The beginning: what stands in the page's data is drawn, and of an evaluation can be moved.

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  drawAll(data.drawings ?? {});
  if (data.detectors) startEvaluation(data);
}

if (typeof document !== "undefined") start();
if (typeof module !== "undefined") {
  module.exports = { at, exactInterval, order, outline, path, tallest, ticksOf };
}
