// Draw the facts that each hop read: the graph of the server, and the same facts as lists.
// The graph is an image, in which no script runs and nothing is loaded. Every text is set as
// textContent, never as HTML.

import { bar, countedNoun, createElement, listed } from "./draw.js";
import { $ } from "./fields.js";

const PATH_SHARE = 0.1; // of the support of the strongest fact, from which on a fact is on the path
const BEST = 3; // answers in large letters

// Return an answer of /api/kb/answer in the form of an answer about a story.
export function drawnFacts(answer) {
  const [first, ...others] = answer.answers;
  const best = listed(answer.answers.map((one) => one.answer), BEST);
  return { ...answer, ...first, best, runners_up: [...others, ...answer.runners_up], attention: [], lines: [], lineOf: [] };
}

// Draw the facts of an answer; none if it is null or about a story.
export function drawFacts(answer) {
  const hops = answer?.hops ?? [];
  $("path-title").hidden = $("graph").hidden = !hops.length;
  $("graph").replaceChildren(...(hops.length ? [graph(answer.picture)] : []));
  $("facts").replaceChildren(...hops.map(hopList));
}

function graph(picture) {
  const image = createElement("img", { alt: "The facts as a graph; the lists below have the same facts." });
  image.src = `data:image/svg+xml,${encodeURIComponent(picture)}`;
  return image;
}

function hopList({ facts, num_facts, dropped, words }, index) {
  const read = createElement("small", { textContent: ` read ${countedNoun(num_facts, "fact")}` });
  const most = Math.max(...words.map((one) => one.attention));
  const attended = words.map(({ word, attention }) => {
    const element = createElement("span", { className: "attended", textContent: word === "<topic>" ? "‹entity›" : word });
    element.style.setProperty("--share", attention / most);
    return element;
  });
  const least = PATH_SHARE * Math.max(...facts.map((fact) => fact.support));
  const more = num_facts - facts.length;
  const notes = [
    ...(more ? [`and ${countedNoun(more, "more fact")}`] : []),
    ...(dropped >= 0.005 ? [`The weights are estimates: this hop did not follow entities with ${Math.round(100 * dropped)}% of the weight.`] : []),
  ];
  return createElement("section", {},
    createElement("h3", { textContent: `Hop ${index + 1}` }, read),
    createElement("p", {}, "looks at ", ...attended.flatMap((word) => [word, " "])),
    createElement("ul", {}, ...facts.map((fact) => factRow(fact, fact.support > 0 && fact.support >= least))),
    ...notes.map((note) => createElement("p", { className: "more", textContent: note })));
}

// A fact in the direction of reading; the arrow points from its subject to its object.
function factRow({ subject, relation, object, is_inverse, weight }, isOnPath) {
  const [start, end] = is_inverse ? [object, subject] : [subject, object];
  const arrow = is_inverse ? `←${relation}─` : `─${relation}→`;
  const text = createElement("span", {},
    createElement("bdi", { textContent: start }), " ", createElement("bdi", { className: "relation", textContent: arrow, dir: "ltr" }), " ",
    createElement("bdi", { textContent: end }));
  return createElement("li", { className: isOnPath ? "on-path" : "" }, text, bar(weight), createElement("b", { textContent: weight.toFixed(2) }));
}
