"""Concurrent calls, forked children, and the number of threads.

Each script runs every ``impl`` and prints its name, so that the last one is the one that hung.
"""

import os

import pytest

from tests.ops.processes import run_script

no_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.mark.slow
def test_eight_threads_at_once_get_what_one_gets_alone() -> None:
    # With two threads torch's matrix products differ in the last bit if other threads run.
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
                    # torch's products round differently if their inputs are aligned differently
                    own = impl == "fused" and form != "shared"
                    (assert_same if own else assert_close)(future.result(), alone[form])
                for form in FORMS:
                    assert_close(alone[form], results("reference", form))

        each_word(check)
        """
    )


@no_fork
@pytest.mark.slow
def test_a_forked_child_calls_after_its_parent() -> None:
    # The child uses one thread: with more, torch itself hangs after use in the parent.
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
                signal.alarm(240)  # a hang ends here
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
def test_a_forked_child_has_a_thread_pool() -> None:
    # Forward only, without threaded operations of torch: those would hang in the child.
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
                signal.alarm(240)  # a hang ends here
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
def test_the_number_of_threads_follows_torch() -> None:
    run_script(
        """
        import torch
        from memhop.ops.cpu import threads
        from tests.ops.large_calls import assert_same, results

        run, taken = threads.run, []

        def record(job, address, workers):
            taken.append(workers)
            run(job, address, workers)

        threads.run = record
        for form in ("rows", "one row"):
            found = []
            for num_threads in (1, 2, 1):
                torch.set_num_threads(num_threads)
                taken.clear()
                found.append(results("fused", form))
                assert max(taken) == num_threads, (form, num_threads, taken)
            assert_same(found[0], found[2])
        """
    )
