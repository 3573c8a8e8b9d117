// Live parts of a page. Every page can be read without this file.
"use strict";

(() => {
  let stream = null;
  let asked = null;

  // The page as it is now: one request for however many events came within a moment, and none under somebody's typing.
  function refresh(position) {
    clearTimeout(asked);
    asked = setTimeout(() => {
      const live = document.getElementById("live");
      if (!live) return;
      const focused = document.activeElement;
      if (focused && live.contains(focused) && (focused.matches("select") || focused.value)) return refresh(position);
      const address = new URL(location.href);
      address.searchParams.set("position", position);
      const opened = [...live.querySelectorAll("details[open]")].map((each) => each.id);
      htmx.ajax("GET", address.pathname + address.search, { target: "#live", select: "#live", swap: "outerHTML" }).then(() => {
        for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
      });
    }, 150);
  }

  // While a reply is written its pieces are shown as they come, as text.
  function write(piece) {
    const reply = document.getElementById("reply");
    if (!reply) return;
    reply.hidden = false;
    const text = reply.querySelector(".text");
    text.textContent = piece.reset ? piece.text : text.textContent + piece.text;
  }

  function follow() {
    if (stream) stream.close();
    stream = null;
    const followed = document.querySelector("[data-stream]");
    if (!followed) return;
    stream = new EventSource(followed.dataset.stream);
    stream.addEventListener("output.delta", (event) => write(JSON.parse(event.data)));
    for (const kind of followed.dataset.events.split(" ")) {
      stream.addEventListener(kind, (event) => refresh(JSON.parse(event.data).position));
    }
  }

  document.addEventListener("DOMContentLoaded", follow);
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target === document.body) follow();
  });
  // A form is sent once; the key in it makes a second one harmless, and this makes it unlikely.
  document.addEventListener("htmx:configRequest", (event) => {
    const button = event.detail.triggeringEvent && event.detail.triggeringEvent.submitter;
    if (button) button.setAttribute("aria-busy", "true");
  });
})();
