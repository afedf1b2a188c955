"""How does a hop compare with what torch has: compiled, fused attention, the attention module?"""

from collections.abc import Iterator
from typing import Any

from memhop.bench import hop_forms
from memhop.bench.hop_cases import Case, Inputs, make
from memhop.bench.hop_check import Errors, check, refusal
from memhop.bench.hop_check import errors as all_errors
from memhop.bench.hop_clock import reading, timed
from memhop.bench.hop_forms import Build, Contender, baseline, path
from memhop.bench.hop_rows import Setting, row
from memhop.bench.hop_speed import BARS, TINY, race_of, rows_of

MOST_LETTERS = 160  # of why a form is not there


def others(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward of each case of the bars, all forms in turn."""
    for case in list(TINY)[:2] if setting.tiny else BARS:
        yield from beside(case, setting)


def beside(case: Case, setting: Setting, part: str = "others") -> Iterator[dict[str, Any]]:
    """The baseline, ours and what torch has; a row without a time for what is not there."""
    inputs = make(case, setting.device)
    contenders = [baseline(inputs), path("auto")(inputs)]
    errors = check(contenders, inputs)
    forms: dict[str, Build] = {
        "compiled": hop_forms.compiled("aot_eager" if setting.tiny else "inductor"),
        "SDPA, raw form": hop_forms.attention_of_torch,
    }
    if case.input_dim == case.memory_dim:
        forms["MultiheadAttention"] = hop_forms.attention_module
    for name, build in forms.items():
        setting.begin(f"{case.name}, {name}")
        found = tried(build, inputs, errors[0])
        if isinstance(found, str):
            yield row(part, case, name, setting, note=found)
        else:
            contenders.append(found[0])
            errors.append(found[1])
    setting.begin(f"{case.name}, all forms")
    entrants = [*(timed(one, False) for one in contenders), reading(inputs.tensor)]
    times = race_of(entrants, False, setting)
    yield from rows_of(part, case, contenders, errors, times, setting, None)


def tried(build: Build, inputs: Inputs, yardstick: Errors) -> tuple[Contender, Errors] | str:
    """The contender and its errors, or why there is none: no compiler on this machine, say."""
    try:
        contender = build(inputs)
        [came] = all_errors([contender], inputs)
    except Exception as error:  # whatever a compiler raises: the others are measured without it
        first_line = next(iter(str(error).splitlines()), "")
        return f"not there: {type(error).__name__}: {first_line}"[:MOST_LETTERS]
    reason = refusal(came, yardstick, inputs)
    return f"not timed: {reason}" if reason else (contender, came)
