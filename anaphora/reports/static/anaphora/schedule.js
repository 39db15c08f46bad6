// Shows the next runs of the schedule that is being chosen. Without this script, they are shown when the form was saved.
"use strict";

(() => {
  let requests = 0;
  let timer = 0;

  async function showRuns(schedule) {
    const number = ++requests;
    const values = new URLSearchParams();
    for (const input of schedule.querySelectorAll("input, select")) {
      if (input.type !== "radio" || input.checked) values.set(input.name.split("_").pop(), input.value);
    }
    const place = schedule.querySelector(".next-runs");
    let found = { runs: [], problem: "The next runs cannot be shown: the server does not answer." };
    try {
      const answer = await fetch(`${schedule.dataset.url}?${values}`);
      if (answer.ok && !answer.redirected) found = await answer.json();
    } catch {
      // The problem says so.
    }
    if (number !== requests) return;
    if (found.problem || !found.runs.length) {
      place.textContent = found.problem;
      return;
    }
    const [title, list] = [document.createElement("strong"), document.createElement("ol")];
    title.textContent = "Next runs";
    list.append(...found.runs.map((run) => Object.assign(document.createElement("li"), { textContent: run })));
    place.replaceChildren(title, list);
  }

  document.addEventListener("input", (event) => {
    const schedule = event.target.closest(".schedule");
    if (!schedule) return;
    clearTimeout(timer);
    timer = setTimeout(showRuns, 200, schedule);
  });
})();
