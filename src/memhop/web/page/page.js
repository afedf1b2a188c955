// The page: what is typed is read and asked at once, and the answer is drawn over the sentences.
// How a text is split, and which words are known, only the server says (/api/read).

import { counted, draw, drawStory, made, markStale, page, percent, unknownWords } from "./draw.js";
import { $, caretLine, insert, isReplacing, question, replace, story } from "./fields.js";
import { ofServer } from "./server.js";

const chooser = $("model");
const SENTENCES = 1000, CHARACTERS = 1000; // more the service does not take
const SETTLED = 700; // milliseconds without a key, before the link changes and the answer is said
const EXAMPLE = [story.placeholder, question.placeholder];
const SLOW = 400; // milliseconds before an old answer is said to be old

let turn = 0; // counts the edits, so that what comes late is known to be late
let keepLines = false; // each line is one sentence, whatever it holds
let beforeRewrite = null; // the story as it was written, to know it again when it is undone
let lastStory = "", joined = null; // what the last edit left; the story before two lines were joined
let lastNumber = 0; // the last line number that was dropped
let isPasted = false, isPut = false, isComposing = false; // how the text came here

function say(problem) {
  $("problem").hidden = !problem;
  $("problem").textContent = problem;
}

// Of the question itself: what is on the page answers an earlier one.
function sayLate(problem) {
  say(problem);
  if (problem) markStale(problem);
}

const ask = (path, options) => ofServer(path, { say, ...options });
const named = (path) => `${path}?model=${encodeURIComponent(page.model.name)}`;

// --- asking ----------------------------------------------------------------------------------

let busy = false, changed = false;

// One question at a time; what is typed meanwhile is asked next, all at once.
async function answer() {
  changed = true;
  document.body.dataset.state = "asking";
  if (busy) return;
  busy = true;
  const late = setTimeout(() => markStale("Asking …"), SLOW);
  while (changed) {
    changed = false;
    await answerOnce();
  }
  busy = false;
  clearTimeout(late);
  document.body.dataset.state = "answered";
}

async function answerOnce() {
  let found = null, hint = "No answer.", problem = "";
  try {
    const reading = await read();
    if (changed) return;
    drawStory(); // unknown words are marked before there is an answer
    const lineOf = reading.lines.flatMap((line, index) => (line.sentence === null ? [] : [index]));
    const sentences = lineOf.map((line) => reading.lines[line].sentence);
    problem = tooMuch(sentences, lineOf);
    hint = problem ? hint : unanswerable(reading, sentences);
    if (!problem && !hint) {
      hint = "No answer.";
      const body = { model: page.model.name, story: sentences, question: question.value };
      const lines = story.value.split("\n");
      found = { ...(await ask("/api/answer", { body, late: () => changed, say: sayLate })), lines, lineOf };
    }
  } catch (error) {
    problem = error.message;
  }
  if (changed) return;
  say(problem);
  draw(found, hint);
  settle();
}

// Have the fields read, and put what is rewritten into them.
async function read() {
  const body = {
    story: story.value,
    question: question.value,
    model: page.model.name,
    keep_lines: keepLines || isComposing, // what an input method writes is left to it
    caret_line: isPasted ? null : caretLine(),
    last_number: lastNumber,
  };
  const reading = await ask("/api/read", { body, late: () => changed, say: sayLate });
  if (changed) return null;
  page.reading = reading;
  isPasted = false;
  // a line that somebody has joined again, or that a training had as one sentence, stays one
  const isWanted = isPut || reading.rewritten?.lines.join("\n") === joined;
  isPut = false;
  if (reading.rewritten && isWanted) {
    keepAsWritten();
    return read();
  }
  if (reading.rewritten) rewrite(reading.rewritten);
  return reading;
}

function keepAsWritten() {
  keepLines = true;
  page.remark = "Each line is read as one sentence.";
}

function rewrite({ lines, questions, stories, last_number }) {
  beforeRewrite = story.value;
  replace(story, lines.join("\n"));
  lastStory = story.value;
  const remarks = [];
  if (last_number !== lastNumber) remarks.push("The line numbers were left out.");
  if (stories > 1) remarks.push(`The text holds ${stories} stories: this is the first one.`);
  lastNumber = last_number;
  const asked = questions.at(-1);
  if (asked) {
    replace(question, asked.question);
    const isAtEnd = lines.slice(asked.lines).every((line) => !line.trim());
    page.expected = isAtEnd ? asked.answer : null;
    remarks.push(questions.length > 1 ? `The text holds ${questions.length} questions: the last one is asked.` : "The question was moved to its own field.");
  }
  showFound(questions.length > 1 ? { lines, questions } : null);
  if (remarks.length) page.remark = remarks.join(" ");
}

