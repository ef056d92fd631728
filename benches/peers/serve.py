"""A server under load: acknowledgements of webhooks, freshness, readers beside ingestion and large queries.

    python3 benches/peers/serve.py --sluice target/release/sluice --work FOLDER [--what acks,fresh,readers]

wrk makes the loads without a pace (Debian: `apt-get install wrk`, or `--wrk PATH`), paced.py those with
one, with `--nice` as its priority; both share the machine's cores with the server, and their shares are
told. What is served stands in `served`. All that was acknowledged is looked for in the tables, and
`audit` recounts them; each figure is a row for benches/README.md."""

import json
import os
import random
import shutil
import statistics
import sys
import threading
import time

from measure import ROOT, options, run, sluice
from paced import quantiles
from server import Server

# A body is about so long: what small events have.
NOTE = "x" * 180
EVENT = f'{{"id": %d, "shop": "lyon-3", "note": "{NOTE}"}}'
# Numbers of events, so that each load has its own.
STEP = 1_000_000_000
WARM, FLAT, PACED, AGAIN, FEW, PROBES = (STEP * place for place in range(1, 7))
# How often a row is looked for.
POLL_S = 0.01
JOB = f"{ROOT}/benches/peers/served/rows/past.yaml"


def row(what, figure, goal="–"):
    print(f"| {what} | {figure} | {goal} |", flush=True)


def ms(found):
    return f"p50 {found['p50'] * 1000:.1f} ms, p99 {found['p99'] * 1000:.1f} ms, most {found['most'] * 1000:.0f} ms"


def shares(found, driver):
    return f"of a core: server {found['server'] * 100:.0f} %, {driver} {found['core'] * 100:.0f} %"


def refusals(found):
    return f"{found['busy']:,} times 429, {found['told']:,} of them with Retry-After; {found['other']} others"


def flat(found):
    return f"{found['requests'] / found['seconds']:,.0f}/s, {ms(found)}; {shares(found, 'wrk')}"


def fsyncs(folder, pause, seconds=2):
    """How long each of many small appends takes with its fdatasync, one after another, each after a pause by
    chance of up to `pause` seconds: disks that are asked without one may make each wait."""
    path, times, chance = os.path.join(folder, "fsync"), [], random.Random(1)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(chance.random() * pause)
        began = time.monotonic()
        os.write(file, b"x" * 300)
        os.fdatasync(file)
        times.append(time.monotonic() - began)
    os.close(file)
    os.remove(path)
    return quantiles(times) | {"rate": len(times) / seconds}


def kept(server, table, first, least, most):
    """Rows of a load in a table, once it has settled: all that were acknowledged, of those that were on their
    way at the end no more than there were, none twice."""
    query = f"SELECT count(*) AS n, count(DISTINCT id) AS d FROM {table} WHERE id >= {first} AND id < {first + STEP}"

    def counted():
        before = server.sql(query)[0]
        time.sleep(1)
        after = server.sql(query)[0]
        return after if before == after and int(after["n"]) >= least else None

    found = server.until(f"{least:,} rows in {table}", counted)
    rows, different = int(found["n"]), int(found["d"])
    if rows > most or rows != different:
        server.give_up(f"{table}: {rows} rows, {different} of them different, for {least} to {most} deliveries")
    return rows


def acks(asked):
    disk(asked, "before")
    server = Server(asked, "hooks", every=asked.every)
    settings = {"connections": asked.connections, "seconds": asked.seconds, "body": EVENT}
    # A cold start is not what is measured.
    for first, seconds in [(WARM, 2), (FLAT, asked.seconds)]:
        found = server.wrk("/hooks/events", **settings | {"seconds": seconds}, first=first)
        acked = found["requests"] - found["refused"]
        rows = kept(server, "kept", first, acked, acked + asked.connections)
    row(f"durable acknowledgement, flat out, {asked.connections} connections, {asked.seconds} s",
        f"{flat(found)}; {acked:,} acknowledged, {found['refused']:,} refused, {rows:,} rows", "≥ 5,000/s")
    bounds(asked, server, settings)
    paced(asked, server)
    few(asked, server, settings)
    server.stop()
    disk(asked, "after")


def disk(asked, when):
    without, spaced = fsyncs(asked.work, 0), fsyncs(asked.work, 0.01)
    row(f"the disk, {when} all of this: appends of 300 bytes, each with fdatasync, one thread",
        f"{without['rate']:,.0f}/s, {ms(without)}; each after a pause of up to 10 ms: {ms(spaced)}")


def bounds(asked, server, settings):
    """The same endpoint where nothing is written, since the delivery came before; and HTTP alone."""
    again = EVENT.replace("%d", str(AGAIN))
    server.request("POST", "/hooks/events", again, {"X-Id": str(AGAIN)})
    found = server.wrk("/hooks/events", **settings | {"body": again}, first=AGAIN)
    row("the same endpoint without the log: one delivery again and again, answered as a duplicate", flat(found))
    found = server.wrk("/health/live", asked.connections, asked.seconds)
    row("HTTP alone: `GET /health/live`", flat(found))


