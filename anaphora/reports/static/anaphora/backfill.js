// Updates the progress of a backfill every three seconds until no delivery is pending. The page is not reloaded, so that
// focus and scroll position are kept.
"use strict";

const INTERVAL = 3000; // milliseconds

async function showProgress() {
  const shown = document.getElementById("content-main");
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const current = answer.ok && page.getElementById("content-main");
    if (current && !shown.contains(document.activeElement)) shown.replaceWith(current);
    if (current && !("waiting" in current.dataset)) return;
  } catch {
    // The server is not reachable. The next request tries again.
  }
  setTimeout(showProgress, INTERVAL);
}

setTimeout(showProgress, INTERVAL);
