// Search a store: a query is a row or a text. Draw the rows that each hop read most.
// Every text is set as textContent, never as HTML.

import { bar, countedNoun, createElement, percent } from "./draw.js";
import { $, question } from "./fields.js";

export const row = $("row"); // the field for the id of a row

let chosen = null; // the id of the row that was clicked: an integer stays one

// The path and the body of the search for what the fields have; null without a query.
export function storeSearch(model) {
  if (chosen !== null && String(chosen) !== row.value) chosen = null;
  const id = chosen ?? row.value;
  if (id !== "") return { path: "/api/store/search/row", body: { model, id } };
  const text = question.value;
  return text.trim() ? { path: "/api/store/search/text", body: { model, text } } : null;
}

export function chooseRow(id) {
  chosen = id;
  row.value = String(id);
  question.value = "";
}

// Return an answer of /api/store/search in the form of an answer about a story.
export function drawnStore(answer) {
  const { query, text, hops } = answer;
  const best = query ? firstLine(query) : text;
  const heard = `${best}. ${hops.map((hop, index) => `${titleOf(hops, index)}${about(hop, hops)}`).join(". ")}`;
  return { ...answer, slots: hops, hops: [], best, heard, runners_up: [], attention: [], lines: [], lineOf: [] };
}

const isRanked = (hops) => hops.length === 1 && hops[0].rows.every((one) => one.score !== null);
const titleOf = (hops, index) => (isRanked(hops) ? "" : `Hop ${index + 1}: `);

function about({ rows, covered }, hops) {
  if (!rows.length) return "read no row";
  const read = countedNoun(rows.length, "row");
  return isRanked(hops) ? `${read} by inner product` : `${read} with ${percent(covered)} of its attention`;
}

// The text of a row, or else its payload or its id.
export function firstLine({ id, text, payload }) {
  return text ?? (payload === null ? String(id) : JSON.stringify(payload));
}

// Draw the query of an answer in the card of the answer.
export function drawQuery({ query, best }) {
  const id = query ? [createElement("p", { className: "faint" }, "Row ", idOf(query.id))] : [];
  const payload = query && query.text !== null && query.payload !== null ? [payloadOf(query.payload)] : [];
  $("answer").replaceChildren(...id, createElement("p", { className: "asked", textContent: best }), ...payload);
}

const idOf = (id) => createElement("bdi", { textContent: String(id) });
const payloadOf = (payload) => createElement("code", { textContent: JSON.stringify(payload) });

// Draw the rows of each hop; none if the answer is null or not of a store.
export function drawSlots(answer, onChoose) {
  const hops = answer?.slots ?? [];
  $("slots").replaceChildren(...hops.map((hop, index) => hopCard(hop, index, hops, onChoose)));
}

function hopCard(hop, index, hops, onChoose) {
  const title = createElement("h2", {}, titleOf(hops, index), createElement("small", { textContent: about(hop, hops) }));
  const covered = isRanked(hops) ? [] : [createElement("div", { className: "covered" }, bar(hop.covered))];
  const best = Math.max(...hop.rows.map((one) => one.score ?? 0)) || 1;
  return createElement("section", {}, title, ...covered,
    createElement("ol", {}, ...hop.rows.map((one) => slot(one, isRanked(hops), best, onChoose))));
}

function slot({ id, text, payload, weight, score }, isRankedHop, best, onChoose) {
  const share = isRankedHop ? Math.max(0, score / best) : weight;
  const figure = isRankedHop ? score.toFixed(3) : weight.toFixed(3);
  const button = createElement("button", { type: "button", title: "Search with this row" }, idOf(id));
  button.addEventListener("click", () => onChoose(id));
  const content = [
    ...(text === null ? [] : [createElement("p", { textContent: text })]),
    ...(payload === null ? [] : [payloadOf(payload)]),
  ];
  return createElement("li", {},
    createElement("div", { className: "measure" }, bar(share), createElement("b", { textContent: figure })),
    createElement("div", {}, button, ...content));
}
