// The page: every edit is sent to the server at once, and the answer is drawn next to the sentences.
// The server splits the text and knows the vocabulary (/api/read). A model of facts needs no story.

import { countedNoun, draw, drawStory, createElement, markStale, page, percent, unknownWords } from "./draw.js";
import { drawnFacts } from "./facts.js";
import { chooseRow, drawnStore, firstLine, row, storeSearch } from "./store.js";
import { $, caretLine, insert, isReplacing, question, replace, story } from "./fields.js";
import { fetchJson } from "./server.js";

const chooser = $("model");
const SENTENCES = 1000, CHARACTERS = 1000; // the limits of the server
const SETTLE_DELAY = 700; // milliseconds without input before the link changes and the answer is announced
const EXAMPLE = [story.placeholder, question.placeholder];
const STALE_DELAY = 400; // milliseconds before the old answer is marked as outdated

let numEdits = 0; // to detect outdated responses
let keepLines = false; // each line is one sentence
let beforeRewrite = null; // the story before it was rewritten, to detect an undo
let lastStory = "", joined = null; // the last story; the story before two lines were joined
let lastNumber = 0; // the last removed line number
let isPasted = false, isFromServer = false, isComposing = false; // the source of the text

function showProblem(problem) {
  $("problem").hidden = !problem;
  $("problem").textContent = problem;
}

// The answer on the page is for an earlier text.
function showStaleProblem(problem) {
  showProblem(problem);
  if (problem) markStale(problem);
}

const request = (path, options) => fetchJson(path, { showProblem, ...options });
const isAboutFacts = () => page.model.kind === "knowledge";
const isStore = () => page.model.kind === "store";
const forModel = (path) => `${path}?model=${encodeURIComponent(page.model.name)}`;

// --- asking ----------------------------------------------------------------------------------

let busy = false, changed = false;

// Send one question at a time; edits meanwhile are sent together next.
async function answer() {
  changed = true;
  document.body.dataset.state = "asking";
  if (busy) return;
  busy = true;
  const staleTimer = setTimeout(() => markStale("Asking …"), STALE_DELAY);
  while (changed) {
    changed = false;
    await answerOnce();
  }
  busy = false;
  clearTimeout(staleTimer);
  document.body.dataset.state = "answered";
}

async function answerOnce() {
  let result = null, hint = "No answer.", problem = "";
  try {
    const asked = await (isStore() ? searchStore() : isAboutFacts() ? askFacts() : askStory());
    if (changed) return;
    ({ result = null, hint = "No answer.", problem = "" } = asked);
  } catch (error) {
    problem = error.message;
  }
  if (changed) return;
  showProblem(problem);
  draw(result, hint);
  announceLater();
}

const ask = (path, body) => request(path, { body, isOutdated: () => changed, showProblem: showStaleProblem });

async function askStory() {
  const reading = await read();
  if (changed) return null;
  drawStory(); // mark unknown words before the answer arrives
  const lineOf = reading.lines.flatMap((line, index) => (line.sentence === null ? [] : [index]));
  const sentences = lineOf.map((line) => reading.lines[line].sentence);
  const problem = limitProblem(sentences, lineOf);
  if (problem) return { problem };
  const hint = missingInput(reading, sentences);
  if (hint) return { hint };
  const answer = await ask("/api/answer", { model: page.model.name, story: sentences, question: question.value });
  return { result: { ...answer, lines: story.value.split("\n"), lineOf } };
}

async function askFacts() {
  page.reading = null;
  const problem = limitProblem([], []);
  if (problem) return { problem };
  if (!/[\p{L}\p{N}]/u.test(question.value)) return { hint: "Ask a question." };
  const answer = await ask("/api/kb/answer", { model: page.model.name, question: question.value, picture: true });
  page.reading = { ...answer, question: [question.value], lines: [] };
  return answer.answers.length ? { result: drawnFacts(answer) } : { hint: sentence(answer.no_answer) };
}

