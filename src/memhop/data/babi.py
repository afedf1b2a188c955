"""Read, write and find files in the released format of the bAbI tasks.

A statement is a line ``ID text``, a question ``ID question<TAB>answer<TAB>supporting IDs``. ID 1
starts a new story; statements and questions share the numbering, and a question is about the
statements before it. A question without a tab is an error: a line that ends in a question mark, or
in text after one that does not end in a full stop. So is an answer that ends in the ID of a
statement (``office 3``) if other questions have supporting IDs. Weston et al. define the format and
the 20 tasks in "Towards AI-Complete Question Answering" (arXiv 1502.05698).
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
    MissingTabs,
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
from memhop.lines import printable
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
"""The names of the 20 tasks, as in the names of the released files."""

SPLITS = ("train", "valid", "test")
_LINE_AFTER_RETURN = re.compile(r"\r[0-9]+ ")
_TRAIN_NAME = re.compile(r"((qa[1-9][0-9]{0,3})_(?:.+_)?)train((?:\.[^.]+)?(?:\.gz)?)", re.ASCII)
_FILE_NAME = re.compile(r"qa([1-9][0-9]{0,3})_(?:.+_)?(train|valid|test)\.txt")


def write_babi(path: str | os.PathLike[str], stories: Iterable[Story]) -> None:
    """Write ``stories`` to a file that :func:`read_babi` reads back to the same examples.

    The write is atomic; an existing file is replaced.

    >>> from tempfile import TemporaryDirectory
    >>> story = Story(("Mary went home.",), (Question(1, "Where is Mary?", "home", (0,)),))
    >>> with TemporaryDirectory() as folder:
    ...     write_babi(f"{folder}/own.txt", [story])
    ...     read_babi(f"{folder}/own.txt")[0].answer
    'home'
    """
    target = Path(path)
    with _one_line_errors(target, "written"), atomic_write(target) as out:
        out.writelines(f"{line}\n" for story in stories for line in story.lines())


def read_babi(
    path: str | os.PathLike[str], *, task: int | None = None, split: str | None = None
) -> list[Example]:
    """Read questions in the released format, each with the statements before it.

    Args:
        path: a file, or a folder of files named as released (``qa1_..._train.txt``). If no file in
            a folder has such a name, all its ``.txt`` files are read.
        task: the task to read from a folder; all in order if None.
        split: "train", "valid" or "test"; all if None.

    Raises:
        MemhopError: a file is malformed: ``file:line: expected ..., got ...``.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.txt")
    ...     _ = file.write_text("1 Mary went home.\\n2 Where is Mary?\\thome\\t1\\n")
    ...     (example,) = read_babi(file)
    >>> example.story, example.answer, example.supporting_facts
    (('Mary went home.',), 'home', (0,))
    """
    return list(to_examples(chain.from_iterable(map(read_stories, _files(path, task, split)))))


def read_stories(path: str | os.PathLike[str], *, needs_answers: bool = True) -> Iterator[Story]:
    """Read one file story by story, with at most one story in memory.

    Args:
        path: the file.
        needs_answers: as in `parse_stories`.

    Raises:
        MemhopError: as :func:`read_babi`, when it reads the malformed line.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.txt")
    ...     _ = file.write_text("1 Mary went home.\\n2 Where is Mary?\\thome\\n1 It rained.\\n")
    ...     [len(story.statements) for story in read_stories(file)]
    [1, 1]
    """
    file = Path(path)
    with _opened(file) as lines:
        yield from parse_stories(lines, file, needs_answers=needs_answers)


def parse_stories(
    lines: Iterable[bytes], file: Path, *, needs_answers: bool = True
) -> Iterator[Story]:
    """Read the lines of a file story by story; see :func:`read_stories`.

    Errors name ``file``. Without ``needs_answers`` a line that ends in a question mark is a
    question with the answer "".
    """
    draft = _Draft()
    has_questions = False
    tabs = MissingTabs()
    for line_number, text in _numbered_lines(file, lines):
        try:
            ident, fields = _split(text, needs_answers)
            if ident == "1" and draft.last_id:
                yield draft.story()
                draft = _Draft()
            draft.add(ident, fields)
        except MemhopError as error:
            raise MemhopError(f"{printable(file)}:{line_number}: {error}") from None
        has_questions = has_questions or len(fields) > 1
        suspect = ""
        if draft.has_ids_in_answer(fields):
            error_text = _missing_tab_error("before the supporting IDs", text)
            suspect = f"{printable(file)}:{line_number}: {error_text}"
        tabs.add(suspect, len(fields) == 3 and bool(fields[2]))
    if not has_questions:
        expected = "at least one line 'ID question<TAB>answer'"
        raise MemhopError(f"{printable(file)}: expected {expected}, got no question")
    yield draft.story()


def find_tasks(folder: str | os.PathLike[str]) -> dict[int, dict[str, Path]]:
    """Return the files of a folder that are named as released: task -> split -> file, in order.

    Raises:
        MemhopError: there are two files for one task and split.

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
                    f"expected one file for task {key[0]}, {match[2]}, "
                    f"got {printable(found[key])} and {printable(file)}"
                )
            found[key] = file
    tasks: dict[int, dict[str, Path]] = {}
    for task, split in sorted(found):
        tasks.setdefault(task, {})[SPLITS[split]] = found[task, split]
    return tasks


