"""Write generated facts, questions and texts in the released formats, for runs of seconds."""

from collections.abc import Sequence
from pathlib import Path

from memhop.data import generate as generate_stories
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import ask, generate
from memhop.reproduce import metaqa, pathquestion, ptb
from memhop.rng import Rng

NUM_FACTS = 300
NUM_QUESTIONS = 120  # of each file
NUM_LINES = 300  # of each text


def write_pathquestion(folder: Path, names: Sequence[str]) -> None:
    """Write sets in the form of PathQuestion."""
    kb = generate(facts=NUM_FACTS)
    entities = [name.replace(" ", "_") for name in kb.entities]
    facts = [f"{entities[s]}\t{kb.relations[r]}\t{entities[o]}\n" for s, r, o in kb.facts.tolist()]
    for name in names:
        (folder / pathquestion.FACTS[name]).write_text("".join(facts), encoding="utf-8")
        lines = _path_lines(kb, entities, pathquestion.Unit("", name, "", 0).num_hops)
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def _path_lines(kb: KnowledgeBase, entities: Sequence[str], hops: int) -> list[str]:
    rng = Rng(hops)
    facts_of: dict[int, list[tuple[int, int]]] = {}
    for subject, relation, target in kb.facts.tolist():
        facts_of.setdefault(subject, []).append((relation, target))
    lines: dict[str, str] = {}  # by the question
    while len(lines) < NUM_QUESTIONS:
        entity = rng.choice(list(facts_of))
        steps, asked = [entities[entity]], entities[entity]
        for _ in range(hops):
            if entity not in facts_of:
                break
            relation, entity = rng.choice(facts_of[entity])
            steps += [kb.relations[relation], entities[entity]]
            asked += f" 's {kb.relations[relation]}"
        else:
            end = steps[-1]
            columns = f"what is the {asked} ?", f"{end}({end}/)", f"{'#'.join(steps)}#<end>#{end}"
            lines[asked] = "\t".join(columns) + "\n"
    return list(lines.values())


def write_metaqa(folder: Path) -> None:
    """Write facts and questions in the form of MetaQA."""
    kb = generate(facts=NUM_FACTS)
    facts = [
        f"{kb.entities[s]}|{kb.relations[r]}|{kb.entities[o]}\n" for s, r, o in kb.facts.tolist()
    ]
    (folder / metaqa.FACTS).write_text("".join(facts), encoding="utf-8")
    for hops in metaqa.HOPS:
        lines = []
        for one in ask(kb, hops=[hops], questions=NUM_QUESTIONS, topics=True):
            (topic,) = one.topics or ()
            text = one.text.replace(topic, f"[{topic}]", 1)
            lines.append(f"{text}\t{'|'.join(one.answers)}\n")
        (folder / metaqa.questions_file(hops)).write_text("".join(lines), encoding="utf-8")


def write_ptb(folder: Path) -> None:
    """Write texts in the form of the Penn Treebank: the sentences of stories about people."""
    for seed, part in enumerate(ptb.TOKENS):
        stories = generate_stories(1, questions=NUM_LINES, seed=seed)
        sentences = [one for story in stories for one in story.statements][:NUM_LINES]
        lines = [f" {one.lower().removesuffix('.')} \n" for one in sentences]
        ptb.file_of(folder, part).write_text("".join(lines), encoding="utf-8")
