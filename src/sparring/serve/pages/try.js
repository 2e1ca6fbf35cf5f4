// Messages of the Try room: the page shows how far the answer is; leaving the page ends it. Uses serve.js.
"use strict";

const composer = document.getElementById("composer");
const message = document.getElementById("message");

async function ask() {
  if (composer.dataset.sent || !message.value.trim()) return;
  composer.dataset.sent = "1";
  const request = { method: "POST", body: new URLSearchParams(new FormData(composer)), headers: { "x-part": "1" } };
  const said = message.value;
  message.value = ""; // what is written while the answer is made is the next message
  const waiting = fetch(composer.getAttribute("action"), request);
  setTimeout(() => composer.dataset.sent && refresh(), 150); // the turn, and from then on its progress
  try {
    const answer = await waiting;
    const text = await answer.text();
    if (answer.ok) {
      tell("");
      begin(text);
      (live.querySelector(".buttons") ? document.getElementById("newest") : message)?.focus();
      document.getElementById("newest")?.scrollIntoView({ block: "nearest" });
    } else {
      message.value ||= said;
      tell(text);
    }
  } catch {
    message.value ||= said;
    tell("The server does not answer. Your message is still here: send it again.");
  }
  delete composer.dataset.sent;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});

document.getElementById("newest")?.scrollIntoView({ block: "nearest" });
