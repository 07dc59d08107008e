const MAX_CELLS = 4_000_000;

// Words, numbers, single characters, spaces. Scripts without spaces are split by character.
const TOKEN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|\d+(?:[.,]\d+)*|[\p{L}\p{M}\p{N}_]+|\s+|[^]/gu;
const SPACE = /^\s/;

// Longest common subsequence: two arrays that mark the shared tokens. Null if the texts are too long.
function common(a, b) {
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) start++;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
  const n = endA - start, m = endB - start, width = m + 1;
  if (n * m > MAX_CELLS) return null;
  const length = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      length[i * width + j] = a[start + i] === b[start + j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
  const inA = new Uint8Array(a.length).fill(1), inB = new Uint8Array(b.length).fill(1);
  inA.fill(0, start, endA);
  inB.fill(0, start, endB);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[start + i] === b[start + j]) { inA[start + i++] = 1; inB[start + j++] = 1; }
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return [inA, inB];
}

// Tokens as text nodes and marked elements. A space is marked only between two marked words.
function marked(tokens, sharedWords, mark) {
  let word = 0;
  const own = tokens.map((token) => SPACE.test(token) ? null : !sharedWords[word++]);
  for (let i = 0; i < own.length; i++)
    if (own[i] === null) own[i] = i > 0 && i + 1 < own.length && own[i - 1] && own[i + 1];
  const parts = [];
  for (let i = 0, j = 0; i < tokens.length; i = j) {
    while (j < tokens.length && own[j] === own[i]) j++;
    const text = tokens.slice(i, j).join("");
    parts.push(own[i] ? element(mark, {}, text) : text);
  }
  return parts;
}

function side(title, chosen, trace, fault, parts, calls) {
  return element("div", { className: chosen ? "side chosen" : "side" },
    element("h3", {}, title + (chosen ? " · trained on" : "")),
    trace ? folded("think trace", trace, written(trace, { tabIndex: 0 })) : null,
    fault ? element("p", { className: "small" }, `Not trained on with its trace: ${fault}.`) : null,
    parts.length || !calls.length ? element("pre", { dir: "auto", tabIndex: 0 }, ...parts) : null, ...calls);
}

// The text and the calls of a response.
function split(text, tools) {
  const found = parts(text, tools);
  return [found.filter((part) => typeof part === "string").join("\n"), found.filter((part) => typeof part !== "string")];
}

function pair(row) {
  const tools = hasTools(row), marks = at("marks").checked && row.rewrite;
  const [before, had] = split(row.original, tools), [after, has] = split(row.rewrite || "", tools);
  let original = [before], rewrite = [after], note = "";
  if (marks) {
    const a = before.match(TOKEN) || [], b = after.match(TOKEN) || [];
    const words = (tokens) => tokens.filter((token) => !SPACE.test(token));
    const shared = common(words(a), words(b));
    if (shared) {
      original = marked(a, shared[0], "del");
      rewrite = marked(b, shared[1], "ins");
    } else note = " · too long to mark the differences";
  }
  if (!row.rewrite) rewrite = [row.error ? "" : row.rewrite === null ? "(no answer: the reply ends inside its think trace)" : "(empty)"];
  if (row.error) rewrite = [`(error: ${row.error})`];
  const text = (shown, calls) => calls.length ? shown.filter((part) => part !== "") : shown;
  return element("div", { className: "sides", style: `--sides: ${row.edit === null ? 2 : 3}` },
    side("original", row.trained === "original", null, null, text(original, had), had.map((each) => call(each, has, marks && "del"))),
    side("rewrite" + (row.finish === "length" ? " · cut off" : row.finish === "loop" ? " · stopped in a loop" : "") + note,
      row.trained === "rewrite", row.trace, row.fault, text(rewrite, has), has.map((each) => call(each, had, marks && "ins"))),
    row.edit === null ? null : side("edit", true, null, null, [row.edit], []));
}

const DECISIONS = { good: "by hand: accepted", original: "by hand: the original", edit: "by hand: an edit" };

const OUTCOMES = {
  rewrite: ["good", "✓ accepted"], unchecked: ["", "○ kept, content not checked"], original: ["bad", "✗ rejected"],
};

function card(row) {
  const [look, outcome] = OUTCOMES[row.source];
  return element("article", { id: `row-${row.row}` },
    element("div", { className: "head" },
      element("span", { className: "number", title: row.id }, `row ${row.row}`),
      element("span", { className: `tag ${look}` }, outcome),
      row.mark ? element("span", { className: "tag" }, DECISIONS[row.mark]) : null,
      element("span", { className: "reason", dir: "auto" }, row.reason + (row.outcome === "unjudged" ? " (could not be judged)" : "")),
      values(row, hasTools(row))),
    folded("prompt", asked(row.prompt), ...turns(row.prompt)), pair(row));
}

function texts(row) {
  return [...row.prompt.map(([, content]) => content), row.original, row.rewrite, row.edit, row.trace, row.fault, row.reason, row.expected, row.found,
    row.error, row.id, `row ${row.row}`];
}

const inSource = (row, source) => !source || (source === "hand" ? row.mark : row.source === source);

function find(state) {
  return data.filter((row) => inSource(row, state.source)
    && (!state.reason || row.reason === state.reason) && holds(row, state.q, texts));
}

function refill(state) {
  const rows = (source) => number(data.filter((row) => row.source === source).length);
  const unchecked = data.some((row) => row.source === "unchecked");
  const byHand = data.filter((row) => row.mark).length;
  const accepted = !unchecked || data.some((row) => row.source === "rewrite");
  fill(at("source"), state.source, ["", unchecked ? "kept or not" : "accepted or not"],
    ...(accepted ? [["rewrite", `accepted (${rows("rewrite")})`]] : []),
    ...(unchecked ? [["unchecked", `kept, content not checked (${rows("unchecked")})`]] : []),
    ["original", `${unchecked ? "rejected" : "not accepted"} (${rows("original")})`],
    ...(byHand ? [["hand", `decided by hand (${number(byHand)})`]] : []));
  const counts = new Map();
  for (const row of data)
    if (inSource(row, state.source)) counts.set(row.reason, (counts.get(row.reason) || 0) + 1);
  fillReasons(counts, state.reason);
}

const browser = browse({ noun: "row", keys: ["source", "reason"], refill, find, card });
at("source").addEventListener("change", () => browser.change({ source: at("source").value, reason: "" }));
at("reason").addEventListener("change", () => browser.change({ reason: at("reason").value }));
at("marks").addEventListener("change", browser.show);
browser.start();
