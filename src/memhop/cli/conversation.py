"""A conversation with a model at the terminal: statements, questions and commands."""

from typing import NamedTuple

from memhop.cli.answers import print_answer, print_verdict
from memhop.cli.screen import print_line, print_progress
from memhop.data.story import NUMBERED_LINE, QUESTION_LINE
from memhop.text.answer import never_seen
from memhop.text.model import MemN2N
from memhop.tokenizer import is_question, split_sentences, split_words

_INTRODUCTION = "Type sentences; a question ends in '?'. 'help' lists the commands, 'quit' ends."
_HELP = """\
Mary took the milk.  sentences are added to the story
Where is the milk?   a question is answered from the story so far
undo                 remove the sentences that were added last, or undo 'forget'
forget               start a new story
help                 show this text
quit                 end (also: exit, Ctrl-D)
Lines of a bAbI file can be pasted; then the right answers are shown."""
_QUESTION_WORDS = {"where", "what", "who", "how", "is", "why"}


class _State(NamedTuple):
    """The state that 'undo' restores; ``is_forgotten`` if a new story began after it."""

    story: list[str]
    line_number: int
    is_forgotten: bool = False


class Conversation:
    """A story that grows line by line, and the reply to each line."""

    def __init__(self, model: MemN2N) -> None:
        self.model = model
        self.story: list[str] = []
        self._line_number = 0  # of the last bAbI line of this story
        self._undo_stack: list[_State] = []

    def reply(self, line: str) -> bool:
        """Reply to one line; return False if it ends the conversation."""
        words = split_words(line)
        command = words[0] if len(words) == 1 else ""
        if command in ("quit", "exit"):
            return False
        if command == "help":
            for text in _HELP.splitlines():
                print_line(text, style="dim")
        elif command == "undo":
            self._undo()
        elif command == "forget":
            self._forget()
        elif words:
            self._read(line)
        elif line.strip():
            print_line("no word in this line; 'help' lists the commands", style="dim")
        return True

    def _read(self, line: str) -> None:
        number, text, right = self._babi_line(line)
        if number == 1 and self.story:
            self._forget()
        before = _State(self.story.copy(), self._line_number)
        self._line_number = number or self._line_number
        start = unanswered = len(self.story)
        for sentence in split_sentences(text) if right is None else [text]:
            if right is not None or is_question(sentence):
                self._answer(sentence, right)
                unanswered = len(self.story)  # an answer names the unknown words before it
            else:
                self.story.append(sentence)
        if added := self.story[start:]:
            self._undo_stack.append(before)
            self._print_added(added, self.story[unanswered:])

    def _babi_line(self, line: str) -> tuple[int, str, str | None]:
        """Return number, text and right answer of a bAbI line; 0, the line and None for others.

        A numbered line is from a bAbI file if it has a tab, or if it continues the numbers of the
        lines before it; a number that the model knows as a word stays in its sentence.
        """
        match = NUMBERED_LINE.match(line)
        if not match:
            return 0, line, None
        number, text = int(match[1]), line[match.end() :]
        starts = number == 1 and bool(self._line_number or not self.story)
        follows = number == self._line_number + 1 and bool(self._line_number)
        is_known = match[1] in self.model.vocabulary
        if "\t" not in text.strip() and (is_known or not (starts or follows)):
            return 0, line, None
        question = QUESTION_LINE.fullmatch(text)
        if question and question[2] and split_words(question[1]):
            return number, question[1], question[2]
        return number, text, None

    def _answer(self, question: str, right: str | None) -> None:
        answer = self.model.answer(self.story, question)
        print_answer(answer)
        if answer.truncated:
            print_progress(answer.not_read())
        if right is not None:
            print_verdict(answer, right)
        print_line("")

    def _print_added(self, added: list[str], unanswered: list[str]) -> None:
        words = dict.fromkeys(word for sentence in unanswered for word in split_words(sentence))
        if unknown := [word for word in words if word not in self.model.vocabulary]:
            print_line(never_seen(unknown), style="red")
        may_ask = any(split_words(sentence)[:1][0] in _QUESTION_WORDS for sentence in added)
        hint = "; a question ends in '?'" if may_ask else ""
        print_line(f"the story has {self._length()}{hint}", style="dim")

    def _forget(self) -> None:
        if self.story:
            self._undo_stack.append(_State(self.story, self._line_number, is_forgotten=True))
            self.story = []
        self._line_number = 0
        print_line("a new story", style="dim")

    def _undo(self) -> None:
        if not self._undo_stack:
            print_line("nothing to undo", style="dim")
            return
        before = self._undo_stack.pop()
        removed = self.story[len(before.story) :]
        self.story, self._line_number = before.story, before.line_number
        if before.is_forgotten:
            print_line(f"the story is restored: it has {self._length()}", style="dim")
            return
        for sentence in removed:
            print_line(f"removed: {sentence}", style="dim")
        print_line(f"the story has {self._length()}", style="dim")

    def _length(self) -> str:
        number = len(self.story)
        return f"{number:,} sentence{'' if number == 1 else 's'}"


def converse(model: MemN2N) -> None:
    """Read lines until 'quit' or Ctrl-D."""
    print_line(_INTRODUCTION, style="dim")
    conversation = Conversation(model)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        if not conversation.reply(line):
            return