function tooMuch(sentences, lineOf) {
  if (sentences.length > SENTENCES) return `A story has at most ${SENTENCES} sentences, this has ${sentences.length}.`;
  const size = (text) => [...text].length; // as the service counts: not in UTF-16
  const long = sentences.findIndex((sentence) => size(sentence) > CHARACTERS);
  if (long >= 0) return `A sentence has at most ${CHARACTERS} characters, line ${lineOf[long] + 1} has ${size(sentences[long])}.`;
  const asked = size(question.value);
  return asked > CHARACTERS ? `A question has at most ${CHARACTERS} characters, this has ${asked}.` : "";
}

// Why there is nothing to answer: without a known word any answer is a guess.
function unanswerable(reading, sentences) {
  if (!reading.asks) return sentences.length ? "Ask a question." : "Write a story and ask a question.";
  if (!sentences.length) return "Write a story: without one there is nothing to answer from.";
  if (!reading.knows_question) return "The model knows no word of this question.";
  return reading.knows_story ? "" : "The model knows no word of this story.";
}

// --- models ----------------------------------------------------------------------------------

// Take the list of models; the one that was chosen stays, if it is still there.
function list(models) {
  page.models = models;
  const chosen = chooser.value;
  chooser.replaceChildren(...models.map(({ name, test_error }) =>
    made("option", { value: name, textContent: test_error === null ? name : `${name} (${test_error.toFixed(1)}% wrong)` })));
  if (models.some((one) => one.name === chosen)) chooser.value = chosen;
  page.model = models[chooser.selectedIndex];
}

async function choose() {
  page.model = page.models[chooser.selectedIndex];
  const { name, words, memory_slots, hops, test_error } = page.model;
  document.documentElement.style.setProperty("--hops", hops);
  document.documentElement.classList.toggle("many", hops > 4);
  $("hops").replaceChildren(...Array.from({ length: hops }, (_, hop) => made("span", {}, made("span", { textContent: "hop ", className: "wide" }), `${hop + 1}`)));
  const error = test_error === null ? "" : ` · ${test_error.toFixed(1)}% wrong of its test questions`;
  $("about").textContent = `knows ${counted(words, "word")} · remembers ${counted(memory_slots, "sentence")}${error}`;
  $("examples").replaceChildren();
  $("examples-about").textContent = "Finding out what this model knows …";
  $("vocabulary").open = false;
  $("vocabulary-title").textContent = `The ${counted(words, "word")} it knows`;
  $("vocabulary-words").replaceChildren();
  delete document.body.dataset.tasks;
  const [tasks, stories] = await Promise.all([ask(named("/api/tasks")), ask(named("/api/stories"))]);
  if (name !== page.model.name) return [];
  $("examples-about").textContent = tasks.length
    ? "Each click makes a new story. The button shows how often this model is wrong on 100 such questions."
    : stories.length ? "Stories that this model was trained on. Write your own in its words:"
    : "This model knows none of the kinds of story that can be generated: write one in its own words:";
  $("examples").replaceChildren(...(tasks.length ? tasks.map(taskButton) : stories.map(storyButton)));
  $("vocabulary").open = !tasks.length;
  story.placeholder = stories[0]?.story[0] ?? (tasks.length ? EXAMPLE[0] : ""); // in its own words
  question.placeholder = stories[0]?.question ?? (tasks.length ? EXAMPLE[1] : "");
  document.body.dataset.tasks = tasks.length;
  return tasks.length ? () => takeExample(tasks.at(-1).task) : stories.length ? () => put(stories[0]) : null;
}

function taskButton({ task, title, error }) {
  const wrong = made("small", { textContent: ` ${error.toFixed(0)}% wrong` });
  const button = made("button", { type: "button" }, `${task} ${title}`, wrong);
  button.addEventListener("click", () => takeExample(task).catch((problem) => say(problem.message)));
  return button;
}

function storyButton(example, index) {
  const button = made("button", { type: "button", textContent: `${index + 1} ${example.question}` });
  button.addEventListener("click", () => put(example));
  return button;
}

async function showWords() {
  if (!$("vocabulary").open || $("vocabulary-words").children.length) return;
  const { name } = page.model;
  const { words, total } = await ask(named("/api/words"));
  if (name !== page.model.name) return;
  const more = total > words.length ? [made("li", { className: "faint", textContent: `and ${(total - words.length).toLocaleString("en")} more` })] : [];
  $("vocabulary-words").replaceChildren(...words.map((word) => made("li", { textContent: word })), ...more);
}

// After the server was away: it may offer other models.
async function refresh() {
  const models = await ask("/api/models");
  if (JSON.stringify(models) === JSON.stringify(page.models)) return;
  page.reading = null;
  list(models);
  draw(null, "Asking …");
  edited();
  await choose();
}

// --- stories from elsewhere ------------------------------------------------------------------

async function takeExample(task) {
  const asked = ++turn;
  document.body.dataset.state = "asking";
  const example = await ask(`${named("/api/example")}&task=${task}`, { late: () => turn !== asked });
  if (turn === asked) put(example); // else somebody has typed meanwhile
}

// Put a story on the page; what stood there before is one step back.
function put({ story: sentences, question: asked, answer: right = null }, isFound = false) {
  if (story.value || question.value) remember();
  const before = location.hash;
  story.value = sentences.join("\n");
  question.value = asked;
  resetText(right);
  isPut = true;
  showFound(isFound ? page.found : null);
  if (before) history.pushState(state(), "", link());
  edited();
}

