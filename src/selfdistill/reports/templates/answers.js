const SIGNS = { passed: "✓ passed", failed: "✗ failed", tied: "= tied", truncated: "✗ cut off", unanswered: "✗ no answer", unjudged: "? unjudged", errors: "! error" };
const TONES = { passed: "good", failed: "bad", truncated: "bad", unanswered: "bad" };
const tasks = new Map(data.tasks.map((task) => [task.name, task]));
let task = data.tasks[0];

// A pattern is a string with a character for each run of the task: the place of the bucket in `data.buckets`, or "-".
const bucket = (pattern, run) => data.buckets[pattern[task.runs.indexOf(run)]];
const kind = (pattern, run) => data.kinds[pattern[task.runs.indexOf(run)]] || null;
const differ = (pattern, runs) => new Set(runs.map((run) => kind(pattern, run)).filter(Boolean)).size > 1;

// The filters of a task by their names in the address: the label, and a test for patterns.
function filters() {
  if (task.filters) return task.filters;
  const found = task.filters = new Map([["", ["all", () => true]]]);
  const { seed } = data, others = task.runs.filter((run) => run !== seed);
  if (task.runs.length > 1) found.set("differ", ["outcomes differ", (pattern) => differ(pattern, task.runs)]);
  const pairs = data.pairs.filter((pair) => pair.every((run) => others.includes(run)));
  for (const [a, b] of pairs)
    found.set(`differ:${a}:${b}`, [`${a} differs from ${b}`, (pattern) => differ(pattern, [a, b])]);
  if (graded(seed)) for (const run of others) {
    found.set(`lost:${run}`, [`forgotten by ${run}: ${seed} right, ${run} wrong`, (pattern) => kind(pattern, seed) === "right" && kind(pattern, run) === "wrong"]);
    found.set(`won:${run}`, [`learnt by ${run}: ${seed} wrong, ${run} right`, (pattern) => kind(pattern, seed) === "wrong" && kind(pattern, run) === "right"]);
  }
  return found;
}

function graded(run) {
  return task.runs.includes(run) && Object.keys(task.patterns).some((pattern) => bucket(pattern, run));
}

const chosen = (state) => filters().get(state.filter) || filters().get("");
const outcomes = (state, but) => task.runs.filter((run) => run !== but && state[`is:${run}`]);
const named = (pattern, run) => bucket(pattern, run) || "none";

// Whether the pattern passes the filter and the chosen outcome of each run except `but`.
function passes(state, pattern, but) {
  return chosen(state)[1](pattern) && outcomes(state, but).every((run) => named(pattern, run) === state[`is:${run}`]);
}

function texts(row) {
  return [`item ${row.row}`, row.id, row.reference, ...row.prompt.map(([, content]) => content),
    ...row.answers.flatMap((answer) => [answer.reason, answer.expected, answer.found, ...answer.texts.flat()])];
}

const said = (state) => task.rows.filter((row) => holds(row, state.q, texts)
  && (!state.reason || row.answers.some((answer) => answer.reason === state.reason)));
const find = (state) => said(state).filter((row) => passes(state, row.pattern));

// How many items pass a test: among the items found on this page and, if the page is a sample, in the whole task.
function counter(state) {
  const here = {};
  for (const { pattern } of said(state)) here[pattern] = (here[pattern] || 0) + 1;
  const sampled = task.rows.length < task.items && !state.q.trim() && !state.reason;
  return (test) => {
    const n = number(total(here, test));
    return sampled ? `${n} of ${number(total(task.patterns, test))}` : n;
  };
}

function total(patterns, test) {
  return Object.entries(patterns).reduce((sum, [pattern, n]) => sum + (test(pattern) ? n : 0), 0);
}

function refill(state) {
  task = tasks.get(state.task) || data.tasks[0];
  fill(at("task"), task.name, ...data.tasks.map(({ name, items }) => [name, `${name} (${number(items)})`]));
  const counts = new Map();
  for (const row of task.rows.filter((row) => passes(state, row.pattern)))
    for (const reason of new Set(row.answers.map((answer) => answer.reason)))
      if (reason !== undefined) counts.set(reason, (counts.get(reason) || 0) + 1);
  fillReasons(counts, state.reason);
  at("about").textContent = about();
  at("filters").replaceChildren(...controls(state));
}

function about() {
  const parts = [];
  if (task.rows.length < task.items) {
    const differing = (pattern) => differ(pattern, task.runs);
    const here = task.rows.filter((row) => differing(row.pattern)).length;
    parts.push(`This page holds a sample of ${number(task.rows.length)} of the ${counted(task.items, "item")}: ${number(here)} of the `
      + `${number(total(task.patterns, differing))} on which outcomes differ, and ${number(task.rows.length - here)} others. The sample is the `
      + `same each time. All answers are in arms/*/evaluate/${task.name}.`);
  }
  if (task.damaged) parts.push(`Damaged in this task's files: ${counted(task.damaged, "line")}.`);
  return parts.join(" ");
}

