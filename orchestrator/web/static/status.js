// The status pages stay up to date: the page is asked for again and only what differs is changed, so that focus,
// selection, open parts and scrolling stay. Times are shown in the reader's zone. Everything works without this.
"use strict";
(() => {
  const EVERY = 5000, SLOWEST = 60000, PATIENCE = 20000;
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

  // What the reader did to an element, which stays. Nobody types into a hidden or a read-only field.
  function own(node) {
    if (node.nodeName === "DETAILS") return ["open"];
    return node.readOnly || node.type === "hidden" ? ["hidden"] : ["value", "checked", "hidden"];
  }

  // Make `old` like `fresh` with as few changes as possible.
  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh) || old.hasAttribute("data-keep")) return;
    const stays = own(old);
    for (const { name, value } of fresh.attributes)
      if (!stays.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes])
      if (!stays.includes(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    if (old.readOnly) old.value = fresh.value; // a browser may have filled it in on the way back
    if (old.nodeName === "TEXTAREA" || old.nodeName === "SELECT") return;
    const wanted = new Set([...fresh.children].map(keyed).filter(Boolean));
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      let match = place;
      if (keyed(child)) while (match && !alike(match, child)) match = match.nextSibling;
      if (match && alike(match, child)) {
        while (place !== match && !wanted.has(keyed(place))) place = without(place); // nothing need be moved then
        if (match !== place) old.insertBefore(match, place);
        else place = place.nextSibling;
        morph(match, child);
      } else old.insertBefore(document.importNode(child, true), place);
    }
    while (place) place = without(place);
  }

  // Remove a node; returns the one after it.
  function without(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  function refresh(fresh) {
    const focused = document.activeElement;
    localize(fresh);
    morph(main, fresh);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // was moved
    dress();
  }

  // The page is as it was at `stamp`, or was not to be had because of `trouble`, and then says so from the second time on.
  let missed = 0;
  function tell(stamp, trouble) {
    const time = document.querySelector("[data-as-of] time"), line = document.querySelector("[data-stale]");
    missed = trouble ? missed + 1 : 0;
    if (!time || !line) return;
    if (stamp) {
      time.dateTime = stamp;
      time.textContent = stamp.replace("T", " ").slice(0, 19) + " UTC";
      time.title = "";
      localize(time.parentNode);
    }
    const words = missed > 1 ? "Not up to date since " + time.textContent + ": " + trouble : "";
    if (line.textContent !== words) line.textContent = words;
  }

  let tag = "", wait = EVERY, timer = 0;
  async function look() {
    let stamp = "", trouble = "no connection";
    clearTimeout(timer);
    try {
      const answer = await fetch(main.dataset.live, {
        headers: { "X-Live": "1", Accept: "text/html", ...(tag && { "If-None-Match": tag }) },
        cache: "no-store", credentials: "same-origin", redirect: "manual", signal: AbortSignal.timeout?.(PATIENCE),
      });
      if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload();
      const text = await answer.text();
      if (answer.status === 200) {
        refresh(new DOMParser().parseFromString(text, "text/html").getElementById("main"));
        tag = answer.headers.get("ETag") || "";
      }
      trouble = answer.ok || answer.status === 304 ? "" : "the service answers " + answer.status;
      stamp = trouble ? "" : answer.headers.get("X-As-Of") || "";
    } catch {} // away for now, or what answered was not the service
    wait = trouble ? Math.min(wait * 2, SLOWEST) : EVERY;
    tell(stamp, trouble);
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
    const words = count ? count + " selected:" : "Select some, then:";
    if (told && told.textContent !== words) told.textContent = words;
    if (all) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    }
  }

  // What only works with this script is shown, and what is selected is counted.
  function dress() {
    for (const part of document.querySelectorAll("[data-print], [data-stale], .all")) part.hidden = false;
    selection(); // some may be ticked already: on a slow line, or by the browser on the way back
  }

  localize(document);
  const zone = document.querySelector("[data-zone]");
  if (zone) zone.textContent = "Times are in your zone (" + Intl.DateTimeFormat().resolvedOptions().timeZone + "); UTC on hover.";
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
  dress();
  start();
})();
