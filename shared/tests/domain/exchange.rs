//! Names are of no account: whoever exchanges the two sessions, with where they run, or the two voice sessions, in all that
//! is heard finds them exchanged in the record, and nothing else. `every_order.rs` checks one history of those alike.
//!
//! Two exceptions: of two voice sessions that are created at one moment the name decides, and an open that tells a status
//! has no counterpart in the alphabet.

use std::collections::BTreeMap;

use presence::domain::{Mark, MarkKind, Platform, Session, SessionId, UserRecord, Voice};

use crate::order::{EVERYTHING, TIMES, What, beginnings, history, input, now};
use crate::user::User;

/// What each of the alphabet becomes, by place; none if that is not in it.
pub(crate) type Exchange = [Option<usize>; EVERYTHING.len()];

/// Which names are exchanged.
#[derive(Debug, Clone, Copy)]
struct Names {
    sessions: bool,
    voices: bool,
}

const NAMES: [Names; 3] = [
    Names { sessions: false, voices: true },
    Names { sessions: true, voices: false },
    Names { sessions: true, voices: true },
];

/// The exchanges that lead from a history after this beginning, at these moments, to another that ends alike.
pub(crate) fn exchanges(beginning: &User, moments: &[i64]) -> Vec<Exchange> {
    usable(beginning, moments).map(Names::exchange).collect()
}

fn usable(beginning: &User, moments: &[i64]) -> impl Iterator<Item = Names> {
    let is_untied = moments.is_sorted_by(|one, next| one > next);
    NAMES
        .into_iter()
        .filter(move |names| (is_untied || !names.voices) && names.record(&beginning.record) == beginning.record)
}

impl Names {
    fn exchange(self) -> Exchange {
        EVERYTHING.map(|what| EVERYTHING.iter().position(|other| *other == self.what(what)))
    }

    fn what(self, what: What) -> What {
        match what {
            What::Opens(id) => What::Opens(self.session(id)),
            What::OpensAs(id, intent) => What::OpensAs(self.session(id), intent),
            What::Beats(id) => What::Beats(self.session(id)),
            What::Breaks(id) => What::Breaks(self.session(id)),
            What::Closes(id) => What::Closes(self.session(id)),
            What::Joins(id) => What::Joins(self.voice(id)),
            What::Leaves(id) => What::Leaves(self.voice(id)),
        }
    }

    fn session(self, id: &str) -> &str {
        match id {
            "a" if self.sessions => "b",
            "b" if self.sessions => "a",
            other => other,
        }
    }

    fn voice(self, id: &str) -> &str {
        match id {
            "v" if self.voices => "w",
            "w" if self.voices => "v",
            other => other,
        }
    }

    fn platform(self, platform: Platform) -> Platform {
        match platform {
            Platform::Desktop if self.sessions => Platform::Mobile,
            Platform::Mobile if self.sessions => Platform::Desktop,
            other => other,
        }
    }

    fn record(self, record: &UserRecord) -> UserRecord {
        let session_id = |id: &SessionId| self.session(id.as_str()).parse().unwrap();
        let voice_id = |id: &SessionId| self.voice(id.as_str()).parse().unwrap();
        let voice = |voice: &Voice| Voice { session_id: voice_id(&voice.session_id), ..voice.clone() };
        let sessions = record.sessions.iter().map(|(id, session)| (session_id(id), self.facts(session)));
        let ended: BTreeMap<SessionId, _> = record.voice_ended.iter().map(|(id, at)| (voice_id(id), *at)).collect();
        UserRecord {
            sessions: sessions.collect(),
            voice: record.voice.as_ref().map(voice),
            earlier_voices: record.earlier_voices.iter().map(voice).collect(),
            voice_ended: ended,
            pending: Vec::new(),
            ..record.clone()
        }
    }

    fn facts(self, session: &Session) -> Session {
        let mark = |mark: &Mark| {
            let said = |platform: Option<Platform>| platform.map(|platform| self.platform(platform));
            let kind = match mark.kind {
                MarkKind::Opened(platform) => MarkKind::Opened(self.platform(platform)),
                MarkKind::Beat(platform) => MarkKind::Beat(said(platform)),
                MarkKind::Lived(platform) => MarkKind::Lived(said(platform)),
                close => close,
            };
            Mark { kind, ..*mark }
        };
        Session {
            platform: self.platform(session.platform),
            earlier: session.earlier.iter().map(mark).collect(),
            ..session.clone()
        }
    }
}

/// Hears of a history as it happens, and of another late and from the end: what both left, without what is pending.
fn left(beginning: &User, history: &[(i64, What)]) -> [UserRecord; 2] {
    let (mut ordered, mut late) = (beginning.clone(), beginning.clone());
    for (at, kind) in history.iter().copied().map(input) {
        ordered.happens(at, kind);
    }
    for (at, kind) in history.iter().rev().copied().map(input) {
        late.hears(now(), at, kind);
    }
    [ordered, late].map(|user| UserRecord { pending: Vec::new(), ..user.record })
}

/// Every history of three inputs, at the first, the middle and the last three moments of each series.
#[test]
fn whoever_exchanges_names_in_a_history_finds_them_exchanged_and_nothing_else() {
    let mut compared = 0;
    for beginning in &beginnings() {
        for moments in TIMES.iter().flat_map(|times| times.windows(3)) {
            for names in usable(beginning, moments) {
                for number in 0..EVERYTHING.len().pow(3) {
                    let one: Vec<_> = moments.iter().copied().zip(history(number, 3)).collect();
                    let other: Vec<_> = one.iter().map(|(ago, what)| (*ago, names.what(*what))).collect();
                    let expected = left(beginning, &one).map(|record| names.record(&record));
                    assert_eq!(left(beginning, &other), expected, "{names:?} exchanged in {one:?}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}
