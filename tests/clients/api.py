"""Programs that use the HTTP API. Arguments: the server's address and what to do.

fill: a hundred orders, and waits until they can be read. use: who may do what; forms, pages, tags, events.
broken, changed: what a reload makes of a definition that is broken, or changed.
"""

import csv
import http.client
import io
import json
import sys
import urllib.parse

import pyarrow as pa
import pyarrow.parquet

from served import ADMIN, OPERATOR, READER, address, call, deliver, expect, fill, get, sql, wait


def use():
    fill()
    # Who may do what.
    expect(401, call("/v1/jobs", None), "nobody")
    expect(401, call("/v1/jobs", "reader-forged"), "a forged token")
    expect(403, call("/v1/jobs/hub/pause", READER, "POST"), "a reader pauses")
    expect(403, call("/v1/activity", OPERATOR), "an operator reads the log")
    for path in ("/health", "/health/live", "/health/ready", "/health/startup", "/metrics"):
        expect(200, call(path, None), path)
    # Jobs and runs.
    jobs = get("/v1/jobs")["jobs"]
    assert [job["job"] for job in jobs] == ["hub"], jobs
    assert get("/v1/jobs/hub")["state"] == "running"
    expect(404, call("/v1/jobs/nobody"))
    expect(200, call("/v1/jobs/hub/pause", OPERATOR, "POST"), "pause")
    wait(lambda: get("/v1/jobs/hub")["state"] == "paused", "the pause")
    expect(200, call("/v1/jobs/hub/resume", OPERATOR, "POST"), "resume")
    wait(lambda: get("/v1/jobs/hub")["state"] == "running", "the job to go on")
    entries = get("/v1/activity", token=ADMIN)["entries"]
    assert [entry["what"] for entry in entries[:2]] == ["resume", "pause"], entries
    assert entries[0]["who"] == "olga", entries
    # Pages, filters, orders, forms.
    page = get("/v1/tables/kept?order=-id&limit=10&columns=id,shop")
    assert [row["id"] for row in page["rows"]] == list(range(99, 89, -1)), page
    assert set(page["rows"][0]) == {"id", "shop"}
    following = get(page["next"])
    assert [row["id"] for row in following["rows"]] == list(range(89, 79, -1)), following
    assert {row["id"] for row in get("/v1/tables/kept?id.ge=7&id.lt=9")["rows"]} == {7, 8}
    assert {row["id"] for row in get("/v1/tables/kept?shop=s1&amount.lt=10")["rows"]} == {1, 6}
    expect(400, call("/v1/tables/kept?nothing=1"), "no such column")
    expect(400, call("/v1/tables/kept?limit=x"))
    expect(404, call("/v1/tables/nothing"))
    expect(406, call("/v1/tables/kept", Accept="image/png"))
    rows = list(csv.DictReader(io.StringIO(expect(200, call("/v1/tables/kept?limit=1000", Accept="text/csv"))[2].decode())))
    assert len(rows) == 100 and sum(int(row["amount"]) for row in rows) == 4950
    arrow = expect(200, call("/v1/tables/kept?limit=1000", Accept="application/vnd.apache.arrow.stream"))[2]
    assert pa.ipc.open_stream(arrow).read_all().num_rows == 100
    parquet = expect(200, call("/v1/tables/kept?limit=1000", Accept="application/vnd.apache.parquet"))[2]
    assert pa.parquet.read_table(io.BytesIO(parquet)).num_rows == 100
    # Tags.
    tag = expect(200, call("/v1/views/by_shop"))[1]["ETag"]
    expect(304, call("/v1/views/by_shop", If_None_Match=tag), "nothing new")
    # SQL.
    answer = json.loads(expect(200, sql("SELECT sum(amount) AS total FROM kept WHERE id < $least", least=10))[2])
    assert answer["rows"] == [{"total": 45}], answer
    expect(400, sql("SELECT nothing FROM kept"), "no such column")
    # The front end's endpoints.
    assert get("/api/shops/s1", token=None)["orders"] == 20
    expect(404, call("/api/shops/s9", None))
    expect(401, call("/api/largest", None))
    assert [row["amount"] for row in get("/api/largest?least=97")] == [99, 98, 97]
    expect(400, call("/api/largest?least=many"), "no number")
    described = get("/v1/openapi.json")
    assert described["openapi"].startswith("3.1") and "/api/shops/{name}" in described["paths"], described["openapi"]
    expect(200, call("/docs/"))
    # Changes of a view as they come.
    server = urllib.parse.urlsplit(address)
    listener = http.client.HTTPConnection(server.hostname, server.port, timeout=60)
    listener.request("GET", "/v1/views/by_shop/changes", headers={"Authorization": f"Bearer {READER}"})
    events = listener.getresponse()
    assert events.status == 200 and events.getheader("Content-Type").startswith("text/event-stream")
    deliver("/hooks/orders", {"id": 1000, "shop": "live", "amount": 1})
    while "live" not in events.readline().decode():
        pass
    listener.close()
    runs = get("/v1/runs?job=hub")["runs"]
    assert any(run["outcome"] == "cancelled" or run["outcome"] == "done" for run in runs), runs
    history = json.loads(expect(200, sql("SELECT job, outcome FROM _sluice.runs"))[2])["rows"]
    assert all(row["job"] == "hub" for row in history) and history, history


def reload(token=ADMIN, dry=False):
    return call(f"/v1/reload?dry_run={str(dry).lower()}", token, "POST")


def broken():
    expect(403, reload(OPERATOR), "an operator reloads")
    answer = reload()
    assert answer[0] in (400, 409, 422), answer
    assert "summ" in answer[2].decode(), answer[2]
    assert get("/v1/jobs/hub")["state"] == "running"
    assert get("/api/shops/s1", token=None)["orders"] == 20


def changed():
    before = get("/v1/views/by_shop")["rows"][0]
    if "largest" not in before:
        told = json.loads(expect(200, reload(dry=True))[2])
        assert "hub" in json.dumps(told), told
        assert "largest" not in get("/v1/views/by_shop")["rows"][0], "a dry run changes nothing"
        expect(200, reload())
    wait(lambda: get("/v1/views/by_shop")["rows"] and get("/v1/views/by_shop")["rows"][0].get("largest") is not None, "the changed view")
    assert get("/v1/jobs/hub")["state"] == "running"


{"fill": fill, "use": use, "broken": broken, "changed": changed}[sys.argv[2]]()
