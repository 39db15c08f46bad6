// Upload page: each dropped or selected file becomes a row. The files are sent in separate requests, one after the other.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("upload");
  if (!form) return;
  const input = document.getElementById("files");
  const drop = document.getElementById("drop");
  const list = form.querySelector(".upload-list");
  const body = list.querySelector("tbody");
  const summary = document.getElementById("upload-summary");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const rows = [];
  let notice = "";

  function cell(row, ...content) {
    const made = row.insertCell();
    made.append(...content);
    return made;
  }

  function field(type, label, value) {
    const made = document.createElement("input");
    made.type = type;
    made.value = value;
    made.required = true;
    made.setAttribute("aria-label", label);
    return made;
  }

  async function add(files) {
    const chosen = [...files];
    if (!chosen.length) return;
    const query = chosen.map((file) => ({ name: file.name, modified: file.lastModified / 1000 }));
    const answer = await fetch(form.dataset.guess, {
      method: "POST",
      headers: { "X-CSRFToken": token, "Content-Type": "application/json" },
      body: JSON.stringify(query),
    });
    const guesses = answer.ok ? (await answer.json()).guesses : [];
    chosen.forEach((file, index) => {
      const guess = guesses[index] || { dashboard: "", rendered_at: "" };
      const row = body.insertRow();
      cell(row, file.name);
      const dashboard = field("text", `Dashboard of ${file.name}`, guess.dashboard);
      dashboard.setAttribute("list", "dashboards");
      cell(row, dashboard);
      const instant = field("datetime-local", `Time of ${file.name}`, guess.rendered_at);
      instant.step = 1;
      cell(row, instant);
      const made = { file, dashboard, instant, state: cell(row, ""), remove: document.createElement("button"), done: false };
      made.remove.type = "button";
      made.remove.className = "button later";
      made.remove.textContent = "Remove";
      made.remove.setAttribute("aria-label", `Remove ${file.name} from the list`);
      made.remove.addEventListener("click", () => {
        rows.splice(rows.indexOf(made), 1);
        row.remove();
        summarize();
      });
      cell(row, made.remove);
      const check = () => {
        made.state.textContent = dashboard.value ? "ready" : "dashboard missing";
      };
      dashboard.addEventListener("input", check);
      check();
      rows.push(made);
    });
    summarize();
  }

  function summarize() {
    list.hidden = !rows.length;
    const done = rows.filter((each) => each.done).length;
    const files = `${rows.length} ${rows.length === 1 ? "file" : "files"}`;
    summary.textContent = rows.length && !done ? `${files}. Check dashboards and times, then upload.` : "";
    if (done) summary.textContent = `${done} of ${rows.length} ingested. ${notice}`;
  }

  function send(row) {
    return new Promise((resolve) => {
      const bar = document.createElement("progress");
      bar.max = 1;
      bar.value = 0;
      bar.setAttribute("aria-label", `Progress of ${row.file.name}`);
      row.state.replaceChildren(bar);
      const data = new FormData();
      data.append("csrfmiddlewaretoken", token);
      data.append("dashboard", row.dashboard.value);
      data.append("rendered_at", row.instant.value);
      data.append("file", row.file);
      const request = new XMLHttpRequest();
      request.responseType = "json";
      request.upload.onprogress = (event) => {
        bar.value = event.lengthComputable ? event.loaded / event.total : 0;
      };
      request.onloadend = () => {
        const answer = request.response || {};
        if (request.status === 200) {
          const link = document.createElement("a");
          link.href = answer.url;
          link.textContent = answer.created ? "ingested" : "already ingested";
          row.state.replaceChildren(link);
          row.done = true;
          notice = answer.notice;
          row.dashboard.disabled = row.instant.disabled = true;
          row.remove.hidden = true;
        } else {
          const note = document.createElement("span");
          note.className = "upload-problem";
          note.textContent = answer.problem || `Not ingested (status ${request.status || "none"}). Try again.`;
          row.state.replaceChildren(note);
          const fault = { dashboard: row.dashboard, rendered_at: row.instant }[answer.field];
          if (fault) fault.focus();
        }
        resolve();
      };
      request.open("POST", window.location.pathname);
      request.send(data);
    });
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    for (const row of rows.filter((each) => !each.done)) {
      if (!rows.includes(row)) continue; /* The user removed it while others were sent. */
      row.remove.disabled = true;
      await send(row);
      row.remove.disabled = false;
      summarize();
    }
    button.disabled = false;
  });

  const addSelected = () => {
    add(input.files);
    input.value = "";
  };
  input.addEventListener("change", addSelected);
  if (input.files.length) addSelected(); /* The user selected files before this script ran. */
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") add(event.dataTransfer.files);
    });
  }
});
