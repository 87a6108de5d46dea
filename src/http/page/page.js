const live = () => document.querySelector("main[data-live]");

/* What somebody is about to press, to copy or to write into stays as it is. */
const inUse = (main) => {
  const active = document.activeElement;
  return (main.contains(active) && active.matches("button, input, select, textarea")) || !getSelection().isCollapsed;
};

/* Says in the title, and in place of how it was, that nobody answers. The next answer brings its own. */
const sayAway = (main) => {
  document.title = `${document.querySelector("header strong").textContent}: connection lost`;
  const state = main.querySelector("h1.state");
  if (!state) return;
  state.textContent = "Connection lost";
  state.className = "state bad";
};

setInterval(async () => {
  const main = live();
  if (!main || document.hidden || inUse(main)) return;
  const away = document.querySelector(".away");
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (inUse(main)) return;
    const focused = main.contains(document.activeElement) && document.activeElement.getAttribute("href");
    document.title = next.title;
    main.replaceWith(next.querySelector("main"));
    if (focused) document.querySelector(`main a[href="${CSS.escape(focused)}"]`)?.focus();
    away.hidden = true;
  } catch {
    away.hidden = false;
    sayAway(main);
  }
}, 2000);