async function searchStore() {
  page.reading = null;
  const problem = limitProblem([], []);
  if (problem) return { problem };
  const search = storeSearch(page.model.name);
  if (!search) return { hint: page.model.has_encoder ? "Choose a row or write a text." : "Choose a row." };
  const answer = await ask(search.path, search.body);
  return answer.no_answer ? { hint: sentence(answer.no_answer) } : { result: drawnStore(answer) };
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

// Let the server read the fields, and replace their text if it rewrites them.
async function read() {
  const body = {
    story: story.value,
    question: question.value,
    model: page.model.name,
    keep_lines: keepLines || isComposing, // do not interfere with an input method
    caret_line: isPasted ? null : caretLine(),
    last_number: lastNumber,
  };
  const reading = await ask("/api/read", body);
  if (changed) return null;
  page.reading = reading;
  isPasted = false;
  // a line that the user has joined, or that is one sentence in the training data, stays one
  const isIntended = isFromServer || reading.rewritten?.lines.join("\n") === joined;
  isFromServer = false;
  if (reading.rewritten && isIntended) {
    keepLineBreaks();
    return read();
  }
  if (reading.rewritten) rewrite(reading.rewritten);
  return reading;
}

function keepLineBreaks() {
  keepLines = true;
  page.remark = "Each line is read as one sentence.";
}

function rewrite({ lines, questions, stories, last_number }) {
  beforeRewrite = story.value;
  replace(story, lines.join("\n"));
  lastStory = story.value;
  const remarks = [];
  if (last_number !== lastNumber) remarks.push("The line numbers were removed.");
  if (stories > 1) remarks.push(`The text has ${stories} stories: this is the first one.`);
  lastNumber = last_number;
  const asked = questions.at(-1);
  if (asked) {
    replace(question, asked.question);
    const isAtEnd = lines.slice(asked.lines).every((line) => !line.trim());
    page.expected = isAtEnd ? asked.answer : null;
    remarks.push(questions.length > 1 ? `The text has ${questions.length} questions: the last one is answered.` : "The question was moved to its own field.");
  }
  showFound(questions.length > 1 ? { lines, questions } : null);
  if (remarks.length) page.remark = remarks.join(" ");
}

function limitProblem(sentences, lineOf) {
  if (sentences.length > SENTENCES) return `A story has at most ${SENTENCES} sentences, this has ${sentences.length}.`;
  const size = (text) => [...text].length; // code points, as the server counts, not UTF-16 units
  const long = sentences.findIndex((sentence) => size(sentence) > CHARACTERS);
  if (long >= 0) return `A sentence has at most ${CHARACTERS} characters, line ${lineOf[long] + 1} has ${size(sentences[long])}.`;
  const asked = size(question.value);
  return asked > CHARACTERS ? `A question has at most ${CHARACTERS} characters, this has ${asked}.` : "";
}

// Return why there is no answer: without a known word it would be a guess.
function missingInput(reading, sentences) {
  if (!reading.asks) return sentences.length ? "Ask a question." : "Write a story and ask a question.";
  if (!sentences.length) return "Write a story: without one there is no answer.";
  if (!reading.knows_question) return "The model knows no word of this question.";
  return reading.knows_story ? "" : "The model knows no word of this story.";
}

// --- models ----------------------------------------------------------------------------------

// Update the list of models; keep the selected one if it still exists.
function setModels(models) {
  page.models = models;
  const chosen = chooser.value;
  chooser.replaceChildren(...models.map(({ name, test_error }) =>
    createElement("option", { value: name, textContent: test_error === null ? name : `${name} (${test_error.toFixed(1)}% error)` })));
  if (models.some((one) => one.name === chosen)) chooser.value = chosen;
  page.model = models[chooser.selectedIndex];
}

async function selectModel() {
  page.model = page.models[chooser.selectedIndex];
  const { name, words, memory_slots, hops, test_error } = page.model;
  document.body.dataset.kind = page.model.kind;
  document.documentElement.style.setProperty("--hops", hops);
  document.documentElement.classList.toggle("many", hops > 4);
  $("hops").replaceChildren(...Array.from({ length: hops }, (_, hop) => createElement("span", {}, createElement("span", { textContent: "hop ", className: "wide" }), `${hop + 1}`)));
  const error = test_error === null ? "" : ` · ${test_error.toFixed(1)}% error on its test questions`;
  const { facts, entities, rows, dim } = page.model;
  $("asking").hidden = isStore() && !page.model.has_encoder;
  $("about").textContent = (isStore()
    ? `holds ${countedNoun(rows, "row")} of ${countedNoun(dim, "number")} · reads ${countedNoun(hops, "hop")}`
    : isAboutFacts()
    ? `knows ${countedNoun(facts, "fact")} about ${countedNoun(entities, "entity", "entities")} · reads up to ${countedNoun(hops, "hop")}`
    : `knows ${countedNoun(words, "word")} · remembers ${countedNoun(memory_slots, "sentence")}`) + error;
  $("examples").replaceChildren();
  $("examples-about").textContent = isStore() ? "" : "Testing what this model knows …";
  $("vocabulary").open = false;
  $("vocabulary-title").textContent = isAboutFacts() ? "Relations of the facts" : `Vocabulary (${countedNoun(words, "word")})`;
  $("vocabulary-words").replaceChildren();
  delete document.body.dataset.tasks;
  if (isStore()) return showRows();
  if (isAboutFacts()) return showQuestions();
  const [tasks, stories] = await Promise.all([request(forModel("/api/tasks")), request(forModel("/api/stories"))]);
  if (name !== page.model.name) return [];
  $("examples-about").textContent = tasks.length
    ? "Each click generates a new story. The button shows the error of this model on 100 such questions."
    : stories.length ? "Stories from the training of this model. Write your own with its words:"
    : "This model knows none of the tasks with generated stories. Write a story with its words:";
  $("examples").replaceChildren(...(tasks.length ? tasks.map(taskButton) : stories.map(storyButton)));
  $("vocabulary").open = !tasks.length;
  story.placeholder = stories[0]?.story[0] ?? (tasks.length ? EXAMPLE[0] : ""); // with words that it knows
  question.placeholder = stories[0]?.question ?? (tasks.length ? EXAMPLE[1] : "");
  document.body.dataset.tasks = tasks.length;
  const first = tasks.find((one) => one.task === 2) ?? tasks.at(-1); // two facts, which two hops show
  return first ? () => takeExample(first.task) : stories.length ? () => showStory(stories[0]) : null;
}

// Show questions that the model of facts answers right.
async function showQuestions() {
  const { name } = page.model;
  const examples = await request(forModel("/api/kb/examples"));
  if (name !== page.model.name) return null;
  $("examples-about").textContent = examples.length
    ? "Questions that this model answers right. Ask your own about its entities and relations:"
    : "Ask about the entities and relations of this model:";
  $("examples").replaceChildren(...examples.map(questionButton));
  $("vocabulary").open = !examples.length;
  question.placeholder = examples[0]?.question ?? "";
  document.body.dataset.tasks = examples.length;
  return examples.length ? () => showQuestion(examples.at(-1)) : null;
}

// Show the first rows of a store.
async function showRows() {
  const { name } = page.model;
  const { rows, total } = await request(forModel("/api/store/rows"));
  if (name !== page.model.name) return null;
  $("examples-about").textContent = !total ? "This store has no row."
    : `${total > rows.length ? `The first ${rows.length} of ${countedNoun(total, "row")}` : "All rows"}. A click searches with the vector of a row.`;
  $("examples").replaceChildren(...rows.map(rowButton));
  question.placeholder = page.model.has_encoder ? "Any text" : "";
  document.body.dataset.tasks = rows.length;
  return rows.length ? () => showRow(rows[0].id) : null;
}

function rowButton(one) {
  const text = firstLine(one);
  const short = [...text].slice(0, 80).join("");
  const button = createElement("button", { type: "button" }, createElement("bdi", { textContent: one.id }),
    ...(text === String(one.id) ? [] : [createElement("small", { textContent: ` ${short}${short.length < text.length ? "…" : ""}` })]));
  button.addEventListener("click", () => showRow(one.id));
  return button;
}

// Search with the vector of a row; the browser's Back button restores the query before.
function showRow(id) {
  if (row.value || question.value) storeLink();
  const before = location.hash;
  chooseRow(id);
  resetText(null);
  if (before) history.pushState(state(), "", link());
  onEdit();
}

const showQuestion = ({ question: text, answers }) => showStory({ story: story.value.split("\n"), question: text, answer: answers });

function questionButton(example) {
  const button = createElement("button", { type: "button", textContent: example.question });
  button.addEventListener("click", () => showQuestion(example));
  return button;
}

function taskButton({ task, title, error }) {
  const errorLabel = createElement("small", { textContent: ` ${error.toFixed(0)}% error` });
  const button = createElement("button", { type: "button" }, `${task} ${title}`, errorLabel);
  button.addEventListener("click", () => takeExample(task).catch((problem) => showProblem(problem.message)));
  return button;
}

function storyButton(example, index) {
  const button = createElement("button", { type: "button", textContent: `${index + 1} ${example.question}` });
  button.addEventListener("click", () => showStory(example));
  return button;
}

async function showWords() {
  if (!$("vocabulary").open || $("vocabulary-words").children.length) return;
  const { name } = page.model;
  const { words, total } = await (isAboutFacts() ? knownRelations() : request(forModel("/api/words")));
  if (name !== page.model.name) return;
  const more = total > words.length ? [createElement("li", { className: "faint", textContent: `and ${(total - words.length).toLocaleString("en")} more` })] : [];
  $("vocabulary-words").replaceChildren(...words.map((word) => createElement("li", { textContent: word })), ...more);
}

async function knownRelations() {
  const { relations, total } = await request(forModel("/api/kb/relations"));
  return { words: relations.map((one) => `${one.relation}, as in ${one.subject} → ${one.object}`), total };
}

// After the server was offline: it may have other models.
async function refresh() {
  const models = await request("/api/models");
  if (JSON.stringify(models) === JSON.stringify(page.models)) return;
  page.reading = null;
  setModels(models);
  draw(null, "Asking …");
  onEdit();
  await selectModel();
}

// --- stories from elsewhere ------------------------------------------------------------------

async function takeExample(task) {
  const asked = ++numEdits;
  document.body.dataset.state = "asking";
  const example = await request(`${forModel("/api/example")}&task=${task}`, { isOutdated: () => numEdits !== asked });
  if (numEdits === asked) showStory(example); // otherwise the user has onInput meanwhile
}

// Show a story; the browser's Back button restores the text before.
function showStory({ story: sentences, question: asked, answer: right = null }, isFound = false) {
  if (story.value || question.value) storeLink();
  const before = location.hash;
  story.value = sentences.join("\n");
  question.value = asked;
  resetText(right);
  isFromServer = true;
  showFound(isFound ? page.found : null);
  if (before) history.pushState(state(), "", link());
  onEdit();
}

function resetText(expected) {
  page.expected = expected;
  page.remark = "";
  keepLines = false;
  lastNumber = 0;
  isFromServer = false;
  joined = null;
  lastStory = story.value;
}

function clear() {
  if (isStore()) {
    showRow("");
    return row.focus();
  }
  if (isAboutFacts()) showQuestion({ question: "", answers: null });
  else showStory({ story: [], question: "" });
  (isAboutFacts() ? question : story).focus();
}

// Show a button for each question of a pasted text.
function showFound(found) {
  page.found = found;
  $("found").hidden = !found;
  const shown = found?.questions.slice(0, 20) ?? [];
  $("found").replaceChildren(...shown.map(({ question: text, answer: right, lines }) => {
    const button = createElement("button", { type: "button", textContent: text });
    button.setAttribute("aria-pressed", text === question.value && lines === story.value.trimEnd().split("\n").length);
    button.addEventListener("click", () => showStory({ story: found.lines.slice(0, lines), question: text, answer: right }, true));
    return button;
  }));
}

// --- the link --------------------------------------------------------------------------------

// The text is after the #, which browsers do not send to a server.
function link() {
  const own = isStore() ? { row: row.value } : isAboutFacts() ? {} : { story: story.value };
  const parts = new URLSearchParams({ model: page.model.name, ...own, question: question.value });
  if (keepLines) parts.set("lines", "kept");
  return `#${parts}`;
}

const state = () => ({ expected: page.expected });

function storeLink() {
  try {
    history.replaceState(state(), "", link());
  } catch {
    // browsers limit the length of an address and the rate of changes
  }
}

// Read model, story and question from the address; return whether it has a story or question.
function readLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const index = page.models.findIndex((one) => one.name === parts.get("model"));
  if (index >= 0) chooser.selectedIndex = index;
  page.missing = parts.has("model") && index < 0 ? parts.get("model") : null;
  if (!["story", "question", "row"].some((name) => parts.has(name))) return false;
  row.value = parts.get("row") ?? "";
  story.value = parts.get("story") ?? "";
  question.value = parts.get("question") ?? "";
  resetText(history.state?.expected ?? null);
  keepLines = parts.get("lines") === "kept";
  showFound(null);
  return true;
}

