// Drawing: rows with bars below the text, the answer, what each hop read, notes.
// Every text is set as text, never as HTML.

import { $, isWriting, question, selectLine, story } from "./fields.js";

const FAINT = 0.005; // of a hop's attention: shown as 0.00, so not shown at all
const MOST_LINES = 1000; // more the service does not take
const LONG_LINE = 1000; // characters; in a longer line no words are underlined

export const page = {
  models: [], // as /api/models lists them
  model: null, // the one that answers
  reading: null, // sentences and unknown words of the text here, from /api/read
  drawn: null, // the answer on the page, with `lines`, the text it is about, and `lineOf`, the line of each sentence
  expected: null, // the right answer, where it is known
  found: null, // a pasted text with several questions
  remark: "", // what became of the text
  missing: null, // the model that a link names, where it is not here
};

export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function bar(share) {
  const element = made("i");
  element.style.setProperty("--share", share);
  return element;
}

export const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export const percent = (share) => `${Math.round(100 * share)}%`;

// --- the story -------------------------------------------------------------------------------

// Rows below the text: the same words, those that the model does not know underlined.
// `pieces` are in turn text and unknown words; without them words that were marked stay so.
function drawWords(words, line, pieces) {
  if (line.length > LONG_LINE) pieces = [line];
  if (pieces?.join("") !== line) pieces = null;
  const key = line + "\n" + (pieces?.join("\n") ?? "");
  if (words.dataset.key === key) return;
  words.dataset.key = key;
  if (!pieces) {
    const marked = new Set([...words.querySelectorAll("mark")].map((mark) => mark.textContent));
    const parts = marked.size ? line.split(/(\s+)/) : [line];
    words.replaceChildren(...parts.map((text) => (marked.has(text) ? made("mark", { textContent: text }) : text)));
    return;
  }
  words.replaceChildren(...pieces.map((text, index) => (index % 2 ? made("mark", { textContent: text }) : text)));
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

// The places in the story of the sentences that the answer is about, by line: what was not
// touched since keeps its place, before and behind what was.
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
  const lines = story.value.split("\n", MOST_LINES);
  const places = placesByLine(lines);
  const strongest = drawn?.attention.map((hop) => Math.max(...hop));
  rowsFor(lines).forEach((row, index) => {
    drawWords(row.children[1], lines[index], reading?.lines[index]?.words);
    const place = places.get(index);
    const shares = place === undefined ? [] : drawn.attention.map((hop) => hop[place]);
    const tops = shares.map((share, hop) => share > FAINT && share === strongest[hop]);
    const key = shares.join() + tops;
    row.classList.toggle("read", tops.includes(true));
    row.classList.toggle("truncated", place < truncated());
    if (row.dataset.shares === key) return;
    row.dataset.shares = key;
    row.lastChild.replaceChildren(...shares.map((share, hop) => cell(share, tops[hop])));
  });
  let asked = $("asked").firstChild;
  if (!asked) $("asked").append((asked = made("div", { className: "words" })));
  drawWords(asked, question.value, reading?.question);
}

function cell(share, top) {
  const element = made("span", { className: top ? "cell top" : "cell" });
  if (share >= FAINT) element.append(bar(share), made("b", { textContent: share.toFixed(2) }));
  return element;
}

// How many of the oldest sentences the memory could not hold.
const truncated = () => page.drawn?.truncated ?? 0;

// Bring what was read into view, but never while somebody writes in the story.
function scrollToRead() {
  const frame = $("lines").closest(".scroll");
  const read = [...$("lines").querySelectorAll(".row.read")];
  if (!read.length || isWriting() || frame.scrollHeight <= frame.clientHeight) return;
  const head = frame.querySelector(".head").offsetHeight;
  const lastHop = page.drawn.attention.at(-1);
  const last = $("lines").children[page.drawn.lineOf[lastHop.indexOf(Math.max(...lastHop))]] ?? read.at(-1);
  const room = frame.clientHeight - head;
  const fits = read.at(-1).offsetTop + read.at(-1).offsetHeight - read[0].offsetTop <= room;
  const [first, until] = fits ? [read[0], read.at(-1)] : [last, last];
  const middle = (first.offsetTop + until.offsetTop + until.offsetHeight) / 2;
  const isSeen = (row) => row.offsetTop >= frame.scrollTop && row.offsetTop + row.offsetHeight <= frame.scrollTop + room;
  if (!isSeen(first) || !isSeen(until)) frame.scrollTop = middle - room / 2;
}

