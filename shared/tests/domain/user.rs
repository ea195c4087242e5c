//! A user to whom things happen, and short names for them.

use presence::domain::{
    ActivityKind, ActivityUpdate, Input, InputKind, Intent, Own, Platform, Presence, RateLimited, Rules, Status,
    StatusUpdate, Timestamp, Traceparent, UserRecord,
};

/// One user's record, by the default rules.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct User {
    pub(crate) record: UserRecord,
}

/// A moment, in seconds since some day in 2023.
pub(crate) fn at(seconds: i64) -> Timestamp {
    ms(seconds * 1000)
}

/// The same in milliseconds.
pub(crate) fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

pub(crate) fn rules() -> Rules {
    Rules::default()
}

pub(crate) fn trace() -> Traceparent {
    Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap()
}

impl User {
    pub(crate) fn unknown() -> Self {
        Self { record: UserRecord::unknown("00000000-0000-4000-8000-000000000001".parse().unwrap()) }
    }

    /// It happens and is heard of at once.
    pub(crate) fn happens(&mut self, at: Timestamp, kind: InputKind) -> &mut Self {
        self.hears(at, at, kind)
    }

    /// It happened at `at` and is heard of at `now`.
    pub(crate) fn hears(&mut self, now: Timestamp, at: Timestamp, kind: InputKind) -> &mut Self {
        self.tries(now, at, kind).unwrap();
        self
    }

    pub(crate) fn tries(&mut self, now: Timestamp, at: Timestamp, kind: InputKind) -> Result<(), RateLimited> {
        self.record.apply(&Input { at, kind }, now, &trace(), &rules())
    }

    pub(crate) fn swept(&mut self, now: Timestamp) -> &mut Self {
        self.record.expire(now, &trace(), &rules());
        self
    }

    pub(crate) fn read(&self, now: Timestamp) -> Presence {
        self.record.read(now, &rules())
    }

    pub(crate) fn status(&self, now: Timestamp) -> Status {
        self.read(now).status
    }

    pub(crate) fn own(&self, now: Timestamp) -> Own {
        self.record.own(now, &rules())
    }

    pub(crate) fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        self.record.next_deadline(now, &rules())
    }

    /// The names of the activities that others see.
    pub(crate) fn activities(&self, now: Timestamp) -> Vec<String> {
        self.read(now).activities.iter().map(|activity| activity.name.to_string()).collect()
    }

    /// When the latest activity began, as others see it.
    pub(crate) fn began(&self, now: Timestamp) -> Option<Timestamp> {
        self.read(now).activity.map(|activity| activity.started_at)
    }

    /// What `status.changed` tells, one after the other.
    pub(crate) fn statuses_told(&self) -> Vec<Status> {
        self.record.pending.iter().filter(|change| change.status).map(|change| change.presence.status).collect()
    }

    /// Of every change its version, and whether it publishes `status.changed` and `activity.updated`.
    pub(crate) fn told(&self) -> Vec<(u64, bool, bool)> {
        let told = self.record.pending.iter();
        told.map(|change| (change.presence.version, change.status, change.activity)).collect()
    }

    /// Everything pending is published.
    pub(crate) fn published(&mut self) -> &mut Self {
        self.record.pending.clear();
        self
    }
}

pub(crate) fn opens(id: &str) -> InputKind {
    opened(id, None, None)
}

pub(crate) fn opened(id: &str, platform: Option<Platform>, status: Option<Intent>) -> InputKind {
    InputKind::Opened { session_id: id.parse().unwrap(), platform, status }
}

pub(crate) fn closes(id: &str) -> InputKind {
    InputKind::Closed { session_id: id.parse().unwrap(), abnormal: false }
}

pub(crate) fn breaks(id: &str) -> InputKind {
    InputKind::Closed { session_id: id.parse().unwrap(), abnormal: true }
}

pub(crate) fn beats(id: &str) -> InputKind {
    beats_on(id, None)
}

pub(crate) fn beats_on(id: &str, platform: Option<Platform>) -> InputKind {
    InputKind::Heartbeat { session_id: id.parse().unwrap(), platform }
}

pub(crate) fn joins_voice(id: &str, name: &str) -> InputKind {
    InputKind::VoiceCreated { session_id: id.parse().unwrap(), name: name.parse().unwrap() }
}

pub(crate) fn leaves_voice(id: &str) -> InputKind {
    InputKind::VoiceEnded { session_id: id.parse().unwrap() }
}

pub(crate) fn chooses(intent: Intent) -> InputKind {
    InputKind::StatusUpdated(StatusUpdate { status: Some(intent), ..StatusUpdate::default() })
}

pub(crate) fn says(text: Option<&str>) -> InputKind {
    let custom_status = Some(text.map(|text| text.parse().unwrap()));
    InputKind::StatusUpdated(StatusUpdate { custom_status, ..StatusUpdate::default() })
}

pub(crate) fn plays(name: Option<&str>) -> InputKind {
    InputKind::StatusUpdated(StatusUpdate { activity: Some(name.map(playing)), ..StatusUpdate::default() })
}

pub(crate) fn playing(name: &str) -> ActivityUpdate {
    ActivityUpdate { kind: ActivityKind::Playing, name: name.parse().unwrap() }
}

/// The version of a change at that moment, if it is not the second.
pub(crate) fn version(at: Timestamp) -> u64 {
    at.millis() as u64
}
