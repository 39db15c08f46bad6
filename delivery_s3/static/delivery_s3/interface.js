// The configuration page: provider presets, buttons that correct fields, the permissions panel, and the Test. The Test sends
// the current form, including a typed secret, and shows each step when it ends. The page is not reloaded, so no input is lost.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const field = (name) => document.getElementById(`id_${name}`);
  const form = document.getElementById("s3interface_form");
  if (!form) return;

  // A request without a session is redirected to the login page, which must not be shown inside this page.
  const SIGNED_OUT =
    "You are no longer signed in, or you no longer have permission. Sign in again in another tab, then try again. Your input on this page is kept.";

  function isSignedOut(answer) {
    return answer.redirected || answer.status === 403;
  }

  // Signing in again in another tab invalidates the CSRF token of the form. The cookie has the new token.
  function renewToken() {
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
    if (token) form.querySelector("[name=csrfmiddlewaretoken]").value = token[1];
  }

  // Buttons that fill a field with a correction.

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

  document.addEventListener("click", (event) => {
    const fix = event.target.closest("button.fix");
    if (fix) {
      fill(fix.dataset.field, fix.dataset.value);
      say("Filled in. Test again.");
    }
    const action = event.target.closest("button.act-button");
    if (action) runVerdictAction(action);
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
    endpoint.placeholder = preset.endpoint_example || "Leave empty for AWS S3";
    // The region from which the previous provider's endpoint was built does not fit the new provider.
    const regionOfPreviousProvider = event?.target === provider && endpoint.value !== "" && endpoint.value === filledEndpoint;
    if (region.value === "" || region.value === filledRegion || regionOfPreviousProvider) {
      region.value = filledRegion = preset.region_default;
    }
    if (endpoint.value === "" || endpoint.value === filledEndpoint) {
      const canFill = preset.endpoint_pattern && region.value;
      endpoint.value = filledEndpoint = canFill ? preset.endpoint_pattern.replace("{region}", region.value) : "";
    }
    showConfirmations();
  }

  // The hints of all providers are in the page, for browsers without scripts. One of them is shown.
  function showHints() {
    for (const hints of document.querySelectorAll(".provider-hints")) {
      let place = hints.previousElementSibling;
      if (!place?.matches(".provider-hint")) {
        place = document.createElement("span");
        place.className = "provider-hint";
        hints.before(place);
      }
      hints.hidden = true;
      place.textContent = hints.querySelector(`[data-provider="${provider.value}"] dd`)?.textContent ?? "";
    }
  }

  // A form with errors is shown again with the values that were typed, and with the confirmation that they need.
  const saveRefused = document.querySelector(".form-row.field-endpoint_url.errors");

  function showConfirmations() {
    const [http, same] = ["allow_http", "same_store"].map((name) => document.querySelector(`.form-row.field-${name}`));
    if (http) http.hidden = !endpoint.value.trim().toLowerCase().startsWith("http://");
    if (same) same.hidden = endpoint.value.trim() === endpoint.defaultValue && !saveRefused;
  }

  if (provider && provider.tagName === "SELECT") {
    provider.addEventListener("change", applyPreset);
    provider.addEventListener("change", showHints);
    showHints();
    region.addEventListener("change", applyPreset);
    endpoint.addEventListener("input", showConfirmations);
    applyPreset();
  }

  // The permissions panel is updated when the form changes.

  const panel = document.getElementById("grants");
  let grantsTimer = 0;

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
      clearTimeout(grantsTimer);
      grantsTimer = setTimeout(showGrants, 400);
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

  // Call this last: opening a group of fields changes the height of the page.
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
      say(cancelled ? "Cancelled." : `The test could not run: ${error.message} Reload the page and test again.`);
    } finally {
      running = null;
      run.disabled = false;
      cancel.hidden = progress.hidden = true;
    }
  }

  async function runVerdictAction(button) {
    renewToken();
    const data = new FormData(form);
    if (button.dataset.key) data.set("key", button.dataset.key);
    button.disabled = true;
    const answer = await fetch(section.dataset[button.dataset.act], { method: "POST", body: data });
    const place = button.closest(".act");
    if (isSignedOut(answer)) {
      button.disabled = false; // to be pressed again after signing in
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
