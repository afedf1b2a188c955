"""A conversation with a model at the terminal: statements, questions, and a few commands."""

from memhop.cli.screen import say, say_answer
from memhop.text.answer import never_seen
from memhop.text.memn2n import MemN2N
from memhop.vocabulary import is_question, split_sentences, split_words

_BEGIN = "Type sentences; a question ends in '?'. 'help' lists the commands, 'quit' ends."
_HELP = """\
Mary took the milk.  sentences are added to the story
Where is the milk?   a question is answered from the story so far
undo                 take back the last line, or the last 'forget'
forget               begin a new story
help                 show this text
quit                 end (also: exit, Ctrl-D)"""
_QUESTION_WORDS = {"where", "what", "who", "how", "is", "why"}


class Conversation:
    """A story that grows line by line, and the replies to each line."""

    def __init__(self, model: MemN2N) -> None:
        self.model = model
        self.story: list[str] = []
        self._before: list[list[str] | int] = []  # a story given up, or the length before a line

    def hear(self, line: str) -> bool:
        """Answer one line; False where it ends the conversation."""
        command = line.strip().lower().rstrip(".!")
        if command in ("quit", "exit"):
            return False
        if command == "help":
            for text in _HELP.splitlines():
                say(text, style="dim")
        elif command == "undo":
            self._undo()
        elif command == "forget":
            self._before.append(self.story)
            self.story = []
            say("a new story", style="dim")
        else:
            self._read(line)
        return True

    def _read(self, line: str) -> None:
        begin = unanswered = len(self.story)
        for sentence in split_sentences(line):
            if is_question(sentence):
                say_answer(self.model.answer(self.story, sentence))
                say("")
                unanswered = len(self.story)  # an answer names the unknown words before it
            else:
                self.story.append(sentence)
        added = self.story[begin:]
        if not added:
            return
        self._before.append(begin)
        new = self.story[unanswered:]
        words = dict.fromkeys(word for sentence in new for word in split_words(sentence))
        if unknown := [word for word in words if word not in self.model.vocabulary]:
            say(never_seen(unknown), style="red")
        asks = any(split_words(sentence)[:1][0] in _QUESTION_WORDS for sentence in added)
        say(self._length() + ("; a question ends in '?'" if asks else ""), style="dim")

    def _undo(self) -> None:
        if not self._before:
            say("nothing to undo", style="dim")
            return
        before = self._before.pop()
        if isinstance(before, list):
            self.story = before
            say(f"the story is back: {self._length()}", style="dim")
            return
        for sentence in self.story[before:]:
            say(f"removed: {sentence}", style="dim")
        del self.story[before:]
        say(self._length(), style="dim")

    def _length(self) -> str:
        number = len(self.story)
        return f"the story holds {number:,} sentence{'' if number == 1 else 's'}"


def talk(model: MemN2N) -> None:
    """Read lines until 'quit' or Ctrl-D."""
    say(_BEGIN, style="dim")
    conversation = Conversation(model)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        if not conversation.hear(line):
            return