def paced(asked, server):
    requests, seconds = [{"path": "/hooks/events", "body": EVENT}], asked.seconds + 2
    found = server.paced(requests, asked.rate, asked.connections, seconds, PACED, warm=2).end()
    acked, others = found["statuses"].get("200", 0), found["sent"] - found["statuses"].get("200", 0)
    rows = kept(server, "kept", PACED, acked, found["sent"])
    row(f"durable acknowledgement at {asked.rate:,}/s, {asked.connections} connections, {asked.seconds} s",
        f"{ms(found['all'])}; {shares(found, 'paced.py')}, late p99 {found['late_p99'] * 1000:.1f} ms; "
        f"{acked:,} acknowledged, {others} not, {rows:,} rows", "p99 < 20 ms")


def few(asked, server, settings):
    """Far more than a source takes: what is refused is told when to come again, what is taken is kept."""
    found = server.wrk("/hooks/few", **settings, first=FEW, count=True)
    rows = kept(server, "few_kept", FEW, found["taken"], found["taken"] + asked.connections)
    offered = found["requests"] / found["seconds"]
    row(f"a source of `rate: 500/s`, flat out: {offered / 500:.0f} times as much",
        f"{found['taken']:,} taken ({found['taken'] / found['seconds']:,.0f}/s), {rows:,} rows; {refusals(found)}", "429, no loss")


class Probes(threading.Thread):
    """Posts events one by one, at times by chance; each tells when it was posted."""

    def __init__(self, server, count, rate):
        super().__init__(daemon=True)
        self.server, self.count, self.rate, self.posted = server, count, rate, {}

    def run(self):
        chance = random.Random(3)
        for number in range(PROBES, PROBES + self.count):
            time.sleep(chance.random() * 2 / self.rate)
            self.posted[number] = time.monotonic()
            body = EVENT.replace("%d", str(number))
            status, _ = self.server.request("POST", "/hooks/events", body, {"X-Id": str(number)})
            if status != 200:
                self.server.give_up(f"an event was answered {status}")


def fresh(asked):
    server = Server(asked, "hooks", every=asked.every)
    seconds = asked.events // 20 + 10
    background = server.paced([{"path": "/hooks/events", "body": EVENT}], 200, 8, seconds, PACED)
    time.sleep(3)
    probes, seen, polls = Probes(server, asked.events, 20), {}, []
    probes.start()
    last = PROBES + asked.events
    ends = time.monotonic() + seconds + 30
    while len(seen) < asked.events and time.monotonic() < ends:
        began = time.monotonic()
        # Those that were seen in their order are not asked for again.
        oldest = next((number for number in range(PROBES, last) if number not in seen), last)
        for found in server.sql(f"SELECT id FROM kept WHERE id >= {oldest}"):
            seen.setdefault(int(found["id"]), time.monotonic())
        taken = time.monotonic() - began
        polls.append(taken)
        time.sleep(max(0, POLL_S - taken))
    if len(seen) < asked.events:
        server.give_up(f"{len(seen)} of {asked.events} events were seen")
    found = background.end()
    kept(server, "kept", PACED, found["statuses"].get("200", 0), found["sent"])
    server.stop()
    ages = [seen[number] - at for number, at in probes.posted.items()]
    row(f"event posted → row in the answer of `POST /v1/sql`: {asked.events} events beside 200/s, `every: {asked.every}`",
        f"{ms(quantiles(ages))}; looked for every {max(POLL_S, statistics.median(polls)) * 1000:.0f} ms, "
        f"a look takes {statistics.median(polls) * 1000:.1f} ms", "p99 < 1 s")


def past(asked):
    """The lake with many rows; made once, kept in the work folder."""
    lake = os.path.join(asked.work, f"past-{asked.rows}")
    if not os.path.exists(f"{lake}/made"):
        shutil.rmtree(lake, ignore_errors=True)
        run(sluice(asked.sluice, "run", JOB, {"pack": "rows", "past": lake, "rows": asked.rows}))
        with open(f"{lake}/made", "w") as made:
            made.write("all of it\n")
    return lake


class Ingested(threading.Thread):
    """How many rows of a table readers see, looked at five times a second."""

    def __init__(self, server, table):
        super().__init__(daemon=True)
        self.server, self.table, self.done, self.found = server, table, False, []

    def run(self):
        while not self.done:
            rows = self.server.shown_rows(self.table)
            if not self.found or rows != self.found[-1][1]:
                self.found.append((time.monotonic(), rows))
            time.sleep(0.2)

    def rate(self):
        """Rows a second, from the first epoch that was seen to come to the last."""
        self.done = True
        self.join()
        if len(self.found) < 3:
            self.server.give_up(f"too few epochs of {self.table} were seen: more --seconds")
        (began, first), (ended, last) = self.found[1], self.found[-1]
        return (last - first) / (ended - began)


