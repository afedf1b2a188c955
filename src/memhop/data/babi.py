"""The released format of the bAbI tasks: reading, writing, and finding the files of a task.

One line each: ``ID text`` for a statement, ``ID question<TAB>answer<TAB>supporting IDs`` for a
question. An ID of 1 starts a new story; statements and questions share the numbering, and a
question sees only the statements above it. A line without a tab that reads as a question is an
error: it ends in a question mark, or text that ends in no full stop follows the question mark.
So is an answer that ends in the number of a statement (``office 3``) if other questions have
supporting IDs. The format and the 20
tasks are those of Weston et al., "Towards AI-Complete Question Answering" (arXiv 1502.05698).
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from memhop.atomic_write import atomic_write
from memhop.data.story import (
    PADDING,
    Question,
    Story,
    check_question,
    missing_tab,
    numbers_at_end,
    quoted,
    to_examples,
)
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import is_question

TASK_NAMES: dict[int, str] = {
    1: "single-supporting-fact",
    2: "two-supporting-facts",
    3: "three-supporting-facts",
    4: "two-arg-relations",
    5: "three-arg-relations",
    6: "yes-no-questions",
    7: "counting",
    8: "lists-sets",
    9: "simple-negation",
    10: "indefinite-knowledge",
    11: "basic-coreference",
    12: "conjunction",
    13: "compound-coreference",
    14: "time-reasoning",
    15: "basic-deduction",
    16: "basic-induction",
    17: "positional-reasoning",
    18: "size-reasoning",
    19: "path-finding",
    20: "agents-motivations",
}
"""The names of the 20 tasks, as they stand in the names of the released files."""

SPLITS = ("train", "valid", "test")
_LINE_AFTER_RETURN = re.compile(r"\r[0-9]+ ")
_FILE_NAME = re.compile(r"qa([1-9][0-9]{0,3})_(?:.+_)?(train|valid|test)\.txt")


def write_babi(path: str | os.PathLike[str], stories: Iterable[Story]) -> None:
    """Writes ``stories`` to a file that :func:`read_babi` reads back to the same examples.

    The file appears whole or not at all; one that was there is replaced.

    >>> from tempfile import TemporaryDirectory
    >>> story = Story(("Mary went home.",), (Question(1, "Where is Mary?", "home", (0,)),))
    >>> with TemporaryDirectory() as folder:
    ...     write_babi(f"{folder}/own.txt", [story])
    ...     read_babi(f"{folder}/own.txt")[0].answer
    'home'
    """
    target = Path(path)
    with _explained(target, "written"), atomic_write(target) as out:
        out.writelines(f"{line}\n" for story in stories for line in story.lines())


def read_babi(
    path: str | os.PathLike[str], *, task: int | None = None, split: str | None = None
) -> list[Example]:
    """Reads questions in the released format, each with the statements above it.

    ``path`` is a file, or a folder of files named as released (``qa1_..._train.txt``). In a folder
    ``task`` and ``split`` ("train", "valid" or "test") choose; what is left out is not restricted,
    so ``read_babi(folder)`` reads every task, training and test questions alike, in the order of
    tasks. A folder without any such name is read as all its ``.txt`` files.

    Raises MemhopError (``file:line: what came; what was needed``) for anything malformed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.txt")
    ...     _ = file.write_text("1 Mary went home.\\n2 Where is Mary?\\thome\\t1\\n")
    ...     (example,) = read_babi(file)
    >>> example.story, example.answer, example.supporting_facts
    (('Mary went home.',), 'home', (0,))
    """
    return list(to_examples(chain.from_iterable(map(read_stories, _files(path, task, split)))))


def read_stories(path: str | os.PathLike[str]) -> Iterator[Story]:
    """Reads one file story by story, holding no more than one story at a time.

    Raises MemhopError as :func:`read_babi` does, once it comes to the malformed line.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.txt")
    ...     _ = file.write_text("1 Mary went home.\\n2 Where is Mary?\\thome\\n1 It rained.\\n")
    ...     [len(story.statements) for story in read_stories(file)]
    [1, 1]
    """
    file = Path(path)
    with _opened(file) as lines:
        yield from parse_stories(lines, file)


def parse_stories(
    lines: Iterable[bytes], file: Path, *, needs_answers: bool = True
) -> Iterator[Story]:
    """Read the lines of a file story by story; see :func:`read_stories`.

    ``file`` is named in errors. Without ``needs_answers`` a line that ends in a question mark is a
    question with the answer "".
    """
    draft = _Draft()
    asked = False
    suspect = ""  # a question whose answer ends in the ID of a statement
    has_ids = False
    for line_number, text in _numbered_lines(file, lines):
        try:
            ident, fields = _split(text, needs_answers)
            if ident == "1" and draft.last_id:
                yield draft.story()
                draft = _Draft()
            draft.add(ident, fields)
        except MemhopError as error:
            raise MemhopError(f"{shown(file)}:{line_number}: {error}") from None
        asked = asked or len(fields) > 1
        has_ids = has_ids or (len(fields) == 3 and bool(fields[2]))
        if not suspect and draft.has_ids_in_answer(fields):
            suspect = f"{shown(file)}:{line_number}: {_lost('before the supporting IDs', text)}"
        if suspect and has_ids:
            raise MemhopError(suspect)
    if not asked:
        raise MemhopError(
            f"{shown(file)}: no question in the file; needed at least one line "
            "'ID question<TAB>answer'"
        )
    yield draft.story()


def find_tasks(folder: str | os.PathLike[str]) -> dict[int, dict[str, Path]]:
    """The files of a folder that are named as released: task -> split -> file, in order.

    Two files for one task and split are a MemhopError; a folder without any is an empty dict.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("qa10_indefinite-knowledge_test.txt", "qa2_two-supporting-facts_test.txt"):
    ...         Path(folder, name).touch()
    ...     {task: list(splits) for task, splits in find_tasks(folder).items()}
    {2: ['test'], 10: ['test']}
    """
    base = Path(folder)
    found: dict[tuple[int, int], Path] = {}
    for file in _listed(base):
        match = _FILE_NAME.fullmatch(file.name)
        if match and file.is_file():
            key = (int(match[1]), SPLITS.index(match[2]))
            if key in found:
                raise MemhopError(
                    f"{shown(file)}: a second file for task {key[0]}, {match[2]}, "
                    f"beside {shown(found[key])}; needed one"
                )
            found[key] = file
    tasks: dict[int, dict[str, Path]] = {}
    for task, split in sorted(found):
        tasks.setdefault(task, {})[SPLITS[split]] = found[task, split]
    return tasks


def find_valid(train: Path) -> Path | None:
    """Return the validation file next to a training file ``qaN_..._train.txt``; None without.

    One of the same name but for its end goes before others of the task.

    Raises MemhopError for several others.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("qa1_own_train.txt", "qa1_valid.txt"):
    ...         Path(folder, name).touch()
    ...     find_valid(Path(folder, "qa1_own_train.txt")).name
    'qa1_valid.txt'
    """
    match = _FILE_NAME.fullmatch(train.name)
    if not match or match[2] != "train":
        return None
    same = train.with_name(f"{train.name.removesuffix('train.txt')}valid.txt")
    if same.is_file():
        return same
    pattern = re.compile(rf"qa{match[1]}_(?:.+_)?valid\.txt")
    found = [f for f in _listed(train.parent) if pattern.fullmatch(f.name) and f.is_file()]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise MemhopError(f"{shown(train)}: several validation files for it: {names}; needed one")
    return found[0] if found else None


def shown(path: Path) -> str:
    """A path for a message of one line: as it is, or escaped if it would break the line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


