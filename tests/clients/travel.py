"""The front end of the travel assistant. Arguments: the server's address, what to do, and more.

figures LAKE: asks for all figures when everything is there that the generator posted, and counts them again.
silent: asks the chat, which has no model. chat PORT: is the model that it has, and talks to it.
"""

import http.server
import json
import os
import sys
import threading
from collections import Counter, defaultdict
from decimal import Decimal

from front import agrees, day, found, leave, mean, post, rows, table
from served import call, expect, get


def kpis(conversations, messages, bookings):
    booked = {booking["conversation_id"] for booking in bookings if booking["status"] == "confirmed"}
    talks, taxis, waits, answers = defaultdict(list), Counter(), defaultdict(list), {}
    for talk in conversations:
        talks[day(talk["started_at"])].append(talk)
    for booking in bookings:
        taxis[day(booking["booked_at"])] += booking["kind"] == "taxi" and booking["status"] == "confirmed"
    # From the end: the answer to a question is the next one in its conversation.
    for message in sorted(messages, key=lambda m: (m["timestamp"], m["message_id"]), reverse=True):
        if message["role"] == "assistant":
            answers[message["conversation_id"]] = message["timestamp"]
        elif message["conversation_id"] in answers:
            waits[day(message["timestamp"])].append((answers[message["conversation_id"]] - message["timestamp"]).total_seconds())
    days = talks.keys() | waits.keys() | {date for date, count in taxis.items() if count}
    return [
        {
            "date": date,
            "total_conversations": len(talks[date]),
            "unique_users": len({talk["user_id"] for talk in talks[date]}),
            "taxi_bookings": taxis[date],
            "conversion_rate": mean([float(talk["conversation_id"] in booked) for talk in talks[date]]),
            "avg_response_time": mean(waits[date]),
        }
        for date in sorted(days)
    ]


def charts(conversations, messages, bookings):
    kinds = sorted({(booking["kind"], booking["currency"]) for booking in bookings})
    of = {key: [booking for booking in bookings if (booking["kind"], booking["currency"]) == key] for key in kinds}
    valid = {key: [booking for booking in of[key] if booking["status"] != "cancelled"] for key in kinds}
    hours = Counter(message["timestamp"].hour for message in messages)
    questions = Counter(message["timestamp"].hour for message in messages if message["role"] == "user")
    return {
        "by_day": [
            {"date": row["date"], "conversations": row["total_conversations"], "users": row["unique_users"], "conversion_rate": row["conversion_rate"]}
            for row in kpis(conversations, messages, bookings)
        ],
        "by_hour": [{"hour": hour, "messages": hours[hour], "questions": questions[hour]} for hour in sorted(hours)],
        "by_kind": [
            {
                "kind": key[0],
                "currency": key[1],
                "bookings": len(valid[key]),
                "cancelled": len(of[key]) - len(valid[key]),
                "revenue": sum(booking["amount"] for booking in valid[key]) if valid[key] else None,
            }
            for key in kinds
        ],
    }


def analytics(conversations, bookings):
    confirmed = defaultdict(list)
    for booking in bookings:
        if booking["status"] == "confirmed":
            confirmed[booking["conversation_id"]].append(booking["amount"])
    groups = defaultdict(list)
    for talk in conversations:
        groups[talk["channel"], talk["campaign"] or "none"].append(talk)
    rows = []
    for (channel, campaign), talks in groups.items():
        amounts = [amount for talk in talks for amount in confirmed[talk["conversation_id"]]]
        rows.append(
            {
                "channel": channel,
                "campaign": campaign,
                "conversations": len(talks),
                "bookings": len(amounts),
                "conversion_rate": mean([float(bool(confirmed[talk["conversation_id"]])) for talk in talks]),
                "revenue": sum(amounts, Decimal(0)),
                "satisfaction": mean([float(talk["satisfaction_score"]) for talk in talks if talk["satisfaction_score"] is not None]),
            }
        )
    return sorted(rows, key=lambda row: (-row["revenue"], row["channel"], row["campaign"]))


