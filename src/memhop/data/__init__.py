"""Stories with questions: read and write files, or generate stories.

:mod:`memhop.data.download`, which downloads the released files, is imported separately.
"""

from memhop.data.babi import SPLITS, TASK_NAMES, find_tasks, read_babi, read_stories, write_babi
from memhop.data.record_writers import write_examples
from memhop.data.records import read_examples
from memhop.data.stories import generate, generate_splits
from memhop.data.story import Question, Story, to_examples

__all__ = [
    "SPLITS",
    "TASK_NAMES",
    "Question",
    "Story",
    "find_tasks",
    "generate",
    "generate_splits",
    "read_babi",
    "read_examples",
    "read_stories",
    "to_examples",
    "write_babi",
    "write_examples",
]
