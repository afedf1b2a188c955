// The two fields: where the caret is, and texts put into them.

export const $ = (id) => document.getElementById(id);
export const story = $("story"), question = $("question");

export const isWriting = () => document.activeElement === story;

// The line of the story that somebody writes in; null where nobody does.
export const caretLine = () => (isWriting() ? story.value.slice(0, story.selectionStart).split("\n").length - 1 : null);

let replacing = false; // the events of `replace` are no edits by hand
export const isReplacing = () => replacing;

// Put another text into a field: as typed, so that it can be undone, where the caret is in it.
// Only the part that differs is replaced, and the caret keeps its place in the rest.
export function replace(field, text) {
  const old = field.value;
  if (old === text) return;
  if (document.activeElement !== field) {
    field.value = text;
    return;
  }
  const least = Math.min(old.length, text.length);
  let begin = 0, end = 0;
  while (begin < least && old[begin] === text[begin]) begin++;
  while (end < least - begin && old.at(-1 - end) === text.at(-1 - end)) end++;
  const caret = field.selectionStart, behind = old.length - caret;
  const part = text.slice(begin, text.length - end);
  replacing = true;
  field.setSelectionRange(begin, old.length - end);
  if (!document.execCommand(part ? "insertText" : "delete", false, part)) field.setRangeText(part);
  replacing = false;
  const place = caret <= begin ? caret : Math.max(begin, text.length - behind);
  field.setSelectionRange(place, place);
}

// Put text in at the caret as if it were typed: it can be undone.
export function insert(event, text) {
  event.preventDefault();
  document.execCommand("insertText", false, text);
}

// Select a line of the story, in view.
export function selectLine(line) {
  const lines = story.value.split("\n");
  const start = lines.slice(0, line).join("\n").length + (line ? 1 : 0);
  $("lines").children[line].scrollIntoView({ block: "nearest" });
  story.focus({ preventScroll: true });
  story.setSelectionRange(start, start + lines[line].length);
}
