"use strict";
// Shared by the browsers of rewrites and answers. Text from the data becomes text nodes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const number = (n) => n.toLocaleString("en");
const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

function element(name, props, ...children) {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function shorten(text, limit) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > limit ? line.slice(0, limit) + "…" : line;
}

// A reply is stored as a text, then its calls of tools as JSON between marks. Returns its parts, strings and calls
// {name, arguments}, if the row defines `tools`; a call that can't be read stays text.
function parts(text, tools) {
  const found = [];
  for (const [place, part] of (tools ? text : "").split(/<tool_call>([^]*?)<\/tool_call>/).entries()) {
    const call = place % 2 ? parsed(part) : null;
    if (call && typeof call.name === "string" && call.arguments && typeof call.arguments === "object") found.push(call);
    else if (place % 2) return [text];
    else if (part.trim()) found.push(part.trim());
  }
  return found.some((part) => typeof part !== "string") ? found : [text];
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return null; }
}

// JSON in which the order of keys makes no difference.
function same(value) {
  if (Array.isArray(value)) return `[${value.map(same)}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => JSON.stringify(key) + same(value[key]))}}`;
}

// Control characters that JSON wrote as escapes, as the rest of the page shows them.
const seen = (text) => text.replace(/[\x00-\x08\x0b-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)));
const plain = (value) => typeof value === "string" && value.includes("\n") ? seen(value) : JSON.stringify(value, null, 1);

// A call as a block: the tool, then a line per argument. With `mark`, what none of the calls `others` has is marked.
function call(made, others, mark) {
  const twins = (others || []).filter((other) => other.name === made.name);
  const own = (held, text) => mark && !held ? element(mark, {}, text) : text;
  const lines = Object.entries(made.arguments).flatMap(([key, value]) => [element("dt", { dir: "auto" }, seen(key)),
    element("dd", { dir: "auto" }, own(twins.some((twin) => key in twin.arguments && same(twin.arguments[key]) === same(value)), plain(value)))]);
  return element("div", { className: "call" }, element("span", {}, "call "), element("b", { dir: "auto" }, own(twins.length, seen(made.name))),
    lines.length ? element("dl", {}, ...lines) : element("span", {}, " without arguments"));
}

const written = (text, props = {}) => element("pre", { dir: "auto", ...props }, text);

// The text and the calls of a reply as nodes.
function reply(text, tools, props) {
  return parts(text, tools).map((part) => typeof part === "string" ? written(part, props) : call(part));
}

// The same in one line: weather(city: "Lima").
function inLine(text, tools) {
  const one = ({ name, arguments: given }) => `${seen(name)}(${Object.entries(given).map(([key, value]) => `${seen(key)}: ${JSON.stringify(value)}`).join(", ")})`;
  return parts(text, tools).map((part) => typeof part === "string" ? part : one(part)).join(" ");
}

const hasTools = (row) => row.prompt.some(([role]) => role === "tools");

// What a grader read from the reference and from the answer; null if it read nothing.
function values(row, tools) {
  if (row.expected === null && row.found === null) return null;
  const code = (value) => value === null ? "nothing" : element("code", { dir: "auto" }, shorten(inLine(value, tools), 160));
  return element("span", { className: "values" }, "expected ", code(row.expected), ", found ", code(row.found));
}

// Tools are folded to their signatures, think traces to their beginning; results are indented below the calls.
function turns(prompt) {
  const tools = prompt.some(([role]) => role === "tools");
  return prompt.map(([role, content]) => {
    const turn = (...nodes) => element("div", { className: role === "tool" ? "turn result" : "turn" }, ...nodes);
    if (role === "think trace") return turn(folded(role, content, written(content)));
    if (role === "tools") return turn(element("b", {}, role), ...content.split("\n").map(definition));
    const result = role === "tool" ? parsed(content) : null;
    const shown = result && typeof result === "object" ? [written(JSON.stringify(result, null, 2))] : reply(content, tools);
    return turn(element("b", {}, role === "tool" ? "result" : role), ...shown);
  });
}

function definition(line) {
  const tool = parsed(line), own = tool && tool.function;
  if (!own) return written(line);
  const names = Object.keys((own.parameters && own.parameters.properties) || {});
  return folded("", `${own.name}(${names.join(", ")}) ${own.description || ""}`, written(JSON.stringify(own, null, 2)));
}

function asked(prompt) {
  return (prompt.filter(([role]) => role === "user").at(-1) || prompt.at(-1) || ["", ""])[1];
}

function folded(label, text, ...parts) {
  return element("details", {},
    element("summary", {}, `${label} `, element("span", { dir: "auto" }, shorten(text, 220))), ...parts);
}

// Options as [value, label]; the first one stands for no choice.
function fill(select, value, ...options) {
  select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  select.value = value;
  if (select.selectedIndex < 0) select.value = "";
}

// The reasons in `counts`, most frequent first.
function fillReasons(counts, chosen) {
  if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]).filter(([reason], place) => place < 300 || reason === chosen);
  fill(at("reason"), chosen, ["", "every reason"], ...sorted.map(([reason, n]) => [reason, `${shorten(reason, 60)} (${number(n)})`]));
}

const haystacks = new Map();
function holds(row, q, texts) {
  const wanted = q.toLowerCase().trim();
  if (!wanted) return true;
  if (!haystacks.has(row)) haystacks.set(row, texts(row).join("\n").toLowerCase());
  return haystacks.get(row).includes(wanted);
}

// Shows `find(state)` page by page, each row as `card(row)`. The address holds the state, so report.html can link to a
// selection of rows. An address without a selection opens at `start`. `refill(state)` updates the controls; `note(state)` ends the line with the count.
function browse({ noun, keys, start = {}, refill, find, card, note = () => "" }) {
  const PER_PAGE = 20;
  const state = { q: "", page: 1 };

  function show() {
    const rows = find(state);
    const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
    state.page = Math.min(Math.max(1, state.page), pages);
    const first = (state.page - 1) * PER_PAGE;
    const page = rows.slice(first, first + PER_PAGE);
    at("rows").replaceChildren(...page.map(card));
    if (!page.length) at("rows").append(element("p", { className: "nothing" }, `No ${noun} matches.`));
    at("count").textContent = (page.length
      ? `${number(first + 1)}–${number(first + page.length)} of ${counted(rows.length, noun)}` : counted(0, noun)) + note(state);
    at("page").textContent = `page ${number(state.page)} of ${number(pages)}`;
    at("previous").disabled = state.page === 1;
    at("next").disabled = state.page === pages;
  }

  function writeAddress() {
    const words = new URLSearchParams();
    for (const key of ["q", ...keys]) if (state[key]) words.set(key, state[key]);
    if (state.page > 1) words.set("page", state.page);
    history.replaceState(null, "", "#" + words);
  }

  function readAddress() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const key of ["q", ...keys]) state[key] = words.get(key) || (words.size ? "" : start[key] || "");
    state.page = Number.parseInt(words.get("page") || "1", 10) || 1;
    at("q").value = state.q;
    refill(state);
    show();
  }

  function change(values) {
    Object.assign(state, { page: 1 }, values);
    refill(state);
    show();
    writeAddress();
  }

  function turn(by) {
    state.page += by;
    show();
    writeAddress();
    at("count").scrollIntoView();
  }

  let waiting = 0;
  at("q").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ q: at("q").value }), 150);
  });
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  window.addEventListener("hashchange", readAddress);
  return { change, show, start: readAddress };
}
