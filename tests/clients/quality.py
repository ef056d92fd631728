"""The front end of the quality-control line. Arguments: the server's address, the lake, how many samples and reports
were generated. Reports a bug and comments on it, asks for the figures of all bugs, and counts them again."""

import os
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

from front import agrees, day, found, leave, mean, post, rows, table
from served import READER


def bugs_of(reports):
    """Bugs as they are now: of each column what was said last."""
    bugs = defaultdict(dict)
    for report in sorted(reports, key=lambda report: report["updated_at"]):
        bugs[report["bug_id"]].update({key: value for key, value in report.items() if value is not None})
    return list(bugs.values())


def open_and_done(bugs):
    states = Counter(bug.get("status") for bug in bugs)
    return states["open"] + states["in_progress"], states["resolved"] + states["closed"]


def summary(reports):
    bugs = bugs_of(reports)
    unresolved, resolved = open_and_done(bugs)

    def by(column):
        groups = defaultdict(list)
        for bug in bugs:
            groups[bug.get(column, "unknown")].append(bug)
        return [{column: name, "bugs": len(of), "unresolved": open_and_done(of)[0]} for name, of in sorted(groups.items())]

    spans = [bug["resolved_at"] - bug["reported_at"] for bug in bugs if "resolved_at" in bug and "reported_at" in bug]
    return {
        "bugs": len(bugs),
        "unresolved": unresolved,
        "resolved": resolved,
        "hours_to_resolve": mean([span.total_seconds() / 3600 for span in spans]),
        "last_report_at": max(report["updated_at"] for report in reports),
        "by_severity": by("severity"),
        "by_component": by("component"),
    }


def trends(reports):
    days = defaultdict(list)
    for report in reports:
        days[day(report["updated_at"])].append(report)
    of = [days[date] for date in sorted(days)]
    return {
        "labels": sorted(days),
        "series": {
            "reports": [len(reports) for reports in of],
            "bugs": [len({report["bug_id"] for report in reports}) for reports in of],
            "opened": [sum(report["status"] == "open" for report in reports) for reports in of],
            "resolved": [sum(report["status"] in ("resolved", "closed") for report in reports) for reports in of],
        },
    }


def report():
    """Reports a bug and comments on it, the later comment first; gives how many reports were taken."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    at = [(now + timedelta(seconds=seconds)).isoformat() for seconds in range(3)]
    bug = {"bug_id": "BUG-9001", "updated_at": at[0], "reported_at": at[0], "component": "camera", "severity": "critical", "status": "open"}
    comments = [
        {"bug_id": "BUG-9001", "updated_at": at[2], "comment": "a loose cable"},
        {"bug_id": "BUG-9001", "updated_at": at[1], "status": "resolved", "resolved_at": at[1]},
    ]
    path, token = "/api/bugs/reports", os.environ["QUALITY_REPORTS_TOKEN"]
    for other in (None, READER):
        assert post(path, bug, other)[0] == 401, other
    for expected in ("accepted", "duplicate"):
        status, answer = post(path, bug, token, Idempotency_Key="one")
        assert (status, answer["status"]) == (200, expected), answer
    assert post(path, comments, token, Idempotency_Key="two") == (200, {"status": "accepted", "rows": 2})
    return 3


lake, samples, generated = sys.argv[2:]
wanted = int(generated) + report()
reports = found(lambda: [one for one in [table(lake, "delta/bug_reports")] if len(one) == wanted], "all reports")[0]
figures = summary(reports)
assert figures["bugs"] > 50 and figures["resolved"] > 1, figures
for path, expected in [("/api/bugs/metrics/summary", figures), ("/api/bugs/metrics/trends?days=30", trends(reports))]:
    headers = agrees(path, expected)
    assert "max-age" in headers["Cache-Control"], headers["Cache-Control"]
posted = rows("SELECT status, severity, last_comment FROM bugs WHERE bug_id = 'BUG-9001'")
assert posted == [{"status": "resolved", "severity": "critical", "last_comment": "a loose cable"}], posted
found(lambda: rows("SELECT sum(samples) AS samples FROM line_quality") == [{"samples": int(samples)}], "the samples")
leave()