def figures(lake):
    made = table(lake, "made/made_conversations")
    outcomes = Counter(one["outcome"] for one in made)
    assert len(made) == 300 and outcomes["cancelled"] and outcomes["booked"], outcomes
    wanted = (len(made), 2 * sum(one["turns"] for one in made), len(made) - outcomes["nothing"], outcomes["cancelled"])

    def posted():
        conversations, messages, bookings = (table(lake, f"delta/{name}") for name in ("conversations", "messages", "bookings"))
        whole = sum(bool(talk["started_at"] and talk["ended_at"]) for talk in conversations)
        cancelled = sum(booking["status"] == "cancelled" for booking in bookings)
        return (whole, len(messages), len(bookings), cancelled) == wanted and (conversations, messages, bookings)

    conversations, messages, bookings = found(posted, f"all that was posted: {wanted}")
    assert {talk["conversation_id"] for talk in conversations} == {one["conversation_id"] for one in made}
    agrees("/api/admin/kpis?days=1000", kpis(conversations, messages, bookings))
    agrees("/api/admin/charts?days=1000", charts(conversations, messages, bookings))
    agrees("/api/analytics?days=1000", analytics(conversations, bookings))
    trips = sorted(bookings, key=lambda booking: booking["booking_id"])
    trips.sort(key=lambda booking: booking["booked_at"], reverse=True)
    agrees("/api/trips?limit=1000", trips)
    agrees("/api/trips", trips[:50])
    taxis = [booking for booking in trips if booking["kind"] == "taxi"]
    agrees("/api/trips?kind=taxi&limit=1000", taxis)
    user = taxis[0]["user_id"]
    agrees(f"/api/trips?user={user}", [booking for booking in trips if booking["user_id"] == user])
    # Days that are still to come have nothing, and nobody is told anything without a token.
    assert get("/api/admin/kpis?days=0") == []
    assert get("/api/admin/charts?days=0") == {"by_day": [], "by_hour": [], "by_kind": []}
    for path in ("/api/admin/kpis", "/api/admin/charts", "/api/analytics", "/api/trips"):
        expect(401, call(path, None), path)


def silent():
    status, problem = post("/api/chat", {"message": "Is anybody there?"})
    assert status == 503 and problem["detail"] == "no model is configured" and "`url`" in problem["hint"], problem
    health = get("/health", token=None)
    # One that was never configured is not missed.
    assert health["status"] == "ready" and "endpoint:chat" not in health["dependencies"], health
    assert health["jobs"]["failed"] == 0, health


class Model(http.server.BaseHTTPRequestHandler):
    """As little of a model as speaks OpenAI's protocol."""

    asked = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        reply = {"role": "assistant", "content": f"You said: {body['messages'][-1]['content']}"}
        said = json.dumps({"choices": [{"index": 0, "message": reply}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


def chat(port):
    model = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    status, first = post("/api/chat", {"message": "A taxi to Rome?", "user_id": "U1"})
    assert status == 200 and first["reply"] == "You said: A taxi to Rome?", first
    one = first["conversation_id"]
    status, second = post("/api/chat", {"message": "Thanks", "conversation_id": one})
    assert status == 200 and second["conversation_id"] == one and second["message_id"] != first["message_id"], second
    path, key, body = Model.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", f"Bearer {os.environ['TRAVEL_MODEL_KEY']}", "tiny"), Model.asked
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"], body
    said = [("assistant", "You said: A taxi to Rome?"), ("assistant", "You said: Thanks"), ("user", "A taxi to Rome?"), ("user", "Thanks")]
    messages = "SELECT role, content FROM messages WHERE conversation_id = $one"
    found(lambda: sorted((row["role"], row["content"]) for row in rows(messages, one=one) or []) == said, "both sides")
    talks = "SELECT user_id FROM conversations WHERE conversation_id = $one AND started_at <= ended_at"
    found(lambda: rows(talks, one=one) == [{"user_id": "U1"}], "the conversation")


what, *more = sys.argv[2:]
{"figures": figures, "silent": silent, "chat": chat}[what](*more)
leave()
