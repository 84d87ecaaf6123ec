// The status pages stay up to date: the page is asked for again and only what differs is changed, so that focus,
// selection, open parts and scrolling stay. Times are shown in the reader's zone. Everything works without this.
"use strict";
(() => {
  const EVERY = 5000, SLOWEST = 60000;
  const main = document.getElementById("main");
  const two = (number) => String(number).padStart(2, "0");

  // `2026-11-22 10:00:00 UTC` in the reader's zone, in the same form, with UTC on hover.
  function localize(root) {
    for (const time of root.querySelectorAll("time")) {
      const utc = time.textContent, moment = new Date(time.dateTime || utc.replace(" ", "T"));
      if (isNaN(moment) || time.title) continue;
      const day = two(moment.getMonth() + 1) + "-" + two(moment.getDate());
      const clock = two(moment.getHours()) + ":" + two(moment.getMinutes());
      time.title = moment.toISOString().replace("T", " ").slice(0, 19) + " UTC";
      if (!utc.includes(":")) continue; // a whole day, counted in UTC
      const year = /^\d{4}-/.test(utc) ? moment.getFullYear() + "-" : "";
      const seconds = /:\d\d:\d\d/.test(utc) ? ":" + two(moment.getSeconds()) : "";
      time.textContent = year + day + " " + clock + seconds;
    }
  }

  function keyed(node) {
    return node.nodeType === 1 ? node.dataset.key || node.getAttribute("id") || "" : ""; // a form's .id may be a field
  }

  function alike(one, other) {
    return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyed(one) === keyed(other);
  }

  // Make `old` like `fresh` with as few changes as possible; what the reader did (open, checked, typed) stays.
  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh) || old.hasAttribute("data-keep")) return;
    const own = old.nodeName === "DETAILS" ? ["open"] : ["value", "checked", "hidden"];
    for (const { name, value } of fresh.attributes)
      if (!own.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes])
      if (!own.includes(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    if (old.nodeName === "TEXTAREA" || old.nodeName === "SELECT") return;
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      let match = place;
      if (keyed(child)) while (match && !alike(match, child)) match = match.nextSibling;
      if (match && alike(match, child)) {
        if (match !== place) old.insertBefore(match, place);
        else place = place.nextSibling;
        morph(match, child);
      } else old.insertBefore(document.importNode(child, true), place);
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  let tag = "", wait = EVERY, timer = 0;
  async function look() {
    try {
      const answer = await fetch(main.dataset.live, {
        headers: { "X-Live": "1", Accept: "text/html", ...(tag && { "If-None-Match": tag }) },
        cache: "no-store", credentials: "same-origin", redirect: "manual",
      });
      if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload();
      if (answer.status === 200) {
        tag = answer.headers.get("ETag") || "";
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
        localize(fresh);
        if (!document.hidden) morph(main, fresh);
      }
      wait = answer.ok || answer.status === 304 ? EVERY : Math.min(wait * 2, SLOWEST);
    } catch {
      wait = Math.min(wait * 2, SLOWEST); // away for now
    }
    start();
  }
  function start() {
    clearTimeout(timer);
    if (main.dataset.live && !document.hidden) timer = setTimeout(look, wait);
  }

  function selection() {
    const boxes = [...document.querySelectorAll("input[name=id]")];
    const count = boxes.filter((box) => box.checked).length, all = document.querySelector("[data-all]");
    const told = document.querySelector("[data-selected]");
    if (told) told.textContent = count ? count + " selected:" : "Select some, then:";
    if (all) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    }
  }

  localize(document);
  const zone = document.querySelector("[data-zone]");
  if (zone) zone.textContent = "Times are in your zone (" + Intl.DateTimeFormat().resolvedOptions().timeZone + "); UTC on hover.";
  for (const part of document.querySelectorAll("[data-print], .all")) part.hidden = false;
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) print();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]"))
      for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
    if (event.target.matches("[data-all], input[name=id]")) selection();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (main.dataset.live) look();
  });
  selection(); // some may be ticked already: on a slow line, or by the browser on the way back
  start();
})();
