"""How does a hop compare with what torch has: compiled, fused attention, the attention module?"""

from collections.abc import Iterator
from typing import Any

from benchmarks.hop import forms
from benchmarks.hop.cases import Case, Inputs, make
from benchmarks.hop.check import Errors, check, refusal
from benchmarks.hop.check import errors as all_errors
from benchmarks.hop.clock import reading, timed
from benchmarks.hop.forms import Build, Candidate, baseline, path
from benchmarks.hop.rows import Setting, row
from benchmarks.hop.speed import BARS, TINY, interleaved_of, rows_of

MOST_LETTERS = 160  # of why a form is not there


def others(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward of each case of the bars, all forms in turn."""
    for case in list(TINY)[:2] if setting.tiny else BARS:
        yield from beside(case, setting)


def beside(case: Case, setting: Setting, part: str = "others") -> Iterator[dict[str, Any]]:
    """The baseline, ours and what torch has; a row without a time for what is not there."""
    inputs = make(case, setting.device)
    candidates = [baseline(inputs), path("auto")(inputs)]
    errors = check(candidates, inputs)
    builds: dict[str, Build] = {
        "compiled": forms.compiled("aot_eager" if setting.tiny else "inductor"),
        "SDPA, raw form": forms.attention_of_torch,
    }
    if case.input_dim == case.memory_dim:
        builds["MultiheadAttention"] = forms.attention_module
    for name, build in builds.items():
        setting.begin(f"{case.name}, {name}")
        found = tried(build, inputs, errors[0])
        if isinstance(found, str):
            yield row(part, case, name, setting, note=found)
        else:
            candidates.append(found[0])
            errors.append(found[1])
    setting.begin(f"{case.name}, all forms")
    entrants = [*(timed(one, False) for one in candidates), reading(inputs.tensor)]
    times = interleaved_of(entrants, False, setting)
    yield from rows_of(part, case, candidates, errors, times, setting, None)


def tried(build: Build, inputs: Inputs, yardstick: Errors) -> tuple[Candidate, Errors] | str:
    """The candidate and its errors, or why there is none: no compiler on this machine, say."""
    try:
        candidate = build(inputs)
        [came] = all_errors([candidate], inputs)
    except Exception as error:  # whatever a compiler raises: the others are measured without it
        first_line = next(iter(str(error).splitlines()), "")
        return f"not there: {type(error).__name__}: {first_line}"[:MOST_LETTERS]
    reason = refusal(came, yardstick, inputs)
    return f"not timed: {reason}" if reason else (candidate, came)
