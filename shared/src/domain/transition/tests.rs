use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

fn trace() -> Traceparent {
    Traceparent::parse(TRACE).unwrap()
}

fn user() -> UserRecord {
    UserRecord::unknown("00000000-0000-4000-8000-000000000001".parse().unwrap())
}

fn happens(record: &mut UserRecord, at: Timestamp, kind: InputKind) {
    record.apply(&Input { at, kind }, at, &trace(), &Rules::default()).unwrap();
}

fn opens(id: &str) -> InputKind {
    InputKind::Opened { session_id: id.parse().unwrap(), platform: None, status: None }
}

fn closes(id: &str) -> InputKind {
    InputKind::Closed { session_id: id.parse().unwrap(), abnormal: false }
}

fn chooses(intent: Intent) -> InputKind {
    InputKind::StatusUpdated(StatusUpdate { status: Some(intent), ..StatusUpdate::default() })
}

fn told(record: &UserRecord) -> Vec<(Status, u64)> {
    record.pending.iter().map(|pending| (pending.presence.status, pending.presence.version)).collect()
}

fn version(at: Timestamp) -> u64 {
    at.millis() as u64
}

#[test]
fn a_user_is_online_until_the_last_session_closes() {
    let mut record = user();
    happens(&mut record, at(0), opens("a"));
    happens(&mut record, at(1), opens("b"));
    happens(&mut record, at(2), closes("a"));
    happens(&mut record, at(3), closes("b"));
    assert_eq!(told(&record), [(Status::Online, version(at(0))), (Status::Offline, version(at(3)))]);
    assert_eq!(record.read(at(3), &Rules::default()).last_seen, Some(at(3)));
}

#[test]
fn a_read_after_the_deadline_tells_what_the_sweep_will_tell() {
    let rules = Rules::default();
    let mut record = user();
    happens(&mut record, at(0), opens("a"));
    assert_eq!(record.read(at(44), &rules).status, Status::Online);
    let read = record.read(at(45), &rules);
    assert_eq!((read.status, read.version, read.last_seen), (Status::Offline, version(at(45)), Some(at(0))));
    record.expire(at(100), &trace(), &rules);
    assert_eq!(record.read(at(100), &rules), read);
    assert_eq!(told(&record).last(), Some(&(Status::Offline, version(at(45)))));
}

#[test]
fn invisibility_looks_like_having_gone_offline() {
    let rules = Rules::default();
    let mut invisible = user();
    happens(&mut invisible, at(0), opens("a"));
    let mut offline = invisible.clone();
    happens(&mut invisible, at(5), chooses(Intent::Invisible));
    happens(&mut offline, at(5), closes("a"));
    for (seconds, input) in
        [(20, InputKind::Heartbeat { session_id: "a".parse().unwrap(), platform: None }), (30, opens("b"))]
    {
        happens(&mut invisible, at(seconds), input);
    }
    assert_eq!(invisible.read(at(31), &rules), offline.read(at(31), &rules));
    assert_eq!(invisible.pending, offline.pending);
    assert_eq!(invisible.own(at(31), &rules).intent, Intent::Invisible);
}

#[test]
fn the_sixth_update_in_twenty_seconds_is_refused_and_does_not_count() {
    let rules = Rules::default();
    let mut record = user();
    for second in 0..5 {
        happens(&mut record, at(second), chooses(Intent::Idle));
    }
    let before = record.clone();
    let refused = record.apply(&Input { at: at(6), kind: chooses(Intent::Dnd) }, at(6), &trace(), &rules);
    assert_eq!(refused, Err(RateLimited { retry_after: Duration::from_secs(14) }));
    assert_eq!((record.choice, record.updates), (before.choice, before.updates));
}
