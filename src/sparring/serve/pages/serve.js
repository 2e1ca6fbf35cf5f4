// Votes by key and button, sent again until they are stored; and pages that look again by themselves.
"use strict";

const KEYS_AFTER = 1000; // ms that a pair is on the screen before a key counts
const AGAIN_AFTER = 2000; // ms before a vote that found no server is sent again
const KEYS = {
  ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right",
  t: "tie", 3: "tie", b: "both_bad", 4: "both_bad", s: "skip",
};
const live = document.getElementById("live");
const say = document.getElementById("say");
let looked = 0; // ms that the pair was visible before `since`
let since = performance.now();
let busy = false;
let etag = "";
let following = null; // the next pair, fetched while this one is read: {after, html}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const tell = (text) => { if (say.textContent !== text) say.textContent = text; };
const seen = () => looked + (document.hidden ? 0 : performance.now() - since);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) looked += performance.now() - since;
  since = performance.now();
});

function put(html) {
  const open = [...live.querySelectorAll("details[open]")].map((one) => one.id);
  const form = live.contains(document.activeElement) && document.activeElement.closest("form");
  const held = form ? form.getAttribute("action") : "";
  live.innerHTML = html; // from our own server, which escaped what a model wrote
  if (held) live.querySelector(`form[action="${held}"] button`)?.focus({ preventScroll: true });
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
}

function begin(html) {
  put(html);
  looked = 0;
  since = performance.now();
}

function putPair(html) {
  if (!live.dataset.vote) {
    put(html);
    document.getElementById("newest")?.focus();
    return;
  }
  begin(html);
  window.scrollTo(0, 0);
  live.querySelector(".question")?.focus({ preventScroll: true });
  preload();
}

const shown = () => live?.querySelector("#ballot [name=showing]")?.value;

async function preload() {
  const after = shown();
  if (!after || following?.after === after) return;
  try {
    const answer = await fetch(`/vote/next?after=${encodeURIComponent(after)}`, { headers: { "x-part": "1" } });
    if (answer.status === 200 && shown() === after) following = { after, html: await answer.text() };
  } catch { /* it comes with the answer to the vote */ }
}

function confirm(html) { // the pair that shows already: only what was said, and the count
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const name of [".standing", ".said", ".lesser"]) {
    const [old, fresh] = [live.querySelector(name), page.querySelector(name)];
    if (old && fresh) old.replaceWith(fresh);
    else if (fresh) live.prepend(fresh);
    else old?.remove();
  }
  live.querySelector(".question")?.focus({ preventScroll: true });
  preload();
}

async function send(form, verdict) {
  if (busy) return;
  busy = true;
  document.body.classList.add("sending");
  const fields = new URLSearchParams(new FormData(form));
  if (verdict) {
    fields.set("verdict", verdict);
    fields.set("seconds", (seen() / 1000).toFixed(2));
  }
  // The next pair shows at once; no key counts on it before this vote is on disk, and the count waits for that too.
  const early = verdict && following?.after === fields.get("showing") ? following.html : "";
  if (early) {
    begin(early);
    fields.set("ahead", shown());
  }
  for (;;) {
    let answer = null;
    try {
      answer = await fetch(form.getAttribute("action"), { method: "POST", body: fields, headers: { "x-part": "1" } });
    } catch { /* no server: it is sent again */ }
    if (answer?.ok) {
      tell("");
      const html = await answer.text();
      if (early && !html.includes('class="question"')) confirm(html); // the pair that shows is the next one
      else putPair(html);
      break;
    }
    if (answer && answer.status < 500 && answer.status !== 429) {
      tell(`Not stored: ${await answer.text()}`);
      if (early) await refresh(true);
      break;
    }
    tell("Not stored yet: the server does not answer. Your vote is kept here and sent again. Leave this page open.");
    await pause(AGAIN_AFTER);
  }
  document.body.classList.remove("sending");
  busy = false;
}

document.addEventListener("submit", (event) => {
  if (!live?.contains(event.target)) return;
  event.preventDefault();
  send(event.target, event.submitter?.value);
});

document.addEventListener("keydown", (event) => {
  if (!live?.dataset.vote || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.closest("input, select, textarea")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const ballot = document.getElementById("ballot");
  if (key === "?") document.getElementById("help").toggleAttribute("open");
  else if (key === "p") document.body.classList.toggle("as-text");
  else if (key === "u") send(document.getElementById("undo"));
  else if (KEYS[key] && ballot) {
    event.preventDefault();
    if (seen() < KEYS_AFTER) tell("Read first: keys work a second after a pair appears.");
    else send(ballot, KEYS[key]);
  }
});

async function refresh(now = false) {
  try {
    const answer = await fetch(location.href, { headers: { "x-part": "1", "if-none-match": etag } });
    if (busy && !now) return;
    if (answer.status === 200) {
      etag = answer.headers.get("etag") || "";
      const html = await answer.text();
      if (live.dataset.vote && html.includes('id="ballot"')) putPair(html);
      else put(html);
    } else if (answer.status !== 304) {
      tell(await answer.text());
      return;
    }
    tell("");
  } catch {
    tell("The server does not answer. This page looks again by itself.");
  }
}

async function look() {
  for (;;) {
    const box = live.matches("[data-refresh]") ? live : live.querySelector("[data-refresh]");
    await pause(1000 * Number(box?.dataset.refresh || 2));
    if (busy || document.hidden || !(live.matches("[data-refresh]") || live.querySelector("[data-refresh]"))) continue;
    await refresh();
  }
}

if (live) look();
if (live?.dataset.vote) preload();
