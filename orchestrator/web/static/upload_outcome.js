// Shows what became of a submission without a reload by hand; asks nothing while nobody looks.
"use strict";

{
  const shown = document.querySelector("[data-shows]").dataset.shows;
  const SHORTEST = 3000;
  const LONGEST = 60000;
  let pause = SHORTEST;
  let timer = 0;

  const ask = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      const answer = await fetch(`${location.pathname}/progress`, { headers: { Accept: "application/json" } });
      const gone = answer.status === 404 || answer.status === 410;
      if (gone || (answer.ok && (await answer.json()).shows !== shown)) {
        location.reload();
        return;
      }
    } catch {
      // The connection is lost: the next question may get through.
    }
    pause = Math.min(pause * 1.3, LONGEST);
    timer = setTimeout(ask, pause);
  };

  document.addEventListener("visibilitychange", () => {
    pause = SHORTEST;
    ask();
  });
  timer = setTimeout(ask, pause);
}
