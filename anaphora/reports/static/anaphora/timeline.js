/* Enhancements of the timeline pages. The pages also work without this script. */
"use strict";

const $ = (selector) => document.querySelector(selector);

/* Stores the viewer's time zone in a cookie. Reloads the page if it was rendered for another time zone. */
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const pageZone = $("meta[name=zone]")?.content;
if (zone && pageZone && zone !== pageZone && !document.cookie.includes(`zone=${zone};`) && !document.cookie.endsWith(`zone=${zone}`)) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}

/* Left and right arrow keys open the previous and the next report. */
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, .days, .table")) return;
  const to = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]" }[event.key];
  if (to && $(to)) $(to).click();
});

/* Arrow keys in the calendar move by a day or by a week. */
const days = $(".days");
if (days) {
  const cells = [...days.querySelectorAll(".day")];
  const current = days.querySelector("[aria-current]");
  if (current) days.scrollLeft = current.offsetLeft - days.clientWidth / 2;
  days.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -7, ArrowRight: 7 }[event.key];
    if (!step) return;
    event.preventDefault();
    let at = cells.indexOf(document.activeElement);
    if (at < 0) at = current ? cells.indexOf(current) : step > 0 ? -1 : cells.length;
    /* Skips days without a report, because they have no link. */
    for (at += step; at >= 0 && at < cells.length; at += Math.sign(step)) {
      if (cells[at].href) {
        cells[at].focus();
        return;
      }
    }
  });
}

/* Suggests dashboards that contain the entered text. */
const field = $("input[list=dashboards]");
if (field) {
  let requests = 0;
  const suggest = async () => {
    const number = ++requests;
    const answer = await fetch(`${field.dataset.source}?q=${encodeURIComponent(field.value)}`);
    if (!answer.ok || number !== requests) return;
    const found = (await answer.json()).dashboards;
    $("#dashboards").replaceChildren(...found.map((each) => new Option(each.title, each.slug)));
  };
  field.addEventListener("input", suggest);
  field.addEventListener("focus", suggest, { once: true });
  if (document.activeElement === field) suggest(); /* The user focused the field before this script ran. */
}

/* Hides previews that do not exist yet and requests them again a few times. */
for (const image of document.querySelectorAll(".thumb img")) {
  let left = 4;
  const retry = () => {
    image.style.visibility = "hidden";
    if (left--) setTimeout(() => { image.src = `${image.src.split("?")[0]}?${left}`; }, 3000);
  };
  image.addEventListener("error", retry);
  image.addEventListener("load", () => { image.style.visibility = ""; });
  if (image.complete && !image.naturalWidth && image.src) retry();
}

/* Replaces images that cannot be displayed by one message per report, unless the server already rendered a message. */
for (const image of document.querySelectorAll(".sheet .picture")) {
  const explain = () => {
    const message = $("#no-picture");
    if (message && !$(".sheet .instead")) image.before(message.content.cloneNode(true));
    image.remove();
  };
  image.addEventListener("error", explain);
  if (image.complete && !image.naturalWidth && image.src) explain();
}

/* Copies the permanent link. */
const permanent = $(".permanent");
if (permanent) {
  permanent.addEventListener("click", async (event) => {
    event.preventDefault();
    await copyText(permanent.href);
    permanent.textContent = permanent.dataset.copied;
  });
}

/* Scrolls the film strip to the current report. */
const strip = $(".strip [aria-current]");
if (strip) strip.parentElement.parentElement.scrollLeft = strip.offsetLeft - strip.parentElement.parentElement.clientWidth / 2;

/* The slider of a comparison. */
const cut = $("#cut");
if (cut) {
  const show = () => $(".compared").style.setProperty("--cut", `${cut.value}%`);
  cut.addEventListener("input", show);
  show();
}