def find_valid(train: Path) -> Path | None:
    """Return the validation file in the folder of a training file ``qaN_..._train.txt``, or None.

    Both may have another suffix, such as ``.jsonl`` or ``.jsonl.gz``. A file with the same name up
    to the split takes precedence over others of the task.

    Raises:
        MemhopError: there are several others.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("qa1_own_train.txt", "qa1_valid.txt"):
    ...         Path(folder, name).touch()
    ...     find_valid(Path(folder, "qa1_own_train.txt")).name
    'qa1_valid.txt'
    """
    match = _TRAIN_NAME.fullmatch(train.name)
    if not match:
        return None
    start, task, end = match.groups()
    same = train.with_name(f"{start}valid{end}")
    if same.is_file():
        return same
    pattern = re.compile(rf"{task}_(?:.+_)?valid{re.escape(end)}")
    files = [f for f in _listed(train.parent) if pattern.fullmatch(f.name) and f.is_file()]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise MemhopError(f"{printable(train)}: expected one validation file, got {names}")
    return files[0] if files else None


class _Draft:
    """A story under construction."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.questions: list[Question] = []
        self.positions: dict[str, int] = {}  # of the statements, by ID
        self.last_id = 0

    def story(self) -> Story:
        return Story(tuple(self.statements), tuple(self.questions))

    def add(self, ident: str, fields: list[str]) -> None:
        if ident != str(self.last_id + 1):
            start = ", or 1 for a new story" if self.last_id else " to start a story"
            raise MemhopError(f"expected ID {self.last_id + 1}{start}, got {quoted(ident)}")
        self.last_id += 1
        if len(fields) == 1:
            self.positions[ident] = len(self.statements)
            self.statements.append(fields[0])
            return
        facts = tuple(map(self._position, fields[2].split())) if len(fields) == 3 else ()
        self.questions.append(Question(len(self.statements), fields[0], fields[1], facts))

    def has_ids_in_answer(self, fields: list[str]) -> bool:
        """Return whether an answer ends in IDs of earlier statements, as if a tab is missing."""
        ids = numbers_at_end(fields[1]) if len(fields) == 2 else []
        return bool(ids) and all(ident in self.positions for ident in ids)

    def _position(self, ident: str) -> int:
        if ident not in self.positions:
            expected = "as supporting fact the ID of an earlier statement of the same story"
            raise MemhopError(f"expected {expected}, got {quoted(ident)}")
        return self.positions[ident]


def _split(text: str, needs_answers: bool) -> tuple[str, list[str]]:
    """Split a line into its ID and one field (a statement) or two to three (a question)."""
    ident, space, rest = text.lstrip(" ").partition(" ")
    if not (space and ident.isascii() and ident.isdigit()):
        raise MemhopError(f"expected a line 'ID text', got {quoted(text)}")
    fields = [field.strip(PADDING) for field in rest.split("\t")]
    if not fields[0]:
        raise MemhopError(f"expected a statement or a question after ID {quoted(ident)}, got none")
    if len(fields) > 3:
        expected = "at most 3 columns: question, answer, supporting IDs"
        raise MemhopError(f"expected {expected}; got {len(fields)}")
    if len(fields) > 1 and not fields[1]:
        expected = "'question<TAB>answer'"
        raise MemhopError(f"expected {expected}, got no answer after {quoted(fields[0])}")
    if not needs_answers and len(fields) == 1 and is_question(fields[0]):
        return ident, [fields[0], ""]
    if place := missing_tab(fields):
        raise MemhopError(_missing_tab_error(place, rest))
    if len(fields) > 1:
        check_question(fields[0], fields[1])
    return ident, fields


def _missing_tab_error(place: str, text: str) -> str:
    expected = "'question<TAB>answer' or 'question<TAB>answer<TAB>supporting IDs'"
    return f"missing tab {place} in {quoted(text)}; expected {expected}"


def _numbered_lines(file: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers; blank lines are allowed only at the end."""
    blank = 0
    with _one_line_errors(file, "read"):
        for number, raw in enumerate(lines, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip(PADDING + "\n")
            except UnicodeDecodeError as error:
                place = f"byte 0x{raw[error.start]:02x} at column {error.start + 1}"
                message = f"{printable(file)}:{number}: expected UTF-8 text, got {place}"
                raise MemhopError(message) from None
            if _LINE_AFTER_RETURN.search(text):
                expected = "LF or CRLF as line ends"
                raise MemhopError(f"{printable(file)}:{number}: expected {expected}, got CR")
            if not text:
                blank = blank or number
                continue
            if blank:
                expected = "a line 'ID text', got an empty line"
                raise MemhopError(f"{printable(file)}:{blank}: expected {expected}")
            yield number, text


def _opened(file: Path) -> BinaryIO:
    with _one_line_errors(file, "read"):
        if not file.exists():
            raise MemhopError(f"{printable(file)}: no such file")
        return file.open("rb")


def _listed(folder: Path) -> list[Path]:
    with _one_line_errors(folder, "listed"):
        return sorted(folder.iterdir())


@contextmanager
def _one_line_errors(path: Path, action: str) -> Iterator[None]:
    """Turn an error of the system into a MemhopError of one line."""
    try:
        yield
    except MemhopError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{printable(path)}: cannot be {action}: {reason}") from None


def _files(path: str | os.PathLike[str], task: int | None, split: str | None) -> list[Path]:
    """Return the files that the arguments of :func:`read_babi` select, in order."""
    if split is not None and split not in SPLITS:
        raise MemhopError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    base = Path(path)
    is_unrestricted = task is None and split is None
    with _one_line_errors(base, "read"):
        is_folder = base.is_dir()
    if not is_folder:
        if not is_unrestricted:
            raise MemhopError(f"{printable(base)}: task and split need a folder")
        return [base]
    tasks = find_tasks(base)
    chosen = [
        file
        for number, splits in tasks.items()
        for name, file in splits.items()
        if task in (None, number) and split in (None, name)
    ]
    inner = [] if chosen else _folders_with_tasks(base)
    if not (chosen or tasks or inner) and is_unrestricted:
        chosen = sorted((f for f in _listed(base) if f.suffix == ".txt"), key=_natural_order)
    if not chosen:
        expected = f"qa{'N' if task is None else task}_..._{split or 'train'}.txt"
        hint = f"the folder has {_available(tasks, task)}"
        if inner:
            hint = f"try one of the folders {', '.join(map(printable, inner[:4]))}"
        raise MemhopError(f"{printable(base)}: no file {expected}; {hint}")
    return chosen


def _available(tasks: dict[int, dict[str, Path]], task: int | None) -> str:
    """Describe the files of a folder that lacks the requested one."""
    if task in tasks:
        return f"task {task} as {', '.join(tasks[task])} only"
    numbers = ", ".join(map(str, tasks))
    if len(tasks) > 2 and max(tasks) - min(tasks) == len(tasks) - 1:
        numbers = f"{min(tasks)} to {max(tasks)}"
    return f"task {numbers}" if tasks else "no file of that form"


def _folders_with_tasks(base: Path) -> list[Path]:
    return [folder for folder in _listed(base) if folder.is_dir() and any(folder.glob("qa*_*.txt"))]


def _natural_order(file: Path) -> list[tuple[int, str]]:
    """Return a key that sorts ``2.txt`` before ``10.txt``."""
    parts = re.split(r"([0-9]+)", file.name)
    return [(int(p), p) if p.isdecimal() else (-1, p) for p in parts]
