// Names for two of Material's regions that a screen reader would otherwise announce without one; and
// a wide table or figure scrolls on a phone, by keyboard too.
function name() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-code__nav").forEach((nav, n) =>
    nav.setAttribute("aria-label", `Code block ${n + 1}`));
  document.querySelectorAll(".md-typeset__scrollwrap, .drawn").forEach(wide =>
    wide.setAttribute("tabindex", "0"));
}
name();
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
