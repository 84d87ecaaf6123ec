// Says at once what the server would say about an answer: the same rules, in the words that the page brings along.
"use strict";

{
  document.documentElement.classList.add("scripts");

  const local = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of document.querySelectorAll("time")) time.textContent = local.format(new Date(time.dateTime));

  const unprintable = /[\p{C}\p{Zl}\p{Zp}]/u;

  const isDay = (text) => {
    const found = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
    if (!found || found[1] === "0000") return false;
    const day = new Date(Date.UTC(+found[1], +found[2] - 1, +found[3]));
    return day.getUTCMonth() === +found[2] - 1 && day.getUTCDate() === +found[3];
  };

  // As the server reads it: without what nobody sees, a telephone number with plain digits and dashes.
  const answer = (input) => {
    const text = input.value.replace(/\p{Cf}/gu, "");
    const read = input.type === "tel" ? text.normalize("NFKC").replace(/\p{Pd}/gu, "-") : text;
    return read.trim().replace(/\s+/gu, " ");
  };

  // What is wrong with an input, or "".
  const fault = (input) => {
    const text = answer(input);
    if (input.validity.badInput) return input.dataset.fix;
    if (!text) return input.dataset.needed || "";
    if (unprintable.test(text) || [...text].length > input.maxLength && input.maxLength > 0) return input.dataset.fix;
    if (input.type === "date" && !isDay(text)) return input.dataset.fix;
    if (input.min && text < input.min || input.max && text > input.max) return input.dataset.outOfTime;
    if (input.dataset.pattern && !new RegExp(input.dataset.pattern, "u").test(text)) return input.dataset.fix;
    return "";
  };

  const faultOfCards = (cards) => cards.querySelector(":checked") ? "" : cards.dataset.needed || "";

  const tell = (element, name, words) => {
    document.getElementById(`${name}-error`).textContent = words;
    if (words) element.setAttribute("aria-invalid", "true");
    else element.removeAttribute("aria-invalid");
    return words;
  };

  const check = (element) => element.matches("fieldset")
    ? (document.getElementById(`${element.dataset.name}-error`).textContent = faultOfCards(element))
    : tell(element, element.name, fault(element));

  for (const form of document.querySelectorAll("form[data-check]")) {
    const asked = () => [...form.querySelectorAll("input:not([type=radio]), select, fieldset.cards")];
    form.addEventListener("change", (event) => {
      // A year grows digit by digit, and each is a change: 0002, 0020, 0203, 2030.
      if (event.target.type === "date" && event.target.value && event.target.value < "1000") return;
      const cards = event.target.closest("fieldset.cards");
      // An empty box is complained about when it is sent, not when it is passed.
      if (cards || event.target.value || event.target.hasAttribute("aria-invalid")) check(cards || event.target);
    });
    form.addEventListener("submit", (event) => {
      const wrong = asked().filter((element) => check(element));
      if (!wrong.length) return;
      event.preventDefault();
      const hidden = wrong[0].closest("details");
      if (hidden) hidden.open = true;
      wrong[0].focus();
    });
  }
}
