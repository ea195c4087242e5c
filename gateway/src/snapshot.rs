//! Reads what connections subscribed to. All of a node's connections share the readings: a thousand that come back at
//! once and want the same hundred users cost a hundred reads.

use std::sync::Arc;
use std::time::Duration;

use presence::domain::{ChannelId, Presence, Timestamp, Traceparent, UserId};
use presence::events::{Event, EventKind};
use presence::{ErrorKind, PresenceService};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use crate::hub::{Hub, Wanted};

/// How many users are read together.
const USERS: usize = 256;
/// How many channels.
const CHANNELS: usize = 32;
/// The pauses while the store is away, doubling from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Reads for ever, whatever is wanted, in the order in which it was wanted.
pub(crate) async fn read(hub: Arc<Hub>, service: Arc<PresenceService>) {
    let reader = Reader { hub, service };
    let mut pause = PAUSES.0;
    loop {
        let wanted = reader.hub.wanted(USERS, CHANNELS).await;
        let left = reader.read(wanted).await;
        if left.users.is_empty() && left.channels.is_empty() {
            pause = PAUSES.0;
            continue;
        }
        tracing::warn!(users = left.users.len(), channels = left.channels.len(), "snapshots wait for the store");
        reader.hub.want_again(&left);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

struct Reader {
    hub: Arc<Hub>,
    service: Arc<PresenceService>,
}

impl Reader {
    /// Reads and gives out; what is left has to be read again.
    async fn read(&self, wanted: Wanted) -> Wanted {
        let channels = wanted.channels.iter().map(|channel| self.read_channel(*channel));
        let (users_left, channels_left) =
            futures::join!(self.read_users(wanted.users), futures::future::join_all(channels));
        Wanted { users: users_left, channels: channels_left.into_iter().flatten().collect() }
    }

    async fn read_users(&self, users: Vec<UserId>) -> Vec<UserId> {
        if users.is_empty() {
            return users;
        }
        match self.service.presences(nobody(), &users).await {
            Ok(presences) => {
                presences.into_iter().for_each(|presence| self.give(presence));
                Vec::new()
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => users,
            Err(_) => self.read_one_by_one(users).await,
        }
    }

    /// One record that can't be read must not stand in front of the others.
    async fn read_one_by_one(&self, users: Vec<UserId>) -> Vec<UserId> {
        let mut left = Vec::new();
        for user in users {
            match self.service.presence(nobody(), user).await {
                Ok(presence) => self.give(presence),
                Err(error) if error.kind() == ErrorKind::Unavailable => left.push(user),
                Err(error) => tracing::error!(user_id = %user, %error, "no snapshot: the record can't be read"),
            }
        }
        left
    }

    fn give(&self, presence: Presence) {
        // Everyone gets the same frame, which is that of the event which last told of this user.
        let presence = Presence { own: None, ..presence };
        let event = Event::presence(EventKind::Status, &presence, Timestamp::default(), Traceparent::generate());
        if let Ok(frame) = Utf8Bytes::try_from(event.frame) {
            self.hub.presence_read(presence.user_id, presence.version, &frame);
        }
    }

    /// The channel, if it has to be read again.
    async fn read_channel(&self, channel: ChannelId) -> Option<ChannelId> {
        match self.service.typing(channel).await {
            Ok(typists) => {
                let frame = |typist: presence::service::Typist| {
                    let since = Timestamp::from_millis(typist.timestamp * 1000);
                    Utf8Bytes::try_from(Event::typing(typist.user_id, channel, since, Traceparent::generate()).frame)
                        .ok()
                };
                let frames: Vec<Utf8Bytes> = typists.into_iter().filter_map(frame).collect();
                self.hub.typing_read(channel, &frames);
                None
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Some(channel),
            Err(error) => {
                tracing::error!(channel_id = %channel, %error, "no snapshot: the channel can't be read");
                None
            }
        }
    }
}

/// A reader who is nobody's self: what is read is for everyone.
const fn nobody() -> UserId {
    UserId::new(Uuid::nil())
}
