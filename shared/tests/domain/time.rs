//! What time does, in random histories: reads before and after the sweep, deadlines, versions and events.

use std::time::Duration;

use presence::domain::{Presence, Status, Timestamp};
use proptest::prelude::*;

use crate::history::{Happening, arrivals, timely, untimely};
use crate::user::{User, at, rules};

fn history() -> impl Strategy<Value = Vec<Happening>> {
    prop_oneof![timely(30), untimely(30)]
}

/// After the whole history, and when its last message has come.
fn lived(history: &[Happening]) -> (User, Timestamp) {
    let mut user = User::unknown();
    let mut now = at(0);
    for arrival in arrivals(history) {
        user.arrives(&arrival);
        now = arrival.heard_at;
    }
    (user, now)
}

fn after(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.millis() + millis)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_read_tells_the_same_before_the_sweep_and_after_it(
        history in history(),
        (first, second) in (0..100_000_i64, 0..200_000_i64),
    ) {
        let (user, now) = lived(&history);
        let (first, second) = (after(now, first), after(now, first + second));
        let (mut swept, mut swept_twice) = (user.clone(), user.clone());
        swept.swept(second);
        swept_twice.swept(first);
        prop_assert_eq!(user.read(first), swept_twice.read(first));
        prop_assert_eq!(user.own(first), swept_twice.own(first));
        prop_assert_eq!(user.next_deadline(first), swept_twice.next_deadline(first));
        for again in 0..2 {
            prop_assert_eq!(user.read(second), swept.read(second), "swept {} times", again);
            prop_assert_eq!(user.read(second), swept_twice.read(second));
            prop_assert_eq!(user.own(second), swept.own(second));
            prop_assert_eq!(user.own(second), swept_twice.own(second));
            swept_twice.swept(second);
        }
        prop_assert_eq!(swept.record.pending, swept_twice.record.pending, "it does not matter when somebody sweeps");
    }

    #[test]
    fn the_next_deadline_is_the_first_moment_at_which_a_read_changes(
        history in history(),
        (later, part) in (0..60_000_i64, 0.0..1.0_f64),
    ) {
        let (user, now) = lived(&history);
        let mut now = after(now, later);
        while let Some(next) = user.next_deadline(now) {
            prop_assert!(next > now);
            let read = user.read(now);
            prop_assert!(read.status != Status::Offline);
            let between = after(now, ((next.millis() - now.millis()) as f64 * part) as i64);
            prop_assert_eq!(&user.read(between), &read);
            prop_assert_eq!(&user.read(next - Duration::from_millis(1)), &read);
            let changed = user.read(next);
            prop_assert!(!changed.has_status_of(&read), "{} {:?}", next, read);
            prop_assert_eq!(changed.version, (read.version + 1).max(next.millis() as u64));
            now = next;
        }
        let read = user.read(now);
        prop_assert_eq!(read.status, Status::Offline);
        prop_assert_eq!(&user.read(after(now, 3_600_000)), &read);
    }

    #[test]
    fn whoever_listens_knows_what_a_read_tells(history in history(), later in 0..200_000_i64) {
        let mut user = User::unknown();
        let mut listener = Listener::new(&user);
        let mut now = at(0);
        for arrival in arrivals(&history) {
            user.arrives(&arrival);
            now = arrival.heard_at;
            listener.hears(&mut user, now)?;
        }
        user.swept(after(now, later));
        listener.hears(&mut user, after(now, later))?;
    }

    #[test]
    fn last_seen_of_a_visible_or_invisible_user_never_goes_back(history in history()) {
        let mut user = User::unknown();
        let mut seen = None;
        for arrival in arrivals(&history) {
            user.arrives(&arrival);
            let now = user.read(arrival.heard_at).last_seen;
            prop_assert!(now >= seen, "{:?} after {:?}", now, arrival);
            seen = now;
        }
    }
}

/// Knows of a user what the events tell, and drops what is not newer.
struct Listener {
    status: Presence,
    look: Presence,
}

impl Listener {
    fn new(user: &User) -> Self {
        Self { status: user.read(at(0)), look: user.read(at(0)) }
    }

    /// Everything pending is published. Versions rise, consecutive status events differ, and nothing is missed.
    fn hears(&mut self, user: &mut User, now: Timestamp) -> Result<(), TestCaseError> {
        for change in std::mem::take(&mut user.record.pending) {
            prop_assert!(change.status || change.activity);
            prop_assert!(change.presence.version > self.look.version);
            prop_assert_eq!(change.status, !change.presence.has_status_of(&self.status), "{:?}", change);
            if change.activity {
                prop_assert!(change.presence.status != Status::Offline);
                prop_assert!(change.presence.activities != self.look.activities);
            }
            if change.status {
                self.status = change.presence.clone();
            }
            self.look = change.presence;
        }
        let read = user.read(now);
        prop_assert!(read.has_status_of(&self.status));
        prop_assert_eq!(&read.activities, &self.look.activities);
        let forgotten = now >= self.look.last_seen.unwrap_or_default() + rules().last_seen_ttl;
        prop_assert!(read.version == self.look.version || forgotten);
        Ok(())
    }
}
