"""What a gateway and a voice service may say over NATS, in every form, and what must come of it.

    python3 gateway_client.py BASE_URL NATS_URL stories|silence

A client in another language than the service's, on the text protocol of NATS. Each story has users of its own, and names
every event that is told of them. `silence` is for a service with HEARTBEAT_TIMEOUT=2.
"""

import sys
import time

from presence_client import Api, Failed, Nats, User, now_ms, until

OPENED = "gateway.connection.opened"
CLOSED = "gateway.connection.closed"
HEARTBEAT = "gateway.heartbeat.received"
VOICE_CREATED = "voice.session.created"
VOICE_ENDED = "voice.session.ended"

STATUS = "presence.status.changed"
ACTIVITY = "presence.activity.updated"

SILENCE = 2000  # HEARTBEAT_TIMEOUT, in ms
TICK = 1250  # within so long after the deadline it is told


class World:
    def __init__(self, base_url, nats_url):
        self.api, self.nats, self.reader = Api(base_url), Nats(nats_url), User()

    def tell(self, subject, user, session=None, **more):
        self.nats.publish(subject, message(user, session, **more))

    def read(self, user):
        return self.api.presence(user, self.reader)

    def until(self, user, what, **expected):
        """Waits until a reader sees it, and gives back what is seen."""

        def is_it(presence):
            return all(presence[field] == value for field, value in expected.items())

        return until(what, lambda: self.read(user), is_it)

    def told(self, user, *expected):
        """Waits until the last of the events is told: there are these and no others, in this order. Each is a subject
        and what the presence says. What is told twice counts once, as consumers count: by its version."""
        last = self.read(user)

        def is_told():
            events = self.nats.events_of(user)
            return events if events and events[-1].presence["version"] >= last["version"] else None

        events = self.nats.wait("the last event", is_told)
        versions = [event.presence["version"] for event in events]
        check(versions == sorted(versions), f"versions rise: {versions}")
        seen = []
        for event in events:
            telling = (event.subject, event.presence)
            kept = [(subject, presence["version"]) for subject, presence in seen]
            if (event.subject, event.presence["version"]) not in kept:
                seen.append(telling)
            check(telling in seen, f"what is told twice is the same: {telling}")
        check(len(seen) == len(expected), f"{len(expected)} events, not {seen}")
        for (subject, presence), (wanted, fields) in zip(seen, expected):
            same = all(presence[field] == value for field, value in fields.items())
            check(subject == wanted and same, f"{wanted} with {fields}, not {subject} with {presence}")
        # A sign of life since then is no event.
        told = {**seen[-1][1], "last_seen": last["last_seen"]}
        check(told == last, f"the last event is what is read: {told}, {last}")


def message(user, session=None, **more):
    return {"user_id": user.id, **({"session_id": session} if session else {}), **more}


def check(holds, what):
    if not holds:
        raise Failed(f"it should be {what}")


def online(platform="web", status="online"):
    return {"status": status, "client_status": {platform: status}}


OFFLINE = {"status": "offline", "client_status": {}, "activities": []}


def a_connection_without_a_session_id(world):
    user = User()
    world.tell(OPENED, user)
    opened = world.until(user, "online", **online())
    world.tell(HEARTBEAT, user)
    until("a sign of life", lambda: world.read(user), lambda presence: presence["last_seen"] > opened["last_seen"])
    world.tell(CLOSED, user)
    world.until(user, "offline", **OFFLINE)
    world.told(user, (STATUS, online()), (STATUS, OFFLINE))


def a_message_with_every_field_and_unknown_ones(world):
    user = User()
    more = {"region": {"name": "eu", "zones": [1, 2]}, "shard": 7, "channel_id": None, "ip": "192.0.2.1"}
    world.tell(OPENED, user, "phone:1.a_B-2", platform="mobile", status="idle", timestamp=now_ms(), **more)
    world.until(user, "idle on the phone", **online("mobile", "idle"))
    world.tell(CLOSED, user, "phone:1.a_B-2", close_code=1000, timestamp=now_ms(), **more)
    world.until(user, "offline", **OFFLINE)
    world.told(user, (STATUS, online("mobile", "idle")), (STATUS, OFFLINE))


def messages_that_are_arrays(world):
    users = [User() for _ in range(5)]
    world.nats.publish(OPENED, [])
    world.nats.publish(OPENED, [message(user, "a") for user in users])
    for user in users:
        world.until(user, "online", **online())
    world.nats.publish(HEARTBEAT, [message(user, "a") for user in users * 3])
    world.nats.publish(CLOSED, [message(user, "a") for user in reversed(users)])
    for user in users:
        world.until(user, "offline", **OFFLINE)
        world.told(user, (STATUS, online()), (STATUS, OFFLINE))


