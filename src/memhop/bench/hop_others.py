"""How does a hop compare with what torch has: compiled, fused attention, the attention module?"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from memhop.bench import hop_forms
from memhop.bench.hop_cases import Case, Inputs, make
from memhop.bench.hop_check import check
from memhop.bench.hop_clock import reading, timed
from memhop.bench.hop_forms import Build, Contender, baseline, path
from memhop.bench.hop_rows import Setting, row
from memhop.bench.hop_speed import BARS, TINY, race_of, rows_of


def others(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward of each case of the bars, all forms in turn."""
    for case in list(TINY)[:2] if setting.tiny else BARS:
        yield from beside(case, setting)


def beside(case: Case, setting: Setting, part: str = "others") -> Iterator[dict[str, Any]]:
    """The baseline, what torch has and ours; a row without a time for what is not there."""
    inputs = make(case, setting.device)
    forms: dict[str, Build] = {
        "compiled": hop_forms.compiled("aot_eager" if setting.tiny else "inductor"),
        "SDPA, raw form": hop_forms.attention_of_torch,
    }
    if case.input_dim == case.memory_dim:
        forms["MultiheadAttention"] = hop_forms.attention_module
    contenders = [baseline(inputs)]
    for name, build in forms.items():
        setting.begin(f"{case.name}, {name}")
        built = tried(build, inputs)
        if isinstance(built, Contender):
            contenders.append(built)
        else:
            yield row(part, case, name, setting, note=built)
    contenders.append(path("auto")(inputs))
    setting.begin(f"{case.name}, all forms")
    errors = check(contenders, inputs)
    entrants = [*(timed(one, False) for one in contenders), reading(inputs.tensor)]
    times = race_of(entrants, False, setting)
    yield from rows_of(part, case, contenders, errors, times, setting, None)


def tried(build: Build, inputs: Inputs) -> Contender | str:
    """The contender, called once, or why there is none: no compiler on this machine, say."""
    try:
        contender = build(inputs)
        with torch.no_grad():
            contender.forward()
    except Exception as error:  # whatever a compiler raises: the others are measured without it
        causes = itertools.chain([type(error).__name__], str(error).splitlines())
        return "not there: " + ": ".join(itertools.islice(causes, 2))[:200]
    return contender
