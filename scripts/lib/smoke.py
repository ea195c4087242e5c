"""The walk of scripts/smoke: python3 smoke.py BASE_URL NATS_URL"""

import json
import sys

from presence_client import Api, Failed, Nats, User, until

CHESS = {"type": "playing", "name": "Chess"}


def walk(api, nats):
    ada, ben = User(), User()

    def tell(subject, **more):
        nats.publish(subject, {"user_id": ada.id, **more})

    def expect(what, **expected):
        """Waits until ben sees it. Activities are compared by name."""

        def is_it(presence):
            seen = {**presence, "activities": names(presence)}
            return all(seen[field] == value for field, value in expected.items())

        presence = until(what, lambda: api.presence(ada, ben), is_it)
        step(f"{what}: {look(presence)}")
        return presence

    step(f"ada is {ada.id}, and ben looks on")
    tell("gateway.connection.opened", session_id="laptop", platform="desktop")
    expect("her laptop connects", status="online", client_status={"desktop": "online"})
    api.status(ada, {"status": "dnd", "custom_status": "Working", "activity": CHESS})
    before = expect("she chooses", status="dnd", custom_status="Working", activities=["Chess"])

    def beat():
        # Again until it shows: the clock of NATS, by which it counts, may be a little behind.
        tell("gateway.heartbeat.received", session_id="laptop")
        return api.presence(ada, ben)

    is_sign = lambda presence: presence["last_seen"] > before["last_seen"] and presence["version"] == before["version"]
    until("her heartbeat is a sign of life and nothing more", beat, is_sign)
    step("her heartbeat is a sign of life and nothing more")
    tell("voice.session.created", session_id="call", channel_name="Lounge")
    expect("she joins a voice channel", activities=["Lounge", "Chess"])
    tell("voice.session.ended", session_id="call")
    expect("she leaves it", activities=["Chess"])
    api.status(ada, {"status": "invisible"})
    expect("she hides", status="offline", custom_status=None, activities=[], client_status={})
    api.status(ada, {"status": "online"})
    expect("she shows again", status="online", custom_status="Working", activities=["Chess"])
    tell("gateway.connection.closed", session_id="laptop", close_code=1000)
    last = expect("her laptop disconnects", status="offline", activities=[], client_status={})

    step("")
    events = until_told(nats, ada, last["version"])
    for event in events:
        step(f"told on {event.subject}: {look(event.presence)}")
    if events[-1].presence != last:
        raise Failed("what was told last is not what is read")
    versions = [event.presence["version"] for event in events]
    if versions != sorted(versions):
        raise Failed(f"versions do not rise: {versions}")
    step("all of it happened")


def until_told(nats, user, version):
    def is_told():
        events = nats.events_of(user)
        return events if events and events[-1].presence["version"] >= version else None

    return nats.wait("the last change to be told", is_told)


def names(presence):
    return [activity["name"] for activity in presence["activities"]]


def look(presence):
    custom_status, shown = presence["custom_status"], names(presence)
    parts = [presence["status"]]
    parts += [f"“{custom_status}”"] if custom_status else []
    parts += [f"with {' and '.join(shown)}"] if shown else []
    parts += [json.dumps(presence["client_status"])] if presence["client_status"] else []
    return " ".join(parts)


def step(text):
    print(text, flush=True)


def main():
    base_url, nats_url = sys.argv[1:]
    try:
        walk(Api(base_url), Nats(nats_url))
    except Failed as failure:
        sys.exit(f"smoke: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


main()
