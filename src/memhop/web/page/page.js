// The page: what is typed is asked at once, and the answer is drawn over the sentences.
// Every text is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const story = $("story"), question = $("question"), chooser = $("model");
const FAINT = 0.005; // of what is read: shown as 0.00, so not shown at all
const SENTENCES = 1000, CHARACTERS = 1000; // more the service does not take
const AGAIN = 1000; // milliseconds before a server that did not answer is asked again
const SETTLED = 700; // milliseconds without a key, before the link changes and the answer is said

let models = []; // as /api/models lists them
let drawn = null; // the answer on the page
let expected = null; // the right answer, while an example stands as it was made
let missing = null; // the model that a link names, where it is not here
let turn = 0; // counts the edits, so that what comes late is known to be late

// --- asking ---------------------------------------------------------------------------------

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

// What the server replies; asked again while it is away or has too much to do, unless `late()`.
async function ofServer(path, body, late = () => false) {
  const sent = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let tries = 0; ; tries++) {
    const reply = await fetch(path, sent).catch(() => null);
    const value = (await reply?.json().catch(() => null)) ?? {};
    if (reply?.ok) {
      if (tries) say("");
      return value;
    }
    const problem = !reply ? "The server does not answer. Is it still running?"
      : value.detail ? `The server says: ${value.detail}.` : `The server failed (${reply.status}).`;
    if (reply && reply.status !== 429) throw new Error(problem);
    say(problem);
    await pause(AGAIN);
    if (late()) throw new Error(problem);
  }
}

let busy = false, changed = false;

// One request at a time; what is typed meanwhile is asked next, all at once.
async function ask() {
  changed = true;
  document.body.dataset.state = "asking";
  if (busy) return;
  busy = true;
  while (changed) {
    changed = false;
    await askOnce();
  }
  busy = false;
  document.body.dataset.state = "answered";
}

async function askOnce() {
  const lines = story.value.split("\n");
  const told = lines.flatMap((line, index) => (wordsOf(line).length ? [index] : []));
  let answer = null, problem = tooMuch(lines);
  if (!problem && wordsOf(question.value).length) {
    const body = { model: chooser.value, story: told.map((index) => lines[index]), question: question.value };
    try {
      answer = { ...await ofServer("/api/answer", body, () => changed), told };
    } catch (error) {
      problem = error.message;
    }
  }
  if (changed) return;
  say(problem);
  draw(answer);
}

function tooMuch(lines) {
  if (lines.length > SENTENCES) return `A story has at most ${SENTENCES} lines, this has ${lines.length}.`;
  const long = lines.findIndex((line) => line.length > CHARACTERS);
  return long < 0 ? "" : `A line has at most ${CHARACTERS} characters, line ${long + 1} has ${lines[long].length}.`;
}

function say(problem) {
  $("problem").hidden = !problem;
  $("problem").textContent = problem;
}

// --- words, as the model splits them ---------------------------------------------------------

// The pieces of a line: each with its text, and the word that the model reads, if it is one.
function piecesOf(line) {
  const pieces = line.split(/(\s+)/).map((text) => ({ text, word: text.trim().toLowerCase() }));
  for (const piece of pieces.toReversed()) {
    piece.word = piece.word.replace(/[.!?]+$/, "");
    if (piece.word) break; // only the end of a sentence loses its punctuation
  }
  return pieces;
}

const wordsOf = (line) => piecesOf(line).flatMap((piece) => piece.word || []);

// --- drawing ---------------------------------------------------------------------------------

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function bar(share) {
  const element = made("i");
  element.style.setProperty("--share", share);
  return element;
}

const percent = (share) => `${Math.round(100 * share)}%`;

// Rows below the text: the same words, those that the model does not know underlined.
function drawWords(words, line, unknown) {
  const pieces = line.length > CHARACTERS ? [{ text: line }] : piecesOf(line);
  const key = line + "\n" + pieces.map((piece) => unknown.has(piece.word)).join();
  if (words.dataset.key === key) return;
  words.dataset.key = key;
  words.replaceChildren(
    ...pieces.map(({ text, word }) => (unknown.has(word) ? made("mark", { textContent: text }) : text)),
  );
}

function rowsFor(lines) {
  const rows = $("lines");
  while (rows.children.length > lines.length) rows.lastChild.remove();
  while (rows.children.length < lines.length) {
    const number = made("span", { textContent: rows.children.length + 1 });
    rows.append(made("div", { className: "row" }, number, made("div", { className: "words" }), made("div", { className: "hops" })));
  }
  return [...rows.children];
}

