"""Many threads at once, forked children, and as many threads of our own as torch has.

Each script takes all words for ``impl``, and prints them: the last is the one that hung.
"""

import os
import sys

import pytest

from tests.ops.processes import run_script

no_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.mark.slow
def test_eight_threads_at_once_get_what_one_gets_alone() -> None:
    # With two threads torch's own matrix products differ in the last bit where others run beside.
    run_script(
        """
        from concurrent.futures import ThreadPoolExecutor
        import torch
        from tests.ops.large_calls import FORMS, assert_close, assert_same, each_word, results

        def check(impl):
            for num_threads in (1, 2):
                torch.set_num_threads(num_threads)
                alone = {form: results(impl, form) for form in FORMS}
                with ThreadPoolExecutor(8) as pool:
                    running = [(form, pool.submit(results, impl, form)) for form in 4 * FORMS]
                for form, future in running:
                    # torch's products may round otherwise where their inputs lie otherwise
                    own = impl == "fused" and form != "shared"
                    (assert_same if own else assert_close)(future.result(), alone[form])
                for form in FORMS:
                    assert_close(alone[form], results("reference", form))

        each_word(check)
        """
    )


@no_fork
def test_a_forked_child_calls_after_its_parent() -> None:
    # The child takes one thread: with more, plain torch itself hangs after use in the parent.
    run_script(
        """
        import os, signal
        import torch
        from tests.ops.large_calls import FORMS, assert_same, each_word, results

        def check(impl):
            torch.set_num_threads(2)
            on_two = [results(impl, form) for form in FORMS]
            torch.set_num_threads(1)
            on_one = [results(impl, form) for form in FORMS]
            torch.set_num_threads(2)
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a hang ends here
                status = 1
                try:
                    torch.set_num_threads(1)
                    for form, expected in zip(FORMS, on_one):
                        assert_same(results(impl, form), expected)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            for form, expected in zip(FORMS, on_two):
                assert_same(results(impl, form), expected)

        each_word(check)
        """
    )


@no_fork
def test_threads_of_our_own_live_on_in_a_forked_child() -> None:
    # Forward alone, and nothing of torch's that has threads: those would hang in the child.
    run_script(
        """
        import os, signal
        import torch
        from tests.ops.large_calls import assert_same, forward, inputs

        forms = ("rows", "one row", "bank")
        torch.set_num_threads(1)
        for form in forms:
            inputs(form)
        torch.set_num_threads(2)
        with torch.no_grad():
            before = [forward("fused", form) for form in forms]
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a hang ends here
                status = 1
                try:
                    assert_same([forward("fused", form) for form in forms], before)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert_same([forward("fused", form) for form in forms], before)
        """
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="clocks there are too coarse")
def test_the_number_of_threads_follows_torch() -> None:
    run_script(
        """
        import time
        import torch
        from tests.ops.large_calls import assert_same, each_word, results

        def share_of_others(impl, form):
            "Of the processor time of some calls, what threads other than this one took."
            last = results(impl, form)
            whole, own = time.process_time(), time.thread_time()
            for _ in range(3):
                results(impl, form)
            whole, own = time.process_time() - whole, time.thread_time() - own
            return 1 - own / whole, last

        def check(impl):
            for form in ("rows", "one row") if impl == "fused" else ("rows",):
                found = []
                for num_threads in (1, 2, 1):
                    torch.set_num_threads(num_threads)
                    share, last = share_of_others(impl, form)
                    print(form, num_threads, share, flush=True)
                    assert 0.15 < share < 0.85 if num_threads == 2 else share < 0.02
                    found.append(last)
                assert_same(found[0], found[2])

        each_word(check)
        """
    )
