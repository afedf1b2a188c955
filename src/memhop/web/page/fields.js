// The two text fields: the caret, and changes that can be undone.

export const $ = (id) => document.getElementById(id);
export const story = $("story"), question = $("question");

export const isWriting = () => document.activeElement === story;

// The line of the caret in the story; null if the story has no focus.
export const caretLine = () => (isWriting() ? story.value.slice(0, story.selectionStart).split("\n").length - 1 : null);

let isReplacingNow = false; // the input events of `replace` are not from the user
export const isReplacing = () => isReplacingNow;

// Replace the text of a field. If it has the focus, the user can undo this. Only the part that
// differs is replaced, and the caret keeps its position in the rest.
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
  const caret = field.selectionStart, afterCaret = old.length - caret;
  const part = text.slice(begin, text.length - end);
  isReplacingNow = true;
  field.setSelectionRange(begin, old.length - end);
  if (!document.execCommand(part ? "insertText" : "delete", false, part)) field.setRangeText(part);
  isReplacingNow = false;
  const place = caret <= begin ? caret : Math.max(begin, text.length - afterCaret);
  field.setSelectionRange(place, place);
}

// Insert text at the caret; the user can undo this.
export function insert(event, text) {
  event.preventDefault();
  document.execCommand("insertText", false, text);
}

// Select a line of the story and scroll to it.
export function selectLine(line) {
  const lines = story.value.split("\n");
  const start = lines.slice(0, line).join("\n").length + (line ? 1 : 0);
  $("lines").children[line].scrollIntoView({ block: "nearest" });
  story.focus({ preventScroll: true });
  story.setSelectionRange(start, start + lines[line].length);
}