function drawStory() {
  const lines = story.value.split("\n", SENTENCES);
  const unknown = new Set(drawn?.unknown_words);
  const places = new Map(drawn?.told.map((line, place) => [line, place]));
  const forgotten = drawn ? drawn.told.length - model().memory_slots : 0;
  const strongest = drawn?.attention.map((hop) => Math.max(...hop));
  rowsFor(lines).forEach((row, index) => {
    drawWords(row.children[1], lines[index], unknown);
    const place = places.get(index);
    const shares = place === undefined ? [] : drawn.attention.map((hop) => hop[place]);
    const tops = shares.map((share, hop) => share > FAINT && share === strongest[hop]);
    const key = shares.join() + tops;
    row.classList.toggle("read", tops.includes(true));
    row.classList.toggle("forgotten", place < forgotten);
    if (row.dataset.shares === key) return;
    row.dataset.shares = key;
    row.lastChild.replaceChildren(...shares.map((share, hop) => cell(share, tops[hop])));
  });
  let asked = $("asked").firstChild;
  if (!asked) $("asked").append((asked = made("div", { className: "words" })));
  drawWords(asked, question.value, unknown);
}

function cell(share, top) {
  const element = made("span", { className: top ? "cell top" : "cell" });
  if (share >= FAINT) element.append(bar(share), made("b", { textContent: share.toFixed(2) }));
  return element;
}

function draw(answer) {
  drawn = answer;
  drawStory();
  drawAnswer();
  drawReads();
  drawNotes();
  settle();
}

function drawAnswer() {
  if (!drawn) {
    const hint = wordsOf(question.value).length ? "No answer." : "Ask a question.";
    $("answer").replaceChildren(made("p", { className: "faint", textContent: hint }));
    return;
  }
  const ranked = [drawn, ...drawn.runners_up].filter((one, rank) => !rank || one.probability >= FAINT);
  const shares = ranked.map((one, rank) =>
    made("div", { className: rank ? "" : "first" },
      made("dt", { textContent: one.answer }),
      made("dd", {}, bar(one.probability)),
      made("dd", { textContent: percent(one.probability) })));
  const verdict = expected === null ? [] : [
    drawn.answer === expected
      ? made("p", { className: "right", textContent: "✓ right" })
      : made("p", { className: "wrong", textContent: `✗ the right answer: ${expected}` }),
  ];
  $("answer").replaceChildren(
    made("p", { className: "best", textContent: drawn.answer }), ...verdict,
    made("dl", { className: "shares" }, ...shares));
}

function drawReads() {
  const lines = story.value.split("\n");
  $("reads").replaceChildren(...(drawn?.attention ?? []).map((hop, index) => {
    const share = Math.max(0, ...hop);
    const line = drawn.told[hop.indexOf(share)];
    if (share < FAINT) return made("li", { className: "faint", textContent: `Hop ${index + 1} read no sentence.` });
    const said = made("small", { textContent: `Hop ${index + 1} · ${percent(share)} on line ${line + 1}` });
    const button = made("button", { type: "button" }, said, lines[line]);
    button.addEventListener("click", () => show(line));
    return made("li", {}, button);
  }));
}

function drawNotes() {
  const notes = [];
  if (missing !== null) notes.push(`The link names the model ${missing}, which is not here: ${chooser.value} answers.`);
  const unknown = drawn?.unknown_words ?? [];
  if (unknown.length) {
    const shown = unknown.slice(0, 8).join(", ") + (unknown.length > 8 ? ` and ${unknown.length - 8} more` : "");
    notes.push(`${shown}: never seen in training, so the model reads nothing in ${unknown.length > 1 ? "their" : "its"} place.`);
  }
  const forgotten = drawn ? drawn.told.length - model().memory_slots : 0;
  if (forgotten > 0) {
    notes.push(`The memory holds ${model().memory_slots} sentences: the first ${forgotten} of this story are forgotten.`);
  }
  const text = notes.join("\n");
  if ($("notes").dataset.text === text) return; // nothing new to read aloud
  $("notes").dataset.text = text;
  $("notes").replaceChildren(...notes.map((note) => made("li", { textContent: note })));
}

// Select a line of the story, in view.
function show(line) {
  const lines = story.value.split("\n");
  const start = lines.slice(0, line).join("\n").length + (line ? 1 : 0);
  $("lines").children[line].scrollIntoView({ block: "nearest" });
  story.focus({ preventScroll: true });
  story.setSelectionRange(start, start + lines[line].length);
}

// --- models and examples ---------------------------------------------------------------------

const model = () => models[chooser.selectedIndex];

