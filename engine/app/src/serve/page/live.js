// Keeps the status page current: when something happened it asks for the page again and puts what is
// new in the place of what was there. Without it the page is as of when it was opened.
(() => {
  "use strict";

  const CALM_MS = 2000;    // Between two looks, so that many events are one.
  const POLL_MS = 20000;   // Where there are no events.
  const SLOW_MS = 60000;   // In any case: what ends in time ends without an event.
  const MARK_MS = 1700;    // How long a change is marked.

  let skew = 0, looked = 0, wanted = 0, busy = false, polling = 0;

  const live = document.getElementById("live");
  const news = document.getElementById("news");
  const main = () => document.getElementById("main");
  const say = (words) => { if (live && live.textContent !== words) live.textContent = words; };

  function age(ms) {
    const s = Math.floor(ms / 1000);
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
    return `${Math.floor(s / 86400)} days`;
  }

  function ago(ms, now) {
    const apart = Math.abs(now - ms);
    if (apart < 1000) return "now";
    return ms > now ? `in ${age(apart)}` : `${age(apart)} ago`;
  }

  function tick() {
    const now = Date.now() - skew;
    for (const time of document.querySelectorAll("time[data-ms]")) {
      const words = ago(Number(time.dataset.ms), now);
      if (time.textContent !== words) time.textContent = words;
    }
  }

  function setClock() {
    const now = Number(main()?.dataset.now);
    if (Number.isFinite(now) && now > 0) skew = Date.now() - now;
  }

  const all = (root) => [...root.querySelectorAll("[data-live]")];
  const shape = (root) => all(root).map((one) => one.dataset.live).join("\n");

  function mark(one) {
    one.classList.remove("changed");
    void one.offsetWidth;
    one.classList.add("changed");
    setTimeout(() => one.classList.remove("changed"), MARK_MS);
  }

  // Puts `next` in the place of `one`, and keeps the keyboard where it was.
  function put(one, next) {
    const label = one.contains(document.activeElement)
      ? document.activeElement.getAttribute("aria-label") : null;
    for (const name of ["class", "data-value", "data-say", "data-stale"]) {
      const value = next.getAttribute(name);
      if (value === null) one.removeAttribute(name); else one.setAttribute(name, value);
    }
    one.replaceChildren(...next.childNodes);
    if (label !== null) {
      const same = [...one.querySelectorAll("button")].find(
        (button) => button.getAttribute("aria-label") === label);
      (same ?? one.querySelector("button"))?.focus();
    }
    mark(one);
  }

  function take(fresh) {
    const next = fresh.getElementById("main");
    const now = main();
    if (!next || !now) return;
    document.title = fresh.title;
    const told = [];
    const sum = (page) => page.querySelector("header");
    if (shape(now) !== shape(next)) {
      now.replaceChildren(...next.childNodes);
    } else {
      const news = all(next);
      all(now).forEach((one, at) => {
        if (one.dataset.value === news[at].dataset.value) return;
        if (one.dataset.say !== news[at].dataset.say) told.push(news[at].dataset.say);
        put(one, news[at]);
      });
    }
    now.dataset.now = next.dataset.now;
    const [head, newHead] = [sum(document), sum(fresh)];
    if (head && newHead && shape(head) === shape(newHead)) {
      const newest = all(newHead);
      all(head).forEach((one, at) => {
        if (one.dataset.value !== newest[at].dataset.value) put(one, newest[at]);
      });
    }
    if (news && told.length) news.textContent = told.filter(Boolean).join(". ");
    setClock();
    tick();
    if (document.querySelector("[data-stale]")) soon();
  }

  async function look() {
    busy = true;
    looked = Date.now();
    try {
      const answer = await fetch(location.pathname, {
        headers: { accept: "text/html" }, credentials: "same-origin", cache: "no-store",
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      take(new DOMParser().parseFromString(text, "text/html"));
      say(polling ? "looked at now and then" : "live");
    } catch {
      say("not reached");
    } finally {
      busy = false;
    }
  }

  function soon() {
    wanted = wanted || Date.now();
  }

  function turn() {
    tick();
    if (busy || document.hidden) return;
    const since = Date.now() - looked;
    if ((wanted && since >= CALM_MS) || since >= (polling ? POLL_MS : SLOW_MS)) {
      wanted = 0;
      look();
    }
  }

  function listen() {
    if (!("EventSource" in window)) { polling = 1; return; }
    const events = new EventSource("/v1/events");
    // The first one comes at once: something may have happened since the page was made.
    events.addEventListener("state", () => { polling = 0; say("live"); soon(); });
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) {
        polling = 1;
        say("looked at now and then");
        setTimeout(listen, POLL_MS);
      } else {
        say("not reached");
      }
    });
  }

  looked = Date.now();
  setClock();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
  setInterval(turn, 500);
  listen();
})();