// --- the answer ------------------------------------------------------------------------------

// Draw an answer; null for none, and then `hint` says why.
export function draw(answer, hint) {
  page.drawn = answer;
  markStale("");
  drawStory();
  drawAnswer(hint);
  drawReads();
  drawNotes();
  if (answer) scrollToRead();
}

function drawAnswer(hint) {
  const { drawn, expected } = page;
  const unknown = unknownWords();
  const caution = unknown ? [made("p", { className: "caution", textContent: unknown })] : [];
  if (!drawn) {
    $("answer").replaceChildren(...caution, made("p", { className: "faint", textContent: hint }));
    return;
  }
  const ranked = [drawn, ...drawn.runners_up].filter((one, rank) => !rank || one.probability >= FAINT);
  const shares = ranked.map((one, rank) =>
    made("div", { className: rank ? "" : "first" },
      made("dt", { textContent: one.answer }),
      made("dd", {}, bar(one.probability)),
      made("dd", { textContent: percent(one.probability) })));
  const verdict = expected === null ? [] : [
    plain(drawn.answer) === plain(expected)
      ? made("p", { className: "right", textContent: "✓ right" })
      : made("p", { className: "wrong", textContent: `✗ the right answer: ${expected}` }),
  ];
  $("answer").replaceChildren(...caution,
    made("p", { className: "best", textContent: drawn.answer }), ...verdict,
    made("dl", { className: "shares" }, ...shares));
}

const plain = (answer) => answer.toLowerCase().replace(/\s*,\s*/g, ",");

export function unknownWords() {
  const unknown = page.reading?.unknown_words ?? [];
  if (!unknown.length) return "";
  const shown = unknown.slice(0, 8).join(", ") + (unknown.length > 8 ? ` and ${unknown.length - 8} more` : "");
  return `Never seen in training, so the model reads nothing in ${unknown.length > 1 ? "their" : "its"} place: ${shown}`;
}

// Mark the answer on the page as that of an earlier text, for the reason given; "" unmarks it.
export function markStale(reason) {
  const isStale = Boolean(reason && page.drawn);
  $("stale").hidden = !isStale;
  document.body.classList.toggle("stale", isStale);
  $("answer").setAttribute("aria-busy", Boolean(reason));
  $("stale").textContent = isStale ? `${reason} This answers the text before your last change.` : "";
}

function drawReads() {
  $("reads-title").hidden = !page.drawn;
  $("reads").replaceChildren(...(page.drawn?.attention ?? []).map((hop, index) => {
    const share = Math.max(0, ...hop);
    if (share < FAINT) return made("li", { className: "faint", textContent: `Hop ${index + 1} read no sentence.` });
    const place = hop.indexOf(share), line = page.drawn.lineOf[place];
    const said = made("small", { textContent: `Hop ${index + 1} · ${percent(share)} on line ${line + 1}` });
    const button = made("button", { type: "button" }, said, page.drawn.lines[line]);
    button.addEventListener("click", () => {
      for (const [now, its] of placesByLine(story.value.split("\n"))) if (its === place) selectLine(now);
    });
    return made("li", {}, button);
  }));
}

function drawNotes() {
  const notes = [];
  if (page.missing !== null) notes.push(`The link names the model ${page.missing}, which is not here: ${page.model.name} answers.`);
  if (page.remark) notes.push(page.remark);
  if (truncated()) {
    const oldest = truncated() === 1 ? "oldest one is" : `${truncated()} oldest sentences are`;
    notes.push(`The memory holds ${counted(page.model.memory_slots, "sentence")}: the ${oldest} not read.`);
  }
  const text = notes.join("\n");
  if ($("notes").dataset.text === text) return; // nothing new to read aloud
  $("notes").dataset.text = text;
  $("notes").replaceChildren(...notes.map((note) => made("li", { textContent: note })));
}