async function share() {
  storeLink();
  try {
    await navigator.clipboard.writeText(location.href);
    $("copied").textContent = "Copied.";
  } catch {
    $("copied").textContent = "The link is in the address bar.";
  }
}

// --- events and start ------------------------------------------------------------------------

function onEdit() {
  numEdits++;
  drawStory();
  answer();
  $("copied").textContent = "";
}

let announceTimer = 0;

// After the last edit, update the link and announce the answer to screen readers.
function announceLater() {
  clearTimeout(announceTimer);
  announceTimer = setTimeout(() => {
    storeLink();
    const parts = page.drawn?.heard ? [page.drawn.heard] : page.drawn ? [unknownWords(), `${page.drawn.best ?? page.drawn.answer}, ${percent(page.drawn.probability)}`] : [];
    const text = parts.filter(Boolean).join(". ");
    if ($("heard").textContent !== text) $("heard").textContent = text;
  }, SETTLE_DELAY);
}

function onInput(event) {
  if (isReplacing()) return;
  isComposing = Boolean(event.isComposing);
  isFromServer = false;
  page.expected = null;
  page.remark = "";
  row.value = "";
  if (event.target === story) {
    showFound(null);
    if (!story.value) resetText(null);
    if (event.inputType === "historyUndo" && story.value === beforeRewrite) keepLineBreaks();
    const lines = (text) => text.split("\n").length;
    const isJoined = lastStory.length === story.value.length + 1 && lines(lastStory) > lines(story.value);
    if (isJoined) joined = lastStory;
    lastStory = story.value;
  }
  onEdit();
}

