"""The front end of the quality-control line. Arguments: the server's address, the lake, how many samples and reports
were generated. Reports a bug and comments on it, asks for the figures of all bugs and of all samples, and counts them
again."""

import os
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

from front import agrees, day, found, leave, mean, post, rows, same, table
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from served import READER, get_text


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


def groups(samples, *columns):
    """Samples by the values of some columns, in their order."""
    of = defaultdict(list)
    for sample in samples:
        of[tuple(sample[column] for column in columns)].append(sample)
    return [(dict(zip(columns, values, strict=True)), of[values]) for values in sorted(of)]


def rate(samples, column):
    return sum(bool(sample[column]) for sample in samples) / len(samples)


def figures_of(samples):
    return {"samples": len(samples), "average_score": float(mean([sample["score"] for sample in samples]))}


def rates_of(samples):
    return {"conformity_rate": rate(samples, "conforming"), "reject_rate": rate(samples, "rejected")}


def by_line(samples):
    for named, of in groups(samples, "site", "line"):
        times = [sample["measured_at"] for sample in of]
        yield {
            **named,
            **figures_of(of),
            **rates_of(of),
            "worst_score": min(sample["score"] for sample in of),
            "last_measured_at": max(times),
            "throughput_per_second": len(of) / ((max(times) - min(times)).total_seconds() + 1),
        }


def by_minute(samples):
    minutes = [{**sample, "minute": sample["measured_at"].replace(second=0, microsecond=0)} for sample in samples]
    for named, of in groups(minutes, "minute", "site"):
        yield {**named, **figures_of(of), **rates_of(of), "throughput_per_second": len(of) / 60}


def by_lot(samples):
    for named, of in groups(samples, "lot", "site"):
        yield {**named, **figures_of(of), "rejected": sum(sample["rejected"] for sample in of)}


def near(told, expected):
    """Whether rows say what was counted. Averages of decimals have six places, the rest of them is cut off."""

    def value(told, expected):
        return abs(float(told) - expected) < 2e-6 if isinstance(expected, float) else same(told, expected)

    def row(told, expected):
        return told.keys() == expected.keys() and all(value(told[key], expected[key]) for key in expected)

    return len(told) == len(expected) and all(map(row, told, expected))


def gauges(view, columns, labels):
    """A view's rows as they are shown to Prometheus."""
    shown = defaultdict(dict)
    for family in text_string_to_metric_families(get_text("/metrics")):
        for sample in family.samples:
            for column in columns:
                if sample.name == f"sluice_view_{view}_{column}":
                    shown[tuple(sample.labels[label] for label in labels)][column] = sample.value
    return [{**dict(zip(labels, values, strict=True)), **shown[values]} for values in sorted(shown)]


def quality(lake, count):
    """The views of samples say what their table holds, and so do the gauges of one of them."""
    found(lambda: rows("SELECT sum(samples) AS samples FROM line_quality") == [{"samples": count}], "the samples")
    samples = table(lake, "delta/samples")
    assert len(samples) == count, len(samples)
    for view, order, expected in [
        ("line_quality", "site, line", list(by_line(samples))),
        ("quality_by_minute", "minute, site", list(by_minute(samples))),
        ("lot_quality", "lot, site", list(by_lot(samples))),
    ]:
        told = rows(f"SELECT * FROM {view} ORDER BY {order}")
        assert len(expected) > 4 and near(told, expected), f"{view} says\n{told}\nand not\n{expected}"
    values, labels = ["samples", "average_score", "conformity_rate", "reject_rate", "throughput_per_second"], ["site", "line"]
    expected = [{key: line[key] for key in labels + values} for line in by_line(samples)]
    found(lambda: near(gauges("quality_line_line_quality", values, labels), expected), f"gauges of\n{expected}")


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
quality(lake, int(samples))
leave()
