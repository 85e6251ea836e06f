#!/usr/bin/env python3
"""Says again what failed, last of all: the end of each failed test's output, from the JUnit reports of ctest.

    failed_tests.py REPORT.xml...

A whole run prints some hundred thousand lines, and a failure lies in their midst; whoever has only the end of a log, as
CI shows it, reads here which test failed and why. At most LINES lines of each of at most TESTS tests.
"""

import sys
import xml.etree.ElementTree as ElementTree

TESTS = 10
LINES = 60
COLUMNS = 300


def failed(report: str) -> list[tuple[str, list[str]]]:
    """The failed tests of a report, each with the last lines of its output."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return [
        (case.get("name", "?"), (case.findtext("system-out") or "").rstrip().splitlines()[-LINES:])
        for case in cases
        if case.find("failure") is not None
    ]


def main(reports: list[str]) -> int:
    tests = []
    for report in reports:
        try:
            tests += failed(report)
        except (OSError, ElementTree.ParseError) as error:
            print(f"{report}: cannot be read: {error}")
    for name, lines in tests[:TESTS]:
        print(f"---- {name}")
        for line in lines:
            print(f"  {line[:COLUMNS]}")
    if len(tests) > TESTS:
        print(f"and {len(tests) - TESTS} more: " + " ".join(name for name, _ in tests[TESTS:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
