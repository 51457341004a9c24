"use strict";
const at = (id) => document.getElementById(id);

function shown(file, answer) {
  const item = document.createElement("li");
  item.className = answer.is_ood === null ? "unread" : answer.is_ood ? "unknown" : "known";
  const picture = document.createElement("img");
  picture.alt = file.name;
  picture.src = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  const words = document.createElement("div");
  const verdict = document.createElement("strong");
  verdict.textContent = answer.answer === null ? "cannot be read" : answer.answer;
  const more = document.createElement("div");
  more.textContent = answer.p_value === null ? answer.error
    : `p ${answer.p_value.toPrecision(3)}; ${answer.reason}`;
  const name = document.createElement("small");
  name.textContent = file.name;
  words.append(verdict, more, name);
  item.append(picture, words);
  return item;
}

async function ask(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("image", file, file.name);
  const token = at("token").value;
  at("state").textContent = "Asking…";
  try {
    const response = await fetch("score", {
      method: "POST", body: form, headers: token ? {Authorization: `Bearer ${token}`} : {},
    });
    const said = await response.json();
    if (!response.ok) throw new Error(said.error);
    at("answers").replaceChildren(...said.answers.map((answer, i) => shown(files[i], answer)));
    at("promise").textContent = said.promise;
    at("state").textContent = "";
  } catch (error) {
    at("state").textContent = `No verdict: ${error.message}`;
  }
}

const place = at("place");
for (const kind of ["dragenter", "dragover"])
  place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
for (const kind of ["dragleave", "drop"])
  place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.remove("over"); });
place.addEventListener("drop", (event) => ask([...event.dataTransfer.files]));
at("file").addEventListener("change", (event) => ask([...event.target.files]));
at("bearer").addEventListener("submit", (event) => event.preventDefault());
if (document.body.dataset.kind !== "images") {
  place.hidden = true;
  at("state").textContent =
    `This guard reads ${document.body.dataset.kind}: send rows as JSON to /score.`;
}