async function choose() {
  const { name, words, memory_slots, hops, test_error } = model();
  document.documentElement.style.setProperty("--hops", hops);
  document.documentElement.classList.toggle("many", hops > 4);
  $("hops").replaceChildren(...Array.from({ length: hops }, (_, hop) => made("span", {}, made("span", { textContent: "hop ", className: "wide" }), `${hop + 1}`)));
  const error = test_error === null ? "" : ` · ${test_error.toFixed(1)}% wrong of its test questions`;
  $("about").textContent = `knows ${words.toLocaleString("en")} words · remembers ${memory_slots} sentences${error}`;
  $("examples").replaceChildren();
  $("examples-about").textContent = "Finding out what this model knows …";
  delete document.body.dataset.tasks;
  const tasks = await ofServer(`/api/tasks?model=${encodeURIComponent(name)}`);
  if (name !== chooser.value) return [];
  $("examples-about").textContent = tasks.length
    ? "Each click makes a new story; beside it stands how often this model is wrong on 100 such questions."
    : "This model knows none of the kinds of story that can be generated: write one in its own words.";
  $("examples").replaceChildren(...tasks.map(exampleButton));
  document.body.dataset.tasks = tasks.length;
  return tasks;
}

function exampleButton({ task, title, error }) {
  const wrong = made("small", { textContent: ` ${error.toFixed(0)}% wrong` });
  const button = made("button", { type: "button" }, `${task} ${title}`, wrong);
  button.addEventListener("click", () => takeExample(task).catch((problem) => say(problem.message)));
  return button;
}

// What stood on the page before is one step back.
async function takeExample(task) {
  const asked = ++turn;
  document.body.dataset.state = "asking";
  const example = await ofServer(`/api/example?task=${task}&model=${encodeURIComponent(chooser.value)}`, null, () => turn !== asked);
  if (turn !== asked) return; // somebody has typed meanwhile
  if (story.value || question.value) history.replaceState(null, "", link());
  const before = location.hash;
  story.value = example.story.join("\n");
  question.value = example.question;
  expected = example.answer;
  if (before) history.pushState(null, "", link());
  edited();
}

// --- the link --------------------------------------------------------------------------------

// Behind the #, which a browser keeps to itself: no server sees it in a log.
function link() {
  const parts = new URLSearchParams({ model: chooser.value, story: story.value, question: question.value });
  return `#${parts}`;
}

// Takes model, story and question from the address; whether a story or a question was in it.
function readLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const named = models.findIndex((one) => one.name === parts.get("model"));
  if (named >= 0) chooser.selectedIndex = named;
  missing = parts.has("model") && named < 0 ? parts.get("model") : null;
  if (!parts.has("story") && !parts.has("question")) return false;
  story.value = parts.get("story") ?? "";
  question.value = parts.get("question") ?? "";
  expected = null;
  return true;
}

async function share() {
  history.replaceState(null, "", link());
  try {
    await navigator.clipboard.writeText(location.href);
    $("copied").textContent = "Copied.";
  } catch {
    $("copied").textContent = "The link is in the address bar.";
  }
}

// --- from the first moment on ----------------------------------------------------------------

function edited() {
  turn++;
  drawStory();
  ask();
  $("copied").textContent = "";
}

let settling = 0;

// After the last key: the link, and the answer for those who hear it.
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    history.replaceState(null, "", link());
    const heard = drawn ? `${drawn.answer}, ${percent(drawn.probability)}` : "";
    if ($("heard").textContent !== heard) $("heard").textContent = heard;
  }, SETTLED);
}

// Put text in as if it were typed: it can be undone.
function insert(event, text) {
  event.preventDefault();
  document.execCommand("insertText", false, text);
}

function listen() {
  for (const field of [story, question]) {
    field.addEventListener("input", () => {
      expected = null;
      edited();
    });
  }
  story.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (/[.!?][ \t]+\S/.test(text)) insert(event, text.replace(/([.!?])[ \t]+(?=\S)/g, "$1\n"));
  });
  question.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (text.includes("\n")) insert(event, text.replace(/\s*\n\s*/g, " "));
  });
  question.addEventListener("beforeinput", (event) => {
    if (event.inputType === "insertLineBreak") event.preventDefault();
  });
  chooser.addEventListener("change", () => {
    drawn = missing = null;
    choose().catch((problem) => say(problem.message));
    edited();
  });
  window.addEventListener("hashchange", () => {
    const name = chooser.value;
    readLink();
    if (name !== chooser.value) choose().catch((problem) => say(problem.message));
    edited();
  });
  $("share").addEventListener("click", share);
}

async function begin() {
  models = await ofServer("/api/models");
  chooser.replaceChildren(...models.map(({ name, test_error }) =>
    made("option", { value: name, textContent: test_error === null ? name : `${name} (${test_error.toFixed(1)}% wrong)` })));
  listen();
  const linked = readLink();
  if (story.value || question.value) edited();
  const tasks = await choose();
  if (!linked && !turn && tasks.length) await takeExample(tasks.at(-1).task);
  drawStory();
  document.body.dataset.ready = "";
}

begin().catch((problem) => say(problem.message));
