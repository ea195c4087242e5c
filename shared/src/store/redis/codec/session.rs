//! A session as a field of the hash, and back.

use super::parse_moment;
use crate::domain::{Close, Mark, MarkKind, Platform, Session, Timestamp};

/// `since,platform,heartbeat - since,heartbeat - previous`, and for what is unusual `,o<opened>` or `,a` (adopted),
/// `,c<closed>/<ended>/<broke>` and `,e<earlier marks>`, each a letter and the time since `since`. The renewal script
/// knows this form.
pub(super) fn encode_session(session: &Session) -> String {
    let base = session.since.or(session.heartbeat).unwrap_or_default();
    let after = |from: Timestamp, to: Option<Timestamp>| {
        to.map_or_else(String::new, |to| (to.millis() - from.millis()).to_string())
    };
    let platform = platform_letter(session.platform);
    let gap = session.previous.map_or_else(String::new, |previous| after(previous, session.heartbeat));
    let mut text = format!("{},{platform},{},{gap}", base.millis(), after(base, session.heartbeat));
    if session.since.is_none() {
        text.push_str(",n");
    }
    match session.opened_at {
        None => text.push_str(",a"),
        Some(opened) if Some(opened) != session.since => text.push_str(&format!(",o{}", opened.millis())),
        Some(_) => {}
    }
    if let Some(close) = session.closed {
        let moment = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.millis().to_string());
        text.push_str(&format!(",c{}/{}/{}", close.at.millis(), moment(close.ended_at), moment(close.broke_at)));
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
    format!("{kind}{}{}", platform.map_or("", platform_letter), mark.at.millis() - base.millis())
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
    let offset: i64 = text.get(if platform.is_some() { 2 } else { 1 }..)?.parse().ok()?;
    Some(Mark { at: Timestamp::from_millis(base.millis().checked_add(offset)?), kind })
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

pub(super) fn parse_session(text: &str) -> Option<Session> {
    let mut parts = text.split(',');
    let base = parse_moment(parts.next()?)?;
    let platform = parse_platform(parts.next()?)?;
    let offset = |text: &str| if text.is_empty() { Some(None) } else { text.parse::<i64>().ok().map(Some) };
    let heartbeat = offset(parts.next()?)?.map(|offset| Timestamp::from_millis(base.millis() + offset));
    let previous = match (heartbeat, offset(parts.next()?)?) {
        (Some(heartbeat), Some(gap)) => Some(Timestamp::from_millis(heartbeat.millis() - gap)),
        _ => None,
    };
    let mut session = Session {
        platform,
        opened_at: Some(base),
        since: Some(base),
        heartbeat,
        previous,
        closed: None,
        earlier: Vec::new(),
    };
    for unusual in parts {
        match (unusual.get(..1)?, unusual.get(1..)?) {
            ("n", "") => session.since = None,
            ("a", "") => session.opened_at = None,
            ("o", opened) => session.opened_at = Some(parse_moment(opened)?),
            ("c", closes) => {
                let mut moments = closes.split('/');
                let at = parse_moment(moments.next()?)?;
                let mut optional = || {
                    moments.next().map(|text| if text.is_empty() { Some(None) } else { parse_moment(text).map(Some) })
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
            assert_eq!(parse_session(&encode_session(&session)), Some(session.clone()), "{}", encode_session(&session));
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
            assert!(encode_session(&session).len() <= 64);
        }
    }
}
