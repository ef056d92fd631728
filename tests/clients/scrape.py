"""What Prometheus' own parser makes of a scrape: a line per sample, `name{label=value} value`, sorted.

Usage: scrape.py FILE, or the address of a server whose /metrics is read. Fails when the text is not OpenMetrics.
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

place = sys.argv[1]
if place.startswith("http://"):
    with urllib.request.urlopen(f"{place}/metrics", timeout=60) as answer:
        kind = answer.headers["Content-Type"]
        assert kind.startswith("application/openmetrics-text"), kind
        text = answer.read().decode()
else:
    with open(place, encoding="utf-8") as file:
        text = file.read()
lines = []
for family in text_string_to_metric_families(text):
    if not family.documentation:
        sys.exit(f"{family.name} says not what it is")
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        lines.append(f"{sample.name}{{{labels}}} {sample.value}")
print("\n".join(sorted(lines)))
