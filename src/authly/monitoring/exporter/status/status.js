// Keeps the page up to date: asks for what has changed each second, as long as somebody can see it.
"use strict";
(() => {
  const EVERY = 1000;
  const PATIENCE = 5000;
  // Where the exporter limits the rate, what the page asks for must not take the place of scrapes.
  const LONGER = 15000;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const lost = document.getElementById("lost");
  let timer = 0;
  let asking = null;
  let paused = false;
  let lostAt = null;
  let every = EVERY;

  // Changes only what differs, in place: what is selected, scrolled or focused stays so.
  function morph(from, to) {
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name)) from.removeAttribute(name);
    }
    const wanted = [...to.childNodes];
    wanted.forEach((node, at) => {
      const there = from.childNodes[at];
      if (!there) from.append(document.importNode(node, true));
      else if (there.nodeName !== node.nodeName) there.replaceWith(document.importNode(node, true));
      else if (node.nodeType === Node.ELEMENT_NODE) morph(there, node);
      else if (there.nodeValue !== node.nodeValue) there.nodeValue = node.nodeValue;
    });
    while (from.childNodes.length > wanted.length) from.lastChild.remove();
  }

  const withoutNumbers = (text) => text.replace(/[\d.,]+( (ms|s|min|h|d|%)\b)?/g, "");
  const time = (date) => date.toISOString().slice(11, 19) + " UTC";

  function show(text) {
    const next = new DOMParser().parseFromString(text, "text/html");
    morph(document.getElementById("content"), next.getElementById("content"));
    const said = document.getElementById("said");
    const words = next.getElementById("said").textContent;
    // Said aloud when something else is wrong, not each time that a number or a duration has changed.
    if (withoutNumbers(said.textContent) !== withoutNumbers(words)) said.textContent = words;
    document.title = next.title;
    lostAt = null;
    lost.hidden = true;
    document.documentElement.classList.remove("is-lost");
    live.textContent = "Live: updated each second.";
  }

  function lose(words) {
    lostAt ??= new Date();
    document.documentElement.classList.add("is-lost");
    const text = `✖ ${words} What you see is of before ${time(lostAt)}.`;
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
    live.textContent = "Not live.";
    if (!document.title.startsWith("(?)")) document.title = "(?) Authly exporter";
  }

  async function ask() {
    timer = 0;
    every = EVERY;
    asking = new AbortController();
    const patience = setTimeout(() => asking.abort(), PATIENCE);
    try {
      const answer = await fetch("-/status", { signal: asking.signal, cache: "no-store" });
      if (answer.ok) show(await answer.text());
      else if (answer.status === 401 || answer.status === 403) {
        lose("The exporter no longer lets you look: reload the page to sign in again.");
      } else if (answer.status === 429) {
        every = LONGER;
        lose("The exporter limits how often it may be asked; trying again every 15 seconds.");
      } else lose(`The exporter answers with status ${answer.status}; trying again each second.`);
    } catch {
      if (isWatched()) {
        lose("The exporter does not answer; trying again each second. If this stays, see whether the instance runs.");
      }
    } finally {
      clearTimeout(patience);
      asking = null;
      plan();
    }
  }

  const isWatched = () => !document.hidden && !paused;

  function plan() {
    if (isWatched() && !timer && !asking) timer = setTimeout(ask, every);
  }

  function change() {
    if (isWatched()) {
      if (!timer && !asking) ask();
      return;
    }
    clearTimeout(timer);
    timer = 0;
    asking?.abort();
    if (paused) live.textContent = `Paused at ${time(new Date())}.`;
  }

  document.addEventListener("visibilitychange", change);
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    change();
  });
  pause.hidden = false;
  live.textContent = "Live: updated each second.";
  plan();
})();
