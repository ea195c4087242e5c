//! A session as a field of the hash, and back.

use super::{moment_after, parse_moment};
use crate::domain::{Close, Mark, MarkKind, Platform, Session, Timestamp};

/// The digits of a moment until the year 2286, which is the latest that [`parse_moment`] reads.
pub(super) const WIDTH: usize = 13;

/// The letter of the platform, then the heartbeat, the one before it and since when the session lives, each as
/// [`fixed`]; and for what is unusual `,o<opened>` or `,a` (adopted), `,c<closed>/<ended>/<broke>` and
/// `,e<earlier marks>`, each a letter and the time since `since`.
///
/// A session that may be renewed the short way has a capital letter. The scripts know this form: that which renews
/// moves the two heartbeats in their places, and that which confirms makes the letter a capital.
pub(super) fn encode_session(session: &Session, is_renewable: bool) -> String {
    let base = session.since.or(session.heartbeat).unwrap_or_default();
    let mut text = platform_letter(session.platform).to_owned();
    if is_renewable {
        text.make_ascii_uppercase();
    }
    for at in [session.heartbeat, session.previous, session.since] {
        text.push_str(&fixed(at));
    }
    match session.opened_at {
        None => text.push_str(",a"),
        Some(opened) if Some(opened) != session.since => text.push_str(&format!(",o{}", after(base, opened))),
        Some(_) => {}
    }
    if let Some(close) = session.closed {
        let moment = |at: Option<Timestamp>| at.map_or_else(String::new, |at| after(base, at).to_string());
        text.push_str(&format!(",c{}/{}/{}", after(base, close.at), moment(close.ended_at), moment(close.broke_at)));
    }
    if !session.earlier.is_empty() {
        let marks = session.earlier.iter().map(|mark| encode_mark(base, mark));
        text.push_str(&format!(",e{}", marks.collect::<Vec<_>>().join("/")));
    }
    text
}

fn encode_mark(base: Timestamp, mark: &Mark) -> String {
    let (kind, platform) = match mark.kind {
        MarkKind::Opened(platform) => ("o", Some(platform)),
        MarkKind::Beat(platform) => ("b", platform),
        MarkKind::Lived(platform) => ("l", platform),
        MarkKind::Broke => ("k", None),
        MarkKind::Ended => ("x", None),
    };
    format!("{kind}{}{}", platform.map_or("", platform_letter), after(base, mark.at))
}

/// By how much one moment is after another, in ms.
fn after(base: Timestamp, at: Timestamp) -> i64 {
    at.millis() - base.millis()
}

fn parse_mark(base: Timestamp, text: &str) -> Option<Mark> {
    let platform = parse_platform(text.get(1..2)?);
    let kind = match (text.get(..1)?, platform) {
        ("o", Some(platform)) => MarkKind::Opened(platform),
        ("b", platform) => MarkKind::Beat(platform),
        ("l", platform) => MarkKind::Lived(platform),
        ("k", None) => MarkKind::Broke,
        ("x", None) => MarkKind::Ended,
        _ => return None,
    };
    let offset = text.get(if platform.is_some() { 2 } else { 1 }..)?;
    Some(Mark { at: moment_after(base, offset)?, kind })
}

fn platform_letter(platform: Platform) -> &'static str {
    &platform.as_str()[..1]
}

fn parse_platform(letter: &str) -> Option<Platform> {
    match letter {
        "d" => Some(Platform::Desktop),
        "m" => Some(Platform::Mobile),
        "w" => Some(Platform::Web),
        _ => None,
    }
}

/// A moment in milliseconds, or none, at its full width, so that a script finds what comes after it and compares texts
/// as it would numbers.
pub(in crate::store::redis) fn fixed(at: Option<Timestamp>) -> String {
    format!("{:0WIDTH$}", at.unwrap_or_default().millis())
}

fn parse_fixed(text: &str) -> Option<Option<Timestamp>> {
    Some(Some(parse_moment(text)?).filter(|at| *at != Timestamp::default()))
}

pub(super) fn parse_session(text: &str) -> Option<Session> {
    let mut parts = text.split(',');
    let (platform, moments) = parts.next()?.split_at_checked(1)?;
    let moment = |place: usize| parse_fixed(moments.get(place * WIDTH..(place + 1) * WIDTH)?);
    let (heartbeat, previous, since) = (moment(0)?, moment(1)?, moment(2)?);
    if moments.len() != 3 * WIDTH {
        return None;
    }
    let base = since.or(heartbeat).unwrap_or_default();
    let mut session = Session {
        platform: parse_platform(&platform.to_ascii_lowercase())?,
        opened_at: since,
        since,
        heartbeat,
        previous,
        closed: None,
        earlier: Vec::new(),
    };
    for unusual in parts {
        match (unusual.get(..1)?, unusual.get(1..)?) {
            ("a", "") => session.opened_at = None,
            ("o", opened) => session.opened_at = Some(moment_after(base, opened)?),
            ("c", closes) => {
                let mut moments = closes.split('/');
                let at = moment_after(base, moments.next()?)?;
                let mut optional = || {
                    moments
                        .next()
                        .map(|text| if text.is_empty() { Some(None) } else { moment_after(base, text).map(Some) })
                };
                session.closed = Some(Close { at, ended_at: optional()??, broke_at: optional()?? });
            }
            ("e", marks) => {
                session.earlier = marks.split('/').map(|mark| parse_mark(base, mark)).collect::<Option<_>>()?;
            }
            _ => return None,
        }
    }
    Some(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Rules;

    /// A session of which much may still come late.
    #[test]
    fn what_is_known_of_a_session_is_read_back_as_it_was() {
        let at = |seconds: i64| Timestamp::from_millis(1_700_000_000_000 + seconds * 1000);
        let rules = Rules::default();
        let mut session = Session::unknown();
        let mut seen = 0;
        for (second, what) in [
            (0, "beat"),
            (41, "beat"),
            (82, "beat"),
            (90, "break"),
            (91, "beat"),
            (92, "open"),
            (93, "open"),
            (95, "close"),
            (94, "break"),
            (155, "beat"),
            (156, "beat"),
        ] {
            match what {
                "open" => session.open(at(second), Some(Platform::Mobile), &rules),
                "beat" => session.renew(at(second), Some(Platform::Mobile), &rules),
                _ => session.close(at(second), what == "break", &rules),
            }
            for is_renewable in [false, true] {
                let text = encode_session(&session, is_renewable);
                assert_eq!(parse_session(&text), Some(session.clone()), "{text}");
            }
            seen = session.earlier.len().max(seen);
        }
        assert!(seen > 3, "{session:?}");
    }

    #[test]
    fn a_plain_session_stays_in_the_compact_form_of_a_hash() {
        let at = |seconds: i64| Timestamp::from_millis(1_700_000_000_000 + seconds * 1000);
        let mut session = Session::unknown();
        session.open(at(0), None, &Rules::default());
        for beat in 1..100 {
            session.renew(at(beat * 30), None, &Rules::default());
            assert!(encode_session(&session, true).len() <= 64);
        }
    }
}
