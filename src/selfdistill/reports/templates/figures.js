// The layout of a figure has room for the widths in `data-width`. In a font that is wider its text is condensed to them,
// so that nothing is cut off or overlaps. What is hidden has no width, so it is fitted once it is shown.
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
addEventListener("beforeprint", fitFigures);