def everything_comes_twice(world):
    user = User()
    opened = message(user, "a", timestamp=now_ms() - 3000)
    closed = message(user, "a", timestamp=now_ms() - 1000)
    world.nats.publish(OPENED, opened)
    world.nats.publish(OPENED, [opened, opened])
    world.until(user, "online", **online())
    for _ in range(2):
        world.nats.publish(CLOSED, closed)
    world.until(user, "offline", **OFFLINE)
    world.nats.publish(OPENED, opened)
    # What comes after it on the same subject shows that it changed nothing.
    world.tell(OPENED, user, "b", platform="desktop")
    world.until(user, "online again", **online("desktop"))
    world.told(user, (STATUS, online()), (STATUS, OFFLINE), (STATUS, online("desktop")))


def the_close_overtakes_the_open(world):
    user, now = User(), now_ms()
    world.tell(CLOSED, user, "a", timestamp=now - 1000)
    world.tell(CLOSED, user, "b", timestamp=now - 4000)
    until("the close to be a sign of life", lambda: world.read(user), lambda presence: presence["last_seen"])
    world.tell(OPENED, user, "a", timestamp=now - 2000)
    world.tell(HEARTBEAT, user, "a", timestamp=now)
    world.tell(OPENED, user, "b", timestamp=now - 3000, platform="mobile")
    world.until(user, "only the session that opened after its close", **online("mobile"))
    world.tell(HEARTBEAT, user, "a", timestamp=now)
    world.tell(HEARTBEAT, user, "c", platform="desktop")
    both = {"client_status": {"mobile": "online", "desktop": "online"}}
    world.until(user, "and the one that its heartbeat tells of", **both)
    world.told(user, (STATUS, online("mobile")), (STATUS, both))


def the_end_of_a_voice_session_overtakes_its_beginning(world):
    user, now = User(), now_ms()
    world.tell(OPENED, user, "a")
    world.until(user, "online", **online())
    world.tell(VOICE_ENDED, user, "call-1", timestamp=now - 1000)
    world.tell(VOICE_CREATED, user, "call-2", channel_name="Lounge")
    until("the second call", lambda: names(world.read(user)), lambda shown: shown == ["Lounge"])
    world.tell(VOICE_CREATED, user, "call-1", timestamp=now - 2000, channel_name="Over")
    world.tell(VOICE_ENDED, user, "call-2")
    until("its end", lambda: names(world.read(user)), lambda shown: shown == [])
    world.told(user, (STATUS, online()), (ACTIVITY, online()), (ACTIVITY, online()))


