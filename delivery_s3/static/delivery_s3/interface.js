// The configuration page: presets, offered corrections, the permissions panel, and the Test, which sends the form as
// it stands, typed secret included, and shows the steps as they end. The page is never left, so nothing typed is lost.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const field = (name) => document.getElementById(`id_${name}`);
  const form = document.getElementById("s3interface_form");
  if (!form) return;

  // A request without a session is redirected to the login page, which must not be shown inside this one.
  const SIGNED_OUT =
    "You are no longer signed in, or may no longer do this. Sign in again in another tab, then try again: what you typed stays here.";

  function isSignedOut(answer) {
    return answer.redirected || answer.status === 403;
  }

  // Signing in again in another tab makes the form's token worthless; the new one is in the cookie.
  function renewToken() {
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
    if (token) form.querySelector("[name=csrfmiddlewaretoken]").value = token[1];
  }

  // Offered corrections and fixes: a button that fills a field.

  function fill(name, value) {
    const input = field(name);
    if (!input) return;
    const group = input.closest("details");
    if (group) group.open = true;
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.focus();
  }

  function markFields(names) {
    document.querySelectorAll(".field-at-fault").forEach((row) => row.classList.remove("field-at-fault"));
    for (const name of names) {
      const row = name && document.querySelector(`.form-row.field-${name}`);
      if (!row) continue;
      row.classList.add("field-at-fault");
      const group = row.closest("details");
      if (group) group.open = true;
    }
  }

  // Over plain http there is no navigator.clipboard.
  function copyText(text) {
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text);
      return;
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  document.addEventListener("click", (event) => {
    const fix = event.target.closest("button.fix");
    if (fix) {
      fill(fix.dataset.field, fix.dataset.value);
      say("Filled in. Test again.");
    }
    const copy = event.target.closest("button.copy");
    if (copy) {
      copyText(copy.parentElement.querySelector("pre").textContent);
      copy.textContent = "Copied";
    }
    const act = event.target.closest("button.act-button");
    if (act) runAct(act);
  });

  // Presets of the providers.

  const presets = JSON.parse(document.getElementById("provider-presets").textContent);
  const provider = field("provider");
  const region = field("region");
  const endpoint = field("endpoint_url");
  let filledRegion = null;
  let filledEndpoint = null;

  function applyPreset(event) {
    const preset = presets[provider.value];
    if (!preset || !region || !endpoint) return;
    region.placeholder = preset.region_example;
    endpoint.placeholder = preset.endpoint_example || "stays empty for AWS S3";
    // A region from which an endpoint was made is that provider's own.
    const foreign = event?.target === provider && endpoint.value !== "" && endpoint.value === filledEndpoint;
    if (region.value === "" || region.value === filledRegion || foreign) {
      region.value = filledRegion = preset.region_default;
    }
    if (endpoint.value === "" || endpoint.value === filledEndpoint) {
      const known = preset.endpoint_pattern && region.value;
      endpoint.value = filledEndpoint = known ? preset.endpoint_pattern.replace("{region}", region.value) : "";
    }
    showConfirmations();
  }

  // After a refused save, the page comes back with what was typed and the confirmation that it needs.
  const refused = document.querySelector(".form-row.field-endpoint_url.errors");

  function showConfirmations() {
    const [http, same] = ["allow_http", "same_store"].map((name) => document.querySelector(`.form-row.field-${name}`));
    if (http) http.hidden = !endpoint.value.trim().toLowerCase().startsWith("http://");
    if (same) same.hidden = endpoint.value.trim() === endpoint.defaultValue && !refused;
  }

  if (provider && provider.tagName === "SELECT") {
    provider.addEventListener("change", applyPreset);
    region.addEventListener("change", applyPreset);
    endpoint.addEventListener("input", showConfirmations);
    applyPreset();
  }

  // The permissions panel follows the form.

  const panel = document.getElementById("grants");
  let pending = 0;

  async function showGrants() {
    if (!panel.open) return;
    renewToken();
    const answer = await fetch(panel.dataset.url, { method: "POST", body: new FormData(form) });
    if (isSignedOut(answer)) panel.querySelector(".grants").textContent = SIGNED_OUT;
    else if (answer.ok) panel.querySelector(".grants").innerHTML = await answer.text();
  }

  if (panel) {
    panel.addEventListener("toggle", showGrants);
    form.addEventListener("input", () => {
      clearTimeout(pending);
      pending = setTimeout(showGrants, 400);
    });
  }

  // The Test.

  const section = document.getElementById("connection-test");
  if (!section) return;
  const [run, cancel] = [document.getElementById("run-test"), document.getElementById("cancel-test")];
  const [progress, status] = [document.getElementById("test-progress"), document.getElementById("test-status")];
  const verdict = document.getElementById("test-verdict");
  const steps = section.querySelector("#test-steps tbody");
  let running = null;
  run.hidden = false;

  function say(text) {
    const line = document.getElementById("test-status");
    if (line) line.textContent = text;
  }

  function show(line) {
    if (line.html) {
      steps.insertAdjacentHTML("beforeend", line.html);
      progress.value += 1;
      say(line.text);
    } else {
      verdict.innerHTML = line.verdict;
      markFields([line.field]);
      showVerdict();
    }
  }

  // Last, when the groups of the form that it opens have their height.
  function showVerdict() {
    say("");
    verdict.focus({ preventScroll: true });
    verdict.scrollIntoView({ block: "center" });
  }

  async function readLines(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach((line) => show(JSON.parse(line)));
    }
  }

  async function test() {
    running = new AbortController();
    run.disabled = true;
    cancel.hidden = progress.hidden = false;
    progress.value = 0;
    steps.textContent = verdict.textContent = "";
    markFields([]);
    say("Testing…");
    try {
      renewToken();
      const request = { method: "POST", body: new FormData(form), signal: running.signal };
      const answer = await fetch(section.dataset.url, request);
      if (answer.status === 422) {
        verdict.innerHTML = await answer.text();
        markFields([...verdict.querySelectorAll("[data-at]")].map((line) => line.dataset.at));
        showVerdict();
      } else if (isSignedOut(answer)) {
        say(SIGNED_OUT);
      } else if (answer.ok) {
        await readLines(answer.body);
      } else {
        throw new Error(`The server answered ${answer.status}.`);
      }
    } catch (error) {
      const cancelled = error.name === "AbortError";
      say(cancelled ? "Cancelled." : `The test could not be run: ${error.message} Reload the page and try again.`);
    } finally {
      running = null;
      run.disabled = false;
      cancel.hidden = progress.hidden = true;
    }
  }

  async function runAct(button) {
    renewToken();
    const data = new FormData(form);
    if (button.dataset.key) data.set("key", button.dataset.key);
    button.disabled = true;
    const answer = await fetch(section.dataset[button.dataset.act], { method: "POST", body: data });
    const place = button.closest(".act");
    if (isSignedOut(answer)) {
      button.disabled = false; // to be pressed again, once signed in
      say(SIGNED_OUT);
    } else if (answer.ok) {
      place.innerHTML = await answer.text();
    } else {
      place.textContent = `The server answered ${answer.status}. Reload the page and try again.`;
    }
  }

  run.addEventListener("click", test);
  cancel.addEventListener("click", () => running?.abort());
});
