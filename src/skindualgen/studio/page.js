// What the page does without the server: how pairs are shown, enlarging, saving one file, copying, light and dark.
(() => {
  "use strict";
  const kept = (name, fallback) => { try { return localStorage.getItem(name) ?? fallback; } catch { return fallback; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private windows have none */ } };

  const showAs = view => {
    document.documentElement.dataset.sdgView = view;
    for (const button of document.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
  };
  const tint = percent => {
    document.documentElement.style.setProperty("--sdg-opacity", percent / 100);
    for (const slider of document.querySelectorAll("[data-opacity]")) slider.value = percent;
  };
  const darken = dark => {
    document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    for (const button of document.querySelectorAll("[data-theme]")) {
      button.textContent = dark ? "Light" : "Dark";
      button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
    }
  };
  const isDark = () => document.body.classList.contains("dark");

  const download = (uri, name) => {
    const link = document.createElement("a");
    link.href = uri;
    link.download = name;
    link.click();
  };
  const copy = async button => {
    const text = button.closest(".sdg-command").querySelector("pre");
    let said = "Copied";
    try { await navigator.clipboard.writeText(text.textContent); }
    catch { getSelection().selectAllChildren(text); said = "Selected"; }
    button.textContent = said;
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  const enlarge = frame => {
    const dialog = document.createElement("dialog");
    dialog.className = "sdg-zoom";
    dialog.setAttribute("aria-label", frame.getAttribute("aria-label"));
    const large = frame.querySelector(".sdg-frame-in").cloneNode(true);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    dialog.append(large, close);
    dialog.addEventListener("click", event => { if (event.target === dialog || event.target === close) dialog.close(); });
    dialog.addEventListener("close", () => { dialog.remove(); frame.focus(); });
    document.body.append(dialog);
    dialog.showModal();
  };

  document.addEventListener("click", event => {
    const target = event.target.closest?.("[data-view],[data-copy],[data-zoom],[data-save],[data-theme]");
    if (!target) return;
    if (target.dataset.view) { showAs(target.dataset.view); keep("sdg-view", target.dataset.view); }
    else if ("copy" in target.dataset) copy(target);
    else if ("zoom" in target.dataset) enlarge(target);
    else if (target.dataset.save) {
      const picture = target.closest(".sdg-pair").querySelector(`.sdg-${target.dataset.save}`);
      download(picture.src, target.dataset.name);
    } else if ("theme" in target.dataset) { darken(!isDark()); keep("sdg-theme", isDark() ? "dark" : "light"); }
  });
  document.addEventListener("input", event => {
    if (!("opacity" in (event.target.dataset ?? {}))) return;
    tint(event.target.value);
    keep("sdg-opacity", event.target.value);
  });

  const start = () => {
    const theme = kept("sdg-theme", null);
    darken(theme ? theme === "dark" : isDark() || matchMedia("(prefers-color-scheme: dark)").matches);
    showAs(kept("sdg-view", "overlay"));
    tint(kept("sdg-opacity", "18"));
  };
  // The controls appear when the page has been built, tabs and results later still.
  addEventListener("DOMContentLoaded", start);
  new MutationObserver(changes => {
    const controls = "[data-view],[data-opacity],[data-theme]";
    if (changes.some(change => [...change.addedNodes].some(node => node.matches?.(controls) || node.querySelector?.(controls)))) start();
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
