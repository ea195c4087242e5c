//! Time as the domain knows it: whole milliseconds of the store's clock. Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in milliseconds since 1970-01-01T00:00:00Z. In JSON it is RFC 3339 with milliseconds, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// The last moment that RFC 3339 can write: the end of the year 9999.
const LATEST: i64 = 253_402_300_799_999;

impl Timestamp {
    /// From milliseconds since the epoch, brought into the years 1970 to 9999.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > LATEST {
            Self(LATEST)
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch: the "Unix timestamp" of the documented keys and events.
    pub const fn seconds(self) -> i64 {
        self.0 / 1000
    }

    /// How long this moment is after `earlier`; zero if it is not after it.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        let millis = self.0 - earlier.0;
        if millis > 0 { Duration::from_millis(millis as u64) } else { Duration::ZERO }
    }

    /// RFC 3339 text is how other systems write a moment; anything it can't hold is none.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let millis = DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis();
        (0..=LATEST).contains(&millis).then_some(Self(millis))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Self::from_millis(self.0.saturating_add(duration.as_millis().min(LATEST as u128) as i64))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, duration: Duration) -> Timestamp {
        Self::from_millis(self.0 - duration.as_millis().min(LATEST as u128) as i64)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc: DateTime<Utc> = DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time between 1970 and 9999"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_with_milliseconds_and_read_back() {
        let moment = Timestamp::from_millis(1_704_110_400_007);
        assert_eq!(moment.to_string(), "2024-01-01T12:00:00.007Z");
        assert_eq!(Timestamp::parse_rfc3339("2024-01-01T13:00:00.007+01:00"), Some(moment));
        assert_eq!(Timestamp::parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(moment.seconds(), 1_704_110_400);
    }

    #[test]
    fn arithmetic_stays_within_what_can_be_written() {
        assert_eq!(Timestamp::from_millis(5) - Duration::from_secs(1), Timestamp::from_millis(0));
        assert_eq!(Timestamp::from_millis(i64::MAX) + Duration::MAX, Timestamp::from_millis(LATEST));
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