function listen() {
  page.onRow = showRow;
  row.addEventListener("input", () => {
    question.value = "";
    onEdit();
  });
  story.addEventListener("input", onInput);
  question.addEventListener("input", onInput);
  for (const field of [story, question]) {
    field.addEventListener("compositionend", () => {
      isComposing = false;
      onEdit();
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
    // a pending request treats the line of the caret as unfinished
    if (busy || page.reading?.lines.some((line) => line.sentence === null && line.words.join("").trim())) onEdit();
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
  window.addEventListener("serverchange", () => refresh().catch((problem) => showProblem(problem.message)));
  $("vocabulary").addEventListener("toggle", () => showWords().catch((problem) => showProblem(problem.message)));
  $("share").addEventListener("click", share);
  $("clear").addEventListener("click", clear);
}

function changeModel(isOther) {
  if (isOther) {
    page.reading = null;
    draw(null, "Asking …"); // the bars are from another model
    selectModel().catch((problem) => showProblem(problem.message));
  }
  onEdit();
}

async function start() {
  setModels(await request("/api/models"));
  listen();
  const linked = readLink();
  page.model = page.models[chooser.selectedIndex];
  if (story.value || question.value || row.value) onEdit();
  const example = await selectModel();
  if (!linked && !numEdits && example) await example();
  drawStory();
  document.body.dataset.ready = "";
}

start().catch((problem) => showProblem(problem.message));
