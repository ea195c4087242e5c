//! Hashes that somebody else wrote, or that broke: each is read or refused, and never ends the process.

use std::time::Duration;

use presence_corpus::hostile;
use proptest::prelude::*;

use super::*;
use crate::domain::{Input, InputKind, Platform, Traceparent};

fn user() -> UserId {
    "0a1b2c3d-0000-4000-8000-00000000000f".parse().unwrap()
}

/// A hash from lines of `name=value`.
fn fields(bytes: &[u8]) -> Fields {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Lives on with the record as if nothing were wrong with it.
fn live_on(mut record: UserRecord) {
    let (rules, trace) = (Rules::default(), Traceparent::generate());
    // The form of a session holds moments up to the year 2286.
    let last = Timestamp::from_millis(9_000_000_000_000);
    for now in [record.settled_at, Timestamp::from_millis(1_700_000_120_000), last] {
        if last < record.settled_at {
            return;
        }
        let (read, own) = (record.read(now, &rules), record.own(now, &rules));
        assert_eq!(read.user_id, user(), "{own:?}");
        record.next_deadline(now, &rules);
        let session_id: SessionId = "a".parse().unwrap();
        for kind in [
            InputKind::Opened { session_id: session_id.clone(), platform: Some(Platform::Mobile), status: None },
            InputKind::Heartbeat { session_id: session_id.clone(), platform: None },
            InputKind::Closed { session_id, abnormal: true },
        ] {
            record.apply(&Input { at: now, kind }, now, &trace, &rules).unwrap();
        }
        record.expire(now + Duration::from_secs(50), &trace, &rules);
        decode(user(), &encode(&record, &rules)).unwrap();
        decode_profile(user(), &encode_profile(&record)).unwrap();
        let pending = encode_pending(&record.pending);
        assert!(pending.is_empty() || decode_pending(&pending).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_hash_is_read_or_refused(bytes in hostile("record")) {
        let fields = fields(&bytes);
        for record in [decode(user(), &fields), decode_profile(user(), &fields)].into_iter().flatten() {
            live_on(record);
        }
    }

    #[test]
    fn anything_that_is_pending_is_read_or_refused(bytes in hostile("pending")) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(pending) = decode_pending(&text) {
            prop_assert_eq!(decode_pending(&encode_pending(&pending)).unwrap_or_default(), pending);
        }
    }
}

#[test]
fn the_seeds_are_read_and_what_broke_once_is_refused() {
    let (mut good, mut bad) = (0, 0);
    for bytes in presence_corpus::seeds("record") {
        let fields = fields(&bytes);
        match decode(user(), &fields).or_else(|_| decode_profile(user(), &fields)) {
            Ok(record) => {
                good += 1;
                live_on(record);
            }
            Err(_) => bad += 1,
        }
    }
    assert_eq!((good, bad), (2, 6));
}
