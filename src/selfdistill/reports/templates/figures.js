// `data-width` is the room for a text in the layout of its figure. Text in a wider font is condensed to that width, so
// that nothing overlaps or is cut off. A hidden figure has no width; it is fitted when it is shown.
function fitFigures() {
  for (const text of document.querySelectorAll("svg.plot text[data-width]")) {
    text.removeAttribute("textLength");
    if (text.getComputedTextLength() > Number(text.dataset.width)) {
      text.setAttribute("textLength", text.dataset.width);
      text.setAttribute("lengthAdjust", "spacingAndGlyphs");
    }
  }
}

fitFigures();
addEventListener("resize", fitFigures);
addEventListener("toggle", fitFigures, true);
addEventListener("beforeprint", fitFigures);