function resetText(expected) {
  page.expected = expected;
  page.remark = "";
  keepLines = false;
  lastNumber = 0;
  isPut = false;
  joined = null;
  lastStory = story.value;
}

function clear() {
  put({ story: [], question: "" });
  story.focus();
}

// The questions of a pasted text, each with the story before it.
function showFound(found) {
  page.found = found;
  $("found").hidden = !found;
  const shown = found?.questions.slice(0, 20) ?? [];
  $("found").replaceChildren(...shown.map(({ question: text, answer: right, lines }) => {
    const button = made("button", { type: "button", textContent: text });
    button.setAttribute("aria-pressed", text === question.value && lines === story.value.trimEnd().split("\n").length);
    button.addEventListener("click", () => put({ story: found.lines.slice(0, lines), question: text, answer: right }, true));
    return button;
  }));
}

// --- the link --------------------------------------------------------------------------------

// Behind the #, which a browser keeps to itself: no server sees it in a log.
function link() {
  const parts = new URLSearchParams({ model: page.model.name, story: story.value, question: question.value });
  if (keepLines) parts.set("lines", "kept");
  return `#${parts}`;
}

const state = () => ({ expected: page.expected });

function remember() {
  try {
    history.replaceState(state(), "", link());
  } catch {
    // a browser bounds the length of an address, and how often it changes
  }
}

// Take model, story and question from the address; return whether a story or question was in it.
function readLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const index = page.models.findIndex((one) => one.name === parts.get("model"));
  if (index >= 0) chooser.selectedIndex = index;
  page.missing = parts.has("model") && index < 0 ? parts.get("model") : null;
  if (!parts.has("story") && !parts.has("question")) return false;
  story.value = parts.get("story") ?? "";
  question.value = parts.get("question") ?? "";
  resetText(history.state?.expected ?? null);
  keepLines = parts.get("lines") === "kept";
  showFound(null);
  return true;
}

async function share() {
  remember();
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
  answer();
  $("copied").textContent = "";
}

let settling = 0;

// After the last key: the link, and the answer for those who hear it.
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    remember();
    const said = page.drawn ? [unknownWords(), `${page.drawn.answer}, ${percent(page.drawn.probability)}`] : [];
    const heard = said.filter(Boolean).join(". ");
    if ($("heard").textContent !== heard) $("heard").textContent = heard;
  }, SETTLED);
}

function typed(event) {
  if (isReplacing()) return;
  isComposing = Boolean(event.isComposing);
  isPut = false;
  page.expected = null;
  page.remark = "";
  if (event.target === story) {
    showFound(null);
    if (!story.value) resetText(null);
    if (event.inputType === "historyUndo" && story.value === beforeRewrite) keepAsWritten();
    const lines = (text) => text.split("\n").length;
    const isJoined = lastStory.length === story.value.length + 1 && lines(lastStory) > lines(story.value);
    if (isJoined) joined = lastStory;
    lastStory = story.value;
  }
  edited();
}

function listen() {
  story.addEventListener("input", typed);
  question.addEventListener("input", typed);
  for (const field of [story, question]) {
    field.addEventListener("compositionend", () => {
      isComposing = false;
      edited();
    });
  }
  for (const kind of ["paste", "drop"]) {
    story.addEventListener(kind, () => {
      isPasted = true;
      keepLines = false;
      joined = null;
    });
  }
  story.addEventListener("blur", () => {
    // a reading on its way still takes the line of the caret for unfinished
    if (busy || page.reading?.lines.some((line) => line.sentence === null && line.words.join("").trim())) edited();
  });
  question.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (text.includes("\n")) insert(event, text.replace(/\s*\n\s*/g, " "));
  });
  question.addEventListener("beforeinput", (event) => {
    if (event.inputType === "insertLineBreak") event.preventDefault();
  });
  chooser.addEventListener("change", () => {
    page.missing = null;
    changeModel(true);
  });
  window.addEventListener("hashchange", () => {
    const { name } = page.model;
    readLink();
    changeModel(name !== chooser.value);
  });
  window.addEventListener("serverchange", () => refresh().catch((problem) => say(problem.message)));
  $("vocabulary").addEventListener("toggle", () => showWords().catch((problem) => say(problem.message)));
  $("share").addEventListener("click", share);
  $("clear").addEventListener("click", clear);
}

function changeModel(isOther) {
  if (isOther) {
    page.reading = null;
    draw(null, "Asking …"); // the bars are those of other hops
    choose().catch((problem) => say(problem.message));
  }
  edited();
}

async function begin() {
  list(await ask("/api/models"));
  listen();
  const linked = readLink();
  page.model = page.models[chooser.selectedIndex];
  if (story.value || question.value) edited();
  const example = await choose();
  if (!linked && !turn && example) await example();
  drawStory();
  document.body.dataset.ready = "";
}

begin().catch((problem) => say(problem.message));
