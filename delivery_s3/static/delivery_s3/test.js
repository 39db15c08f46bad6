// The Test button: sends the form as it stands, typed secret included, and shows what comes back below it.
// The page isn't left, so nothing typed is lost; nothing is saved.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const section = document.getElementById("connection-test");
  if (!section) return;
  const button = section.querySelector("button");
  const result = section.querySelector(".test-result");
  const form = section.closest("form");
  button.hidden = false;

  function showField(name) {
    document.querySelectorAll(".field-at-fault").forEach((row) => row.classList.remove("field-at-fault"));
    const row = name && document.querySelector(`.field-${name}`);
    if (!row) return;
    row.classList.add("field-at-fault");
    const group = row.closest("details");
    if (group) group.open = true;
  }

  button.addEventListener("click", async () => {
    button.disabled = true;
    result.textContent = "Testing…";
    try {
      const answer = await fetch(section.dataset.url, { method: "POST", body: new FormData(form) });
      if (!answer.ok && answer.status !== 422) throw new Error(`The server answered ${answer.status}.`);
      result.innerHTML = await answer.text();
      showField(result.querySelector("[data-field]")?.dataset.field);
    } catch (error) {
      result.textContent = `The test could not be run: ${error.message} Reload the page and try again.`;
    } finally {
      button.disabled = false;
    }
  });
});
