//! What others tell about users: the subjects. Each has a function that takes its messages; the gateway and the voice
//! service tell them.

/// A gateway connection opened: the user is online.
pub const CONNECTION_OPENED: &str = "gateway.connection.opened";

/// A gateway connection closed: that session is over.
pub const CONNECTION_CLOSED: &str = "gateway.connection.closed";

/// A client's heartbeat arrived at its gateway; usually many in one message.
pub const HEARTBEAT_RECEIVED: &str = "gateway.heartbeat.received";

/// A user joined a voice channel.
pub const VOICE_SESSION_CREATED: &str = "voice.session.created";

/// A user left a voice channel.
pub const VOICE_SESSION_ENDED: &str = "voice.session.ended";