function controls(state) {
  const counted = counter(state), all = filters(), seed = data.seed;
  const others = (pattern) => outcomes(state).every((run) => named(pattern, run) === state[`is:${run}`]);
  const button = (key, label) => {
    const [name, test] = all.get(key), pressed = all.has(state.filter) ? state.filter === key : !key;
    const n = counted((pattern) => test(pattern) && others(pattern));
    const node = element("button", { type: "button", title: name }, ...(label ? [`${label} `] : []), element("b", {}, n));
    node.setAttribute("aria-pressed", pressed);
    if (!label) node.setAttribute("aria-label", `${name}: ${n}`);
    node.addEventListener("click", () => browser.change({ filter: pressed ? "" : key }));
    return node;
  };
  const general = [...all].filter(([key]) => !/^(lost|won):/.test(key)).map(([key, [name]]) => button(key, name));
  const won = [...all.keys()].some((key) => key.startsWith("won:"));
  const head = element("tr", {}, element("th", {}, "arm"), element("th", {}, "outcome"),
    ...(won ? [`forgotten: ${shorten(seed, 20)} right, arm wrong`, `learnt: ${shorten(seed, 20)} wrong, arm right`] : []).map((text) => element("th", {}, text)));
  const lines = task.runs.map((run) => element("tr", {}, element("th", { title: run }, icon(run), run),
    element("td", {}, outcome(state, run, counted)),
    ...(won ? ["lost", "won"] : []).map((word) => element("td", {}, all.has(`${word}:${run}`) ? button(`${word}:${run}`) : ""))));
  return [element("div", { className: "chips" }, ...general),
    element("table", { className: "filters" }, element("thead", {}, head), element("tbody", {}, ...lines))];
}

function outcome(state, run, counted) {
  const select = element("select", {}), key = `is:${run}`;
  select.setAttribute("aria-label", `Outcome of ${run}`);
  const names = [...data.buckets, "none"].filter((name) => Object.keys(task.patterns).some((pattern) => named(pattern, run) === name));
  fill(select, state[key], ["", "any"], ...names.map((name) => {
    const n = counted((pattern) => named(pattern, run) === name && passes(state, pattern, run));
    return [name, `${SIGNS[name] || "no grade"} (${n})`];
  }));
  select.addEventListener("change", () => browser.change({ [key]: select.value }));
  return select;
}

function icon(run) {
  return at("icons").children[data.runs.indexOf(run)].cloneNode(true);
}

const isLong = (text) => text.length > 400 || text.split("\n").length > 8;

function block(label, text, tools) {
  if (isLong(text)) return folded(label, inLine(text, tools), ...reply(text, tools, { tabIndex: 0 }));
  return element("div", {}, element("h3", {}, label), ...reply(text || "(empty)", tools));
}

function prompt(row) {
  if (row.prompt.length === 1) return block("prompt", row.prompt[0][1]);
  return row.prompt.length ? folded("prompt", asked(row.prompt), ...turns(row.prompt)) : null;
}

function side(row, place) {
  const run = task.runs[place], answer = row.answers[place], name = bucket(row.pattern, run);
  const ended = (how) => answer.texts.some(([, finish]) => finish === how);
  const cutOff = ended("loop") ? "stopped in a loop" : ended("length") && name !== "truncated" && name !== "unanswered" ? "cut off at the limit" : null;
  const said = (text) => text === null ? "(no answer: the reply ends inside its think trace)" : text || "(empty)";
  const nodes = ([text, , error]) => reply(error ? `(error: ${error})` : said(text), hasTools(row), { tabIndex: 0 });
  const thought = (trace) => trace ? folded("think trace", trace, written(trace, { tabIndex: 0 })) : null;
  return element("div", { className: "side" },
    element("h3", {}, element("span", {}, icon(run), run),
      name ? element("span", { className: `tag ${TONES[name] || ""}` }, SIGNS[name]) : null,
      cutOff ? element("span", { className: "finish" }, cutOff) : null),
    answer.reason === undefined ? null : element("p", {}, element("span", { className: "reason", dir: "auto" }, answer.reason),
      ...(typeof answer.value === "number" ? [`, value ${answer.value.toFixed(2)}`] : []),
      ...(values(answer) ? ["; ", values(answer, hasTools(row))] : [])),
    ...answer.texts.flatMap((text) => [thought(text[3]), ...nodes(text)]),
    answer.texts.length ? null : element("p", { className: "nothing" }, "no answer on file"),
    answer.more ? element("p", { className: "nothing" }, `and ${counted(answer.more, "more sample")}`) : null);
}

// Up to four answers per line; more answers are spread evenly over several lines.
function sides(row) {
  const node = element("div", { className: "sides" }, ...task.runs.map((_, place) => side(row, place)));
  node.style.setProperty("--sides", Math.ceil(task.runs.length / Math.ceil(task.runs.length / 4)));
  return node;
}

function card(row) {
  return element("article", { id: `row-${row.row}` },
    element("div", { className: "head" }, element("span", { className: "number", title: row.id }, `item ${row.row}`)),
    element("div", { className: "asked" }, prompt(row), row.reference === null ? null : block("reference", row.reference, hasTools(row))),
    sides(row));
}

// The chosen filters in words, next to the count.
function note(state) {
  const parts = [...(filters().has(state.filter) && state.filter ? [chosen(state)[0]] : []),
    ...outcomes(state).map((run) => `${run} ${(SIGNS[state[`is:${run}`]] || "- no grade").slice(2)}`)];
  return parts.length ? `: ${parts.join(", ")}` : "";
}

const browser = browse({ noun: "item", start: data.start, keys: ["task", "filter", "reason", ...data.runs.map((run) => `is:${run}`)], refill, find, card, note });
at("task").addEventListener("change", () => browser.change({ task: at("task").value, reason: "" }));
at("reason").addEventListener("change", () => browser.change({ reason: at("reason").value }));
browser.start();
