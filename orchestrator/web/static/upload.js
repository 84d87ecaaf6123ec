// Sends a document as soon as it is chosen, shows how far it is, and tries again by itself until it has arrived.
"use strict";

{
  const form = document.querySelector("form[data-file]");
  const words = form.dataset;
  const kind = words.file;
  const find = (selector) => form.querySelector(selector);
  const inputs = [...form.querySelectorAll("input[type=file]")];
  const [sending, bar, said, preview] = [".sending", ".sending progress", "#sending", ".preview"].map(find);
  const error = document.getElementById(`${kind}-error`);
  const LONGEST_PAUSE = 30000;
  const SMALLER_AFTER = 3; // failed tries

  const phone = matchMedia("(pointer: coarse)"); // by this the style shows the button that takes a photo

  let current = 0; // which choice is being sent; an older one gives up
  let request = null; // the latest try
  let isWhole = false; // nothing of it is left to send
  let ended = null; // its answer, once it is over
  let busy = false;
  let goesOn = false; // "Continue" was pressed meanwhile
  let received = words.received;
  let shown = "";

  // The next thing to do stands out: choose something, or go on.
  const stress = () => {
    const main = find(phone.matches ? ".camera" : ".pick");
    main.classList.toggle("main", !received);
    find("button").classList.toggle("primary", Boolean(received));
    if (received) for (const label of form.querySelectorAll("[data-again]")) label.textContent = label.dataset.again;
  };
  stress();
  // Where the browser changes HEIC into JPG by itself (iOS) it does so only if HEIC is not asked for.
  if (!CSS.supports("-webkit-touch-callout", "none")) find(`#${kind}`).accept += ",image/heic,image/heif,image/webp,.heic,.heif";

  const say = (text) => { said.textContent = text; };
  const refuse = (text) => {
    busy = false;
    goesOn = false;
    sending.hidden = true;
    error.textContent = text;
    inputs.at(-1).setAttribute("aria-invalid", "true");
    if (text) find(`#${kind}`).focus();
  };

  const show = (blob) => {
    URL.revokeObjectURL(shown);
    shown = blob ? URL.createObjectURL(blob) : "";
    if (blob) find(".preview img").src = shown;
    preview.hidden = !blob;
  };

  // One try: the answer's status and words; status 0 when the connection was lost.
  const put = (blob) => {
    request = new XMLHttpRequest();
    isWhole = false;
    request.open("PUT", `${location.pathname}/documents/${kind}`);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
    request.responseType = "json";
    request.timeout = 150000;
    request.upload.onprogress = (event) => { if (event.lengthComputable) bar.value = 100 * event.loaded / event.total; };
    request.upload.onload = () => { isWhole = true; };
    ended = new Promise((done) => {
      request.onloadend = () => done({ status: request.status, answer: request.response || {} });
    });
    request.send(blob);
    return ended;
  };

  // Gives up what is being sent. What has left as a whole may be stored all the same: only its answer ends that.
  const giveUp = () => {
    current += 1;
    if (!isWhole) request?.abort();
  };

  // Waits, but no longer than until the connection is back.
  const pause = (ms) => new Promise((done) => {
    const end = () => { clearTimeout(timer); removeEventListener("online", end); done(); };
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
  });

  const arrived = (isPhoto) => {
    busy = false;
    bar.value = 100;
    say(isPhoto ? words.sent : words.sentFile);
    find("#received")?.remove();
    inputs.forEach((input) => input.removeAttribute("aria-invalid"));
    stress();
    if (goesOn) form.requestSubmit(find("button"));
  };

  const send = async (file) => {
    giveUp();
    const mine = current;
    busy = true;
    error.textContent = "";
    show(null);
    sending.hidden = false;
    bar.value = 0;
    say(words.preparing);
    let ready = await picture.fitted(file);
    if (mine !== current) return;
    if (ready.refused) {
      refuse(ready.refused === "heic" && !phone.matches ? words.heicWithoutCamera : words[ready.refused]);
      return;
    }
    if (ready.isPhoto) show(ready.blob);
    // Never two at a time: the server keeps what comes last, and that must be what was chosen last.
    await ended;
    if (mine !== current) return;
    for (let tries = 1; ; tries += 1) {
      say(words.sending);
      const { status, answer } = await put(ready.blob);
      if (status === 200) received = answer.documents[kind];
      if (mine !== current) return;
      if (status === 200) { arrived(ready.isPhoto); return; }
      // Submitted or ended elsewhere, or the link was replaced: the page says so.
      if ([403, 404, 409, 410].includes(status)) { busy = false; location.reload(); return; }
      // Without words it is a proxy that finds the file too large: a smaller photo may pass.
      if ([413, 415].includes(status) && answer.detail) { refuse(answer.detail); return; }
      say(status === 0 ? words.lost : words.busy);
      await pause(Math.min(1000 * 2 ** (tries - 1), LONGEST_PAUSE));
      if (tries === SMALLER_AFTER && ready.isPhoto) ready = await picture.fitted(file, true);
      if (mine !== current) return;
    }
  };

  const choose = (files) => {
    if (files.length === 1) send(files[0]);
    else if (files.length > 1) { giveUp(); refuse(words.one); }
  };

  const take = (input) => {
    choose(input.files);
    // What was sent by itself is not sent again with the form.
    input.value = "";
  };
  for (const input of inputs) {
    input.addEventListener("change", () => take(input));
    // A page is there before its scripts: on a slow line something may have been chosen by now.
    if (input.files.length) take(input);
  }

  const place = find(".choose");
  for (const name of ["dragover", "dragenter"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); place.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => place.classList.remove("over"));
  form.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files); });

  form.addEventListener("submit", (event) => {
    if (busy) {
      event.preventDefault();
      goesOn = true;
      say(words.wait);
    } else if (!received) {
      event.preventDefault();
      refuse(words.needed);
    }
  });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });

  // Another tab or device may have sent it, or submitted everything.
  document.addEventListener("visibilitychange", async () => {
    if (document.hidden || busy) return;
    try {
      const answer = await fetch(`${location.pathname}/progress`, { headers: { Accept: "application/json" } });
      const gone = answer.status === 404 || answer.status === 410;
      const now = answer.ok ? await answer.json() : null;
      if (busy) return;
      if (gone || now && (now.shows !== words.shows || (now.documents[kind] || "") !== received)) location.reload();
    } catch {
      // Without a connection the page stays as it is, and so while the service is away.
    }
  });
}
