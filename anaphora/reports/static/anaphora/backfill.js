// Shows how far a backfill is every three seconds, as long as deliveries wait. The page itself is not loaded again: that
// would take the focus and the place from whoever reads it.
"use strict";

const BETWEEN = 3000; // milliseconds

async function showProgress() {
  const shown = document.getElementById("content-main");
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const current = answer.ok && page.getElementById("content-main");
    if (current && !shown.contains(document.activeElement)) shown.replaceWith(current);
    if (current && !("waiting" in current.dataset)) return;
  } catch {
    // The server is away for a moment: the next look finds it.
  }
  setTimeout(showProgress, BETWEEN);
}

setTimeout(showProgress, BETWEEN);
