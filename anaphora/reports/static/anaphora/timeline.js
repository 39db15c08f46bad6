/* What the timeline's pages can't do without a script. All of them work without it, but for these comforts. */
"use strict";

const $ = (selector) => document.querySelector(selector);

/* The viewer's time zone: told once, by a cookie; a page drawn for another one is drawn again. */
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const drawnFor = $("meta[name=zone]").content;
if (zone && zone !== drawnFor && !document.cookie.includes(`zone=${zone};`) && !document.cookie.endsWith(`zone=${zone}`)) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}

/* Left and right arrow: the report before, the report after. */
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, .days, .table")) return;
  const to = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]" }[event.key];
  if (to && $(to)) $(to).click();
});

/* Arrow keys in the calendar: a day, or a week, on. */
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
    /* Days without a report can't be opened, so the next one that can. */
    for (at += step; at >= 0 && at < cells.length; at += Math.sign(step)) {
      if (cells[at].href) {
        cells[at].focus();
        return;
      }
    }
  });
}

/* Dashboards whose name contains what is typed. */
const field = $("input[list=dashboards]");
if (field) {
  let asked = 0;
  const offer = async () => {
    const number = ++asked;
    const answer = await fetch(`${field.dataset.source}?q=${encodeURIComponent(field.value)}`);
    if (!answer.ok || number !== asked) return;
    const found = (await answer.json()).dashboards;
    $("#dashboards").replaceChildren(...found.map((each) => new Option(each.title, each.slug)));
  };
  field.addEventListener("input", offer);
  field.addEventListener("focus", offer, { once: true });
  if (document.activeElement === field) offer(); /* Somebody was quicker than this script. */
}

/* A preview that is only being made leaves its place empty, and is asked for again, a few times. */
for (const image of document.querySelectorAll(".thumb img")) {
  let left = 4;
  const again = () => {
    image.style.visibility = "hidden";
    if (left--) setTimeout(() => { image.src = `${image.src.split("?")[0]}?${left}`; }, 3000);
  };
  image.addEventListener("error", again);
  image.addEventListener("load", () => { image.style.visibility = ""; });
  if (image.complete && !image.naturalWidth && image.src) again();
}

/* A picture that can't be shown would be an empty box. One word for all pages of a report; the server may have said it. */
for (const image of document.querySelectorAll(".sheet .picture")) {
  const explain = () => {
    const words = $("#no-picture");
    if (words && !$(".sheet .instead")) image.before(words.content.cloneNode(true));
    image.remove();
  };
  image.addEventListener("error", explain);
  if (image.complete && !image.naturalWidth && image.src) explain();
}

/* The permanent link goes to the clipboard. Over plain http there is no navigator.clipboard. */
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
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
const permanent = $(".permanent");
if (permanent) {
  permanent.addEventListener("click", async (event) => {
    event.preventDefault();
    await copyText(permanent.href);
    permanent.textContent = permanent.dataset.copied;
  });
}

/* The strip shows the current report. */
const strip = $(".strip [aria-current]");
if (strip) strip.parentElement.parentElement.scrollLeft = strip.offsetLeft - strip.parentElement.parentElement.clientWidth / 2;

/* The slider of a comparison. */
const cut = $("#cut");
if (cut) {
  const show = () => $(".compared").style.setProperty("--cut", `${cut.value}%`);
  cut.addEventListener("input", show);
  show();
}