class Aggregates(threading.Thread):
    """One client that asks over all of the many rows, never the same twice."""

    QUERIES = [
        "SELECT site, count(*) AS n, sum(amount) AS a, avg(amount) AS m FROM past_sales WHERE amount > {} GROUP BY site",
        "SELECT day, kind, count(*) AS n, max(amount) AS most FROM past_sales WHERE amount > {} GROUP BY day, kind",
    ]

    def __init__(self, server, which):
        super().__init__(daemon=True)
        self.server, self.which, self.done, self.times = server, which, False, []

    def run(self):
        chance = random.Random(self.which)
        while not self.done:
            query = self.QUERIES[self.which % len(self.QUERIES)].format(f"{chance.random() * 3:.9f}")
            began = time.monotonic()
            self.server.sql(query)
            self.times.append(time.monotonic() - began)

    def stop(self):
        self.done = True
        self.join()
        return self.times


def readers(asked):
    server = Server(asked, "rows", every=asked.live, rate=asked.ingest, rows=asked.rows, past=past(asked))
    found = int(server.sql("SELECT count(*) AS n FROM past_sales")[0]["n"])
    if found != asked.rows:
        server.give_up(f"past_sales has {found} rows, not {asked.rows}: empty the work folder")
    server.until("row of the live table", lambda: server.shown_rows("live_sales"))
    time.sleep(5)
    alone = Ingested(server, "live_sales")
    alone.start()
    time.sleep(asked.seconds)
    alone = alone.rate()
    # Two clients at work, and what is asked for kept, before anything counts.
    clients = [Aggregates(server, which) for which in range(2)]
    for one in clients:
        one.start()
    time.sleep(3)
    skipped = [len(one.times) for one in clients]
    beside = Ingested(server, "live_sales")
    beside.start()
    views = [{"path": "/v1/views/live_by_site"}, {"path": "/v1/views/past_by_site"}]
    answers = server.paced(views, asked.readers * 5, asked.readers, asked.seconds + 2, warm=2).end()
    beside = beside.rate()
    times = [taken for one, skip in zip(clients, skipped) for taken in one.stop()[skip:]]
    tell(asked, answers, times, alone, beside)
    flood(asked, server)
    end(server)


def tell(asked, answers, times, alone, beside):
    others = answers["sent"] - answers["statuses"].get("200", 0)
    live, still = answers["each"]
    row(f"{asked.readers} readers, {asked.readers * 5:,}/s in all: `GET /v1/views/{{name}}`",
        f"{ms(answers['all'])}; {answers['sent']:,} answers, {others} other than 200; "
        f"{shares(answers, 'paced.py')}, late p99 {answers['late_p99'] * 1000:.1f} ms", "p99 < 10 ms")
    row(f"– of those, a view that moves with each epoch (`every: {asked.live}`)", ms(live))
    row("– of those, a view that does not move", ms(still))
    row(f"2 clients meanwhile: aggregates over {asked.rows:,} rows, none of them kept",
        f"{ms(quantiles(times))} of {len(times)}", "p99 < 800 ms")
    row(f"ingestion meanwhile, of {asked.ingest:,} rows/s",
        f"{beside:,.0f} rows/s; alone {alone:,.0f}: {beside / alone:.2f}×", "≥ 0.8×")


def flood(asked, server):
    """Many more queries than work and wait: the rest is told when to come again."""
    query = json.dumps({"sql": Aggregates.QUERIES[0].format("0.%d")})
    found = server.wrk("/v1/sql", 200, asked.seconds, query, first=FLAT, count=True)
    row("200 clients with such aggregates at once, who never wait",
        f"{found['taken']:,} answered, {refusals(found)}", "429")


def end(server):
    """What came in meanwhile is whole: each row once, from the first to the last."""
    # Those who left still have places in the queue for a moment.
    time.sleep(3)
    found = server.sql("SELECT count(*) AS n, max(id) AS last FROM live_sales")[0]
    if found["n"] != found["last"]:
        server.give_up(f"live_sales has {found['n']} rows, the last is {found['last']}")
    server.stop()


def main():
    asked = options(
        wrk="wrk", what="acks,fresh,readers", seconds=20, connections=64, rate=2_000, every="250ms", events=400,
        live="1s", ingest=20_000, rows=10_000_000, readers=200, nice=0,
    )
    if not shutil.which(asked.wrk):
        sys.exit("there is no wrk: apt-get install wrk, or say where it is with --wrk")
    print("| what | figure | goal |\n|---|---|---|")
    for what in asked.what.split(","):
        {"acks": acks, "fresh": fresh, "readers": readers}[what](asked)


if __name__ == "__main__":
    main()