class _Draft:
    """A story as far as it has been read."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.questions: list[Question] = []
        self.positions: dict[str, int] = {}  # of the statements, by their ids in the file
        self.last_id = 0

    def story(self) -> Story:
        return Story(tuple(self.statements), tuple(self.questions))

    def add(self, ident: str, fields: list[str]) -> None:
        if ident != str(self.last_id + 1):
            start = " or 1 for a new story" if self.last_id else " to start a story"
            raise MemhopError(f"ID {quoted(ident)}; needed {self.last_id + 1}{start}")
        self.last_id += 1
        if len(fields) == 1:
            self.positions[ident] = len(self.statements)
            self.statements.append(fields[0])
            return
        facts = tuple(map(self._position, fields[2].split())) if len(fields) == 3 else ()
        self.questions.append(Question(len(self.statements), fields[0], fields[1], facts))

    def has_ids_in_answer(self, fields: list[str]) -> bool:
        """Return whether an answer ends in IDs of statements above it, as after a lost tab."""
        ids = numbers_at_end(fields[1]) if len(fields) == 2 else []
        return bool(ids) and all(ident in self.positions for ident in ids)

    def _position(self, ident: str) -> int:
        if ident not in self.positions:
            raise MemhopError(
                f"supporting fact {quoted(ident)}; needed the ID of an earlier statement "
                "of the same story"
            )
        return self.positions[ident]


def _split(text: str, needs_answers: bool) -> tuple[str, list[str]]:
    """The ID of a line and its one field (a statement) or two to three (a question)."""
    ident, space, rest = text.lstrip(" ").partition(" ")
    if not (space and ident.isascii() and ident.isdigit()):
        raise MemhopError(f"{quoted(text)}; needed a line 'ID text'")
    fields = [field.strip(PADDING) for field in rest.split("\t")]
    if not fields[0]:
        raise MemhopError(f"no text after ID {quoted(ident)}; needed a statement or a question")
    if len(fields) > 3:
        raise MemhopError(
            f"{len(fields)} columns; needed at most 3: question, answer, supporting IDs"
        )
    if len(fields) > 1 and not fields[1]:
        raise MemhopError(f"no answer after {quoted(fields[0])}; needed 'question<TAB>answer'")
    if not needs_answers and len(fields) == 1 and is_question(fields[0]):
        return ident, [fields[0], ""]
    if place := missing_tab(fields):
        raise MemhopError(_lost(place, rest))
    if len(fields) > 1:
        check_question(fields[0], fields[1])
    return ident, fields


def _lost(place: str, text: str) -> str:
    needed = "'question<TAB>answer' or 'question<TAB>answer<TAB>supporting IDs'"
    return f"no tab {place} in {quoted(text)}; needed {needed}"


def _numbered_lines(file: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers; blank lines may only stand at the end."""
    blank = 0
    with _explained(file, "read"):
        for number, raw in enumerate(lines, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip(PADDING + "\n")
            except UnicodeDecodeError as error:
                came = f"byte 0x{raw[error.start]:02x} at column {error.start + 1}"
                raise MemhopError(f"{shown(file)}:{number}: {came}; needed UTF-8 text") from None
            if _LINE_AFTER_RETURN.search(text):
                raise MemhopError(
                    f"{shown(file)}:{number}: a carriage return ends a line; needed LF or CRLF"
                )
            if not text:
                blank = blank or number
                continue
            if blank:
                raise MemhopError(f"{shown(file)}:{blank}: an empty line; needed a line 'ID text'")
            yield number, text


def _opened(file: Path) -> BinaryIO:
    with _explained(file, "read"):
        if not file.exists():
            raise MemhopError(f"{shown(file)}: no such file; needed a file in the bAbI format")
        return file.open("rb")


def _listed(folder: Path) -> list[Path]:
    with _explained(folder, "listed"):
        return sorted(folder.iterdir())


@contextmanager
def _explained(path: Path, deed: str) -> Iterator[None]:
    """Turns what the system has against a path into one line."""
    try:
        yield
    except MemhopError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{shown(path)}: cannot be {deed}: {reason}") from None


def _files(path: str | os.PathLike[str], task: int | None, split: str | None) -> list[Path]:
    """The files that the arguments of :func:`read_babi` choose, in order."""
    if split is not None and split not in SPLITS:
        raise MemhopError(f"split {split!r}; needed one of {', '.join(SPLITS)}")
    base = Path(path)
    everything = task is None and split is None
    with _explained(base, "read"):
        is_folder = base.is_dir()
    if not is_folder:
        if not everything:
            raise MemhopError(
                f"{shown(base)}: no such folder; task and split choose a file in a folder"
            )
        return [base]
    tasks = find_tasks(base)
    chosen = [
        file
        for number, splits in tasks.items()
        for name, file in splits.items()
        if task in (None, number) and split in (None, name)
    ]
    inner = [] if chosen else _folders_with_tasks(base)
    if not (chosen or tasks or inner) and everything:
        chosen = sorted((f for f in _listed(base) if f.suffix == ".txt"), key=_natural)
    if not chosen:
        wanted = f"qa{'N' if task is None else task}_..._{split or 'train'}.txt"
        there = f"it holds {_holdings(tasks, task)}"
        if inner:
            there = f"try one of the folders {', '.join(map(shown, inner[:4]))}"
        raise MemhopError(f"{shown(base)}: no file {wanted}; {there}")
    return chosen


def _holdings(tasks: dict[int, dict[str, Path]], task: int | None) -> str:
    """What a folder holds instead of the file that was looked for, in few words."""
    if task in tasks:
        return f"task {task} as {', '.join(tasks[task])} only"
    numbers = ", ".join(map(str, tasks))
    if len(tasks) > 2 and max(tasks) - min(tasks) == len(tasks) - 1:
        numbers = f"{min(tasks)} to {max(tasks)}"
    return f"task {numbers}" if tasks else "no file of that form"


def _folders_with_tasks(base: Path) -> list[Path]:
    return [folder for folder in _listed(base) if folder.is_dir() and any(folder.glob("qa*_*.txt"))]


def _natural(file: Path) -> list[tuple[int, str]]:
    """A key that sorts ``2.txt`` before ``10.txt``."""
    parts = re.split(r"([0-9]+)", file.name)
    return [(int(p), p) if p.isdecimal() else (-1, p) for p in parts]
