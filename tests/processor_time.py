"""Show at the end of a long run which files of tests take the processor time.

It includes processes that a test starts and waits for, and does not depend on other load as much as
the time on the clock. No test is judged by it.
"""

import os
from collections import defaultdict
from collections.abc import Generator

import pytest

LONG = 60.0  # seconds, of a run whose files are shown
FILES = 12  # that are shown
KEY = "processor seconds"


def used() -> float:
    """Return the seconds that this process and its children have taken."""
    return sum(os.times()[:4])


class ProcessorTime:
    """Measure each test where it runs, and add up where the results come together."""

    def __init__(self) -> None:
        self.before = 0.0
        self.by_kind: dict[str, float] = defaultdict(float)
        self.by_file: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self.before = used()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "teardown":
            report.user_properties.append((KEY, used() - self.before))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = dict(report.user_properties).get(KEY, 0.0)
        assert isinstance(seconds, float)
        kinds = [name for name in ("thorough", "slow") if name in report.keywords]
        self.by_kind[[*kinds, "default"][0]] += seconds
        self.by_file[report.nodeid.partition("::")[0]] += seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if sum(self.by_kind.values()) < LONG:
            return
        terminalreporter.section("processor time of the tests, in seconds")
        slowest = sorted(self.by_file.items(), key=lambda file: -file[1])[:FILES]
        for name, seconds in [*self.by_kind.items(), *slowest]:
            terminalreporter.write_line(f"{seconds:7.0f}  {name}")
