// Draw the bars of each line, the answer, the sentences or facts that each hop read, and notes.
// Every text is set as textContent, never as HTML.

import { drawFacts } from "./facts.js";
import { drawQuery, drawSlots } from "./store.js";
import { $, isWriting, question, selectLine, story } from "./fields.js";

const FAINT = 0.005; // attention that would be shown as 0.00 is not shown
const MAX_SHARES = 10; // answers with a bar
const MAX_LINES = 1000; // the limit of the server
const MAX_MARKED_LENGTH = 1000; // characters; words in longer lines are not underlined

export const page = {
  models: [], // from /api/models
  model: null, // the selected one
  reading: null, // sentences and unknown words of the text, from /api/read
  drawn: null, // the answer on the page, with the `lines` of its story and `lineOf`, the line of each sentence
  expected: null, // the right answer, or all of several, if known
  found: null, // the questions of a pasted text, if several
  remark: "", // how the text was changed
  missing: null, // the model of a link, if the server does not have it
  onRow: () => {}, // called with the id of a row of a store that was clicked
};

export function createElement(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function bar(share) {
  const element = createElement("i");
  element.style.setProperty("--share", share);
  return element;
}

export const countedNoun = (number, noun, plural = `${noun}s`) => `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;

export const percent = (share) => `${Math.round(100 * share)}%`;

// --- the story -------------------------------------------------------------------------------

// Draw the words of a line behind the text area, with unknown words underlined. `pieces` are
// alternately known and unknown text; without them, marked words stay marked.
function drawWords(words, line, pieces) {
  if (line.length > MAX_MARKED_LENGTH) pieces = [line];
  if (pieces?.join("") !== line) pieces = null;
  const key = line + "\n" + (pieces?.join("\n") ?? "");
  if (words.dataset.key === key) return;
  words.dataset.key = key;
  if (!pieces) {
    const marked = new Set([...words.querySelectorAll("mark")].map((mark) => mark.textContent));
    const parts = marked.size ? line.split(/(\s+)/) : [line];
    words.replaceChildren(...parts.map((text) => (marked.has(text) ? createElement("mark", { textContent: text }) : text)));
    return;
  }
  words.replaceChildren(...pieces.map((text, index) => (index % 2 ? createElement("mark", { textContent: text }) : text)));
}

function rowsFor(lines) {
  const rows = $("lines");
  while (rows.children.length > lines.length) rows.lastChild.remove();
  while (rows.children.length < lines.length) {
    const number = createElement("span", { textContent: rows.children.length + 1 });
    rows.append(createElement("div", { className: "row" }, number, createElement("div", { className: "words" }), createElement("div", { className: "hops" })));
  }
  return [...rows.children];
}

// Map lines to the sentences of the answer. Unchanged lines before and after an edit keep their
// sentences.
function placesByLine(lines) {
  const { lines: before = [], lineOf = [] } = page.drawn ?? {};
  const least = Math.min(before.length, lines.length);
  let same = 0, end = 0;
  while (same < least && before[same] === lines[same]) same++;
  while (end < least - same && before.at(-1 - end) === lines.at(-1 - end)) end++;
  const shift = lines.length - before.length;
  const places = lineOf.flatMap((line, place) =>
    line < same ? [[line, place]] : line >= before.length - end ? [[line + shift, place]] : []);
  return new Map(places);
}

export function drawStory() {
  const { drawn, reading } = page;
  const lines = story.value.split("\n", MAX_LINES);
  const places = placesByLine(lines);
  const strongest = drawn?.attention.map((hop) => Math.max(...hop));
  rowsFor(lines).forEach((row, index) => {
    drawWords(row.children[1], lines[index], reading?.lines[index]?.words);
    const place = places.get(index);
    const shares = place === undefined ? [] : drawn.attention.map((hop) => hop[place]);
    const isTop = shares.map((share, hop) => share > FAINT && share === strongest[hop]);
    const key = shares.join() + isTop;
    row.classList.toggle("read", isTop.includes(true));
    row.classList.toggle("truncated", place < truncated());
    if (row.dataset.shares === key) return;
    row.dataset.shares = key;
    row.lastChild.replaceChildren(...shares.map((share, hop) => cell(share, isTop[hop])));
  });
  let asked = $("asked").firstChild;
  if (!asked) $("asked").append((asked = createElement("div", { className: "words" })));
  drawWords(asked, question.value, reading?.question);
}

function cell(share, top) {
  const element = createElement("span", { className: top ? "cell top" : "cell" });
  if (share >= FAINT) element.append(bar(share), createElement("b", { textContent: share.toFixed(2) }));
  return element;
}

// The number of oldest sentences that do not fit into the memory.
const truncated = () => page.drawn?.truncated ?? 0;

// Scroll to the lines that were read, except while the user types in the story.
function scrollToRead() {
  const frame = $("lines").closest(".scroll");
  const read = [...$("lines").querySelectorAll(".row.read")];
  if (!read.length || isWriting() || frame.scrollHeight <= frame.clientHeight) return;
  const head = frame.querySelector(".head").offsetHeight;
  const lastHop = page.drawn.attention.at(-1);
  const last = $("lines").children[page.drawn.lineOf[lastHop.indexOf(Math.max(...lastHop))]] ?? read.at(-1);
  const height = frame.clientHeight - head;
  const fits = read.at(-1).offsetTop + read.at(-1).offsetHeight - read[0].offsetTop <= height;
  const [first, until] = fits ? [read[0], read.at(-1)] : [last, last];
  const middle = (first.offsetTop + until.offsetTop + until.offsetHeight) / 2;
  const isVisible = (row) => row.offsetTop >= frame.scrollTop && row.offsetTop + row.offsetHeight <= frame.scrollTop + height;
  if (!isVisible(first) || !isVisible(until)) frame.scrollTop = middle - height / 2;
}

// --- the answer ------------------------------------------------------------------------------

// Draw an answer; if null, draw `hint` instead.
export function draw(answer, hint) {
  page.drawn = answer;
  markStale("");
  drawStory();
  drawAnswer(hint);
  drawReads();
  drawFacts(answer);
  drawSlots(answer, page.onRow);
  drawNotes();
  if (answer) scrollToRead();
}

function drawAnswer(hint) {
  const { drawn, expected } = page;
  if (drawn?.slots) return drawQuery(drawn);
  const cautions = [unknownWords(), unknownEntities()].filter(Boolean);
  const before = cautions.map((textContent) => createElement("p", { className: "caution", textContent }));
  if (!drawn) {
    $("answer").replaceChildren(...before, createElement("p", { className: "faint", textContent: hint }));
    return;
  }
  const ranked = [drawn, ...drawn.runners_up].filter((one, rank) => !rank || one.probability >= FAINT);
  const shares = ranked.slice(0, MAX_SHARES).map((one, rank) =>
    createElement("div", { className: rank ? "" : "first" },
      createElement("dt", { textContent: one.answer }),
      createElement("dd", {}, bar(one.probability)),
      createElement("dd", { textContent: percent(one.probability) })));
  const verdict = expected === null ? [] : [
    isRight(drawn.answer, expected)
      ? createElement("p", { className: "right", textContent: "✓ right" })
      : createElement("p", { className: "wrong", textContent: `✗ the right answer: ${[expected].flat().join(", ")}` }),
  ];
  const topics = drawn.topics ? [createElement("p", { className: "topics faint", textContent: `In the question: ${listed(drawn.topics)}` })] : [];
  $("answer").replaceChildren(...before,
    createElement("p", { className: "best", textContent: drawn.best ?? drawn.answer }), ...verdict,
    createElement("dl", { className: "shares" }, ...shares), ...topics);
}

const normalized = (answer) => answer.toLowerCase().replace(/\s*,\s*/g, ",");

// Whether an answer is the expected one, or one of several.
const isRight = (answer, expected) => [expected].flat().some((right) => normalized(right) === normalized(answer));

// The first texts with commas, and how many more there are.
export const listed = (texts, most = 8) =>
  texts.slice(0, most).join(", ") + (texts.length > most ? ` and ${texts.length - most} more` : "");

export function unknownWords() {
  const unknown = page.reading?.unknown_words ?? [];
  if (!unknown.length) return "";
  return `Never seen in training, so the model ignores ${unknown.length > 1 ? "them" : "it"}: ${listed(unknown)}`;
}

function unknownEntities() {
  const unknown = page.reading?.unknown_entities ?? [];
  return unknown.length ? `No entity of the facts: ${listed(unknown)}` : "";
}

// Mark the answer as outdated for a reason; "" removes the mark.
export function markStale(reason) {
  const isStale = Boolean(reason && page.drawn);
  $("stale").hidden = !isStale;
  document.body.classList.toggle("stale", isStale);
  $("answer").setAttribute("aria-busy", Boolean(reason));
  $("stale").textContent = isStale ? `${reason} This answer is for the text before your last change.` : "";
}

function drawReads() {
  $("reads-title").hidden = !page.drawn?.attention.length;
  $("reads").replaceChildren(...(page.drawn?.attention ?? []).map((hop, index) => {
    const share = Math.max(0, ...hop);
    if (share < FAINT) return createElement("li", { className: "faint", textContent: `Hop ${index + 1} read no sentence.` });
    const place = hop.indexOf(share), line = page.drawn.lineOf[place];
    const label = createElement("small", { textContent: `Hop ${index + 1} · ${percent(share)} on line ${line + 1}` });
    const button = createElement("button", { type: "button" }, label, page.drawn.lines[line]);
    button.addEventListener("click", () => {
      for (const [now, its] of placesByLine(story.value.split("\n"))) if (its === place) selectLine(now);
    });
    return createElement("li", {}, button);
  }));
}

function drawNotes() {
  const notes = [];
  if (page.missing !== null) notes.push(`The server does not have the model ${page.missing} of the link: ${page.model.name} answers.`);
  if (page.remark) notes.push(page.remark);
  if (truncated()) {
    const oldest = truncated() === 1 ? "oldest one is" : `${truncated()} oldest sentences are`;
    notes.push(`The memory holds ${countedNoun(page.model.memory_slots, "sentence")}: the ${oldest} not read.`);
  }
  const text = notes.join("\n");
  if ($("notes").dataset.text === text) return; // avoid a repeated announcement by screen readers
  $("notes").dataset.text = text;
  $("notes").replaceChildren(...notes.map((note) => createElement("li", { textContent: note })));
}