def messages_from_the_past(world):
    now = now_ms()
    believed, late, early = User(), User(), User()
    world.tell(OPENED, believed, "a", timestamp=now - 10_000)
    seen = world.until(believed, "online since a while", **online())["last_seen"]
    check(seen == rfc3339(now - 10_000), f"seen when it happened, not {seen}")
    world.tell(HEARTBEAT, believed, "a", timestamp=(now - 20_000) // 1000)
    world.told(believed, (STATUS, online()))
    for not_believed, timestamp in ((late, now - 3_600_000), (early, now + 3_600_000)):
        world.tell(OPENED, not_believed, "a", timestamp=timestamp)
        seen = world.until(not_believed, "online", **online())["last_seen"]
        check(rfc3339(now - 1) <= seen <= rfc3339(now_ms() + 1), f"seen when the message came, not {seen}")
        world.told(not_believed, (STATUS, online()))


def two_devices(world):
    user = User()
    desktop, mobile = online("desktop"), online("mobile")
    both = {"status": "online", "client_status": {"desktop": "online", "mobile": "online"}}
    world.tell(OPENED, user, "laptop", platform="desktop")
    world.until(user, "the laptop", **desktop)
    world.tell(OPENED, user, "phone", platform="mobile")
    world.until(user, "both", **both)
    world.tell(CLOSED, user, "laptop")
    world.until(user, "still online, on the phone", **mobile)
    world.tell(CLOSED, user, "phone")
    asked_at = now_ms()
    world.until(user, "offline", **OFFLINE)
    check(now_ms() - asked_at < 5000, "offline at once")
    world.told(user, (STATUS, desktop), (STATUS, both), (STATUS, mobile), (STATUS, OFFLINE))


def a_refresh_goes_unnoticed(world):
    user = User()
    world.tell(OPENED, user, "tab-1")
    world.until(user, "online", **online())
    world.tell(CLOSED, user, "tab-1", close_code=1006)
    world.tell(OPENED, user, "tab-2")
    # A second device on the same subject shows that both have been decided.
    world.tell(OPENED, user, "phone", platform="mobile")
    both = {"client_status": {"web": "online", "mobile": "online"}}
    world.until(user, "both", **both)
    world.tell(CLOSED, user, "phone")
    world.until(user, "the tab alone", **online())
    world.told(user, (STATUS, online()), (STATUS, both), (STATUS, online()))


def voice_before_its_user(world):
    user = User()
    world.tell(VOICE_CREATED, user, "call")
    world.tell(OPENED, user, "a")
    until("online with the voice activity", lambda: names(world.read(user)), lambda shown: shown == ["Voice"])
    world.tell(VOICE_ENDED, user, "another call")
    world.tell(VOICE_ENDED, user, "call")
    until("without it", lambda: names(world.read(user)), lambda shown: shown == [])
    world.tell(CLOSED, user, "a")
    world.until(user, "offline", **OFFLINE)


def poison_among_good_ones(world):
    good, better = User(), User()
    array = [message(good, "a"), {"user_id": "nobody"}, 7]
    texts = [b"\xff{not JSON " + good.id.encode()]
    world.nats.publish(OPENED, texts[0])
    world.nats.publish(OPENED, array)
    world.tell(OPENED, better, "a")
    world.until(good, "online", **online())
    world.until(better, "online", **online())

    def letters():
        kept = [(subject, text) for subject, text in world.nats.letters if good.id.encode() in text]
        return kept if len(kept) >= 2 else None

    kept = world.nats.wait("two dead letters", letters)
    check({subject for subject, _ in kept} == {"presence.dlq.connection-opened"}, f"on the function's subject: {kept}")
    check(texts[0] in [text for _, text in kept], f"whole: {kept}")


def all_who_are_concerned_have_started(world):
    user = User()

    def told():
        # A function that only starts may come too late for the first one.
        world.tell(OPENED, user, "a")
        world.tell(HEARTBEAT, user, "a")
        return world.read(user)

    until("online", told, lambda presence: presence["status"] == "online")
    world.tell(CLOSED, user, "a")
    world.until(user, "offline", **OFFLINE)


def silence_is_told_soon(world):
    user, opened_at = User(), now_ms()
    deadline = opened_at + SILENCE
    world.tell(OPENED, user, "a", timestamp=opened_at)

    def offline():
        mine = [event for event in world.nats.events if event.presence["user_id"] == user.id]
        return next((event for event in mine if event.presence["status"] == "offline"), None)

    event = world.nats.wait("the offline event", offline)
    late = event.came_at - deadline
    check(0 <= late <= TICK, f"told within {TICK} ms after the deadline, not {late} ms")
    check(event.presence["version"] == deadline, f"the deadline's version: {event.presence}, {deadline}")
    check(event.presence["last_seen"] == rfc3339(opened_at), f"the last sign of life: {event.presence}")
    world.told(user, (STATUS, online()), (STATUS, OFFLINE))


def no_read_says_online_after_the_deadline(world):
    user, opened_at = User(), now_ms()
    deadline = opened_at + SILENCE
    world.tell(OPENED, user, "a", timestamp=opened_at)
    world.until(user, "online", **online())

    def read():
        before = now_ms()
        status = world.read(user)["status"]
        check(before < deadline or status == "offline", f"offline, {before - deadline} ms after the deadline")
        check(now_ms() >= deadline or status == "online", f"online, {deadline - now_ms()} ms before the deadline")
        return status

    until("offline", read, lambda status: status == "offline")


def heartbeats_keep_a_user_online(world):
    user = User()
    world.tell(OPENED, user, "a")
    world.until(user, "online", **online())
    end = time.monotonic() + 2.5 * SILENCE / 1000

    def beat():
        world.tell(HEARTBEAT, user, "a")
        status = world.read(user)["status"]
        check(status == "online", "online all the time")
        return time.monotonic()

    until("the time to pass", beat, lambda now: now > end)
    world.until(user, "offline at last", **OFFLINE)
    world.told(user, (STATUS, online()), (STATUS, OFFLINE))


def names(presence):
    return [activity["name"] for activity in presence["activities"]]


def rfc3339(millis):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000))
    return f"{whole}.{millis % 1000:03}Z"


STORIES = [
    a_connection_without_a_session_id,
    a_message_with_every_field_and_unknown_ones,
    messages_that_are_arrays,
    everything_comes_twice,
    the_close_overtakes_the_open,
    the_end_of_a_voice_session_overtakes_its_beginning,
    messages_from_the_past,
    two_devices,
    a_refresh_goes_unnoticed,
    voice_before_its_user,
    poison_among_good_ones,
]
SILENT_STORIES = [
    all_who_are_concerned_have_started,
    silence_is_told_soon,
    no_read_says_online_after_the_deadline,
    heartbeats_keep_a_user_online,
]


def main():
    base_url, nats_url, which = sys.argv[1:]
    world = World(base_url, nats_url)
    for story in {"stories": STORIES, "silence": SILENT_STORIES}[which]:
        name = story.__name__.replace("_", " ")
        try:
            story(world)
        except Failed as failure:
            sys.exit(f"{name}: {failure}")
        print(name, flush=True)


main()
