//! A message that this process has taken and not yet settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use presence::domain::Timestamp;
use presence::events::batch::Record;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::users::Users;

/// A message, where it came from, and its part of the room for messages. Shared by the worker and an invocation; the
/// room is given back with the last of them.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) origin: Origin,
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
    pub(crate) users: Users,
    pub(crate) received_at: Instant,
    /// How many bytes count against the limits of a batch.
    size: usize,
    _room: Option<Room>,
}

/// What a record takes besides its payload and its headers.
const OVERHEAD: usize = 256;

/// Where a message came from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// From a stream, which keeps it until it is told what became of it.
    Stream(Delivery),
    /// From nobody who keeps it. The name of its subscription, and its number there.
    Core { subscription: Arc<str>, number: u64 },
}

/// One delivery of a message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The stream.
    pub(crate) stream: Arc<str>,
    /// Which message of the stream.
    pub(crate) sequence: u64,
    /// How often it was delivered, this time included.
    pub(crate) delivered: u64,
    /// When it was published, by the clock of the NATS server.
    pub(crate) published: Timestamp,
    /// Where to say what became of it.
    pub(crate) reply: Subject,
    /// Which life of the stream; a stream that was deleted and made anew counts from 1 again.
    pub(crate) life: u64,
}

impl Delivery {
    /// From the subject for acknowledgements, which has nine parts, or eleven and more with a domain and an account:
    /// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`.
    pub(crate) fn parse(reply: Subject, stream: &Arc<str>, life: u64) -> Option<Self> {
        let parts = reply.strip_prefix("$JS.ACK.")?.split('.').count();
        let skipped = if parts == 7 { 0 } else { 2 };
        let mut tokens = reply.split('.').skip(2 + skipped + 2);
        let mut number = || tokens.next()?.parse::<u64>().ok();
        let (delivered, sequence, _, nanos) = (number()?, number()?, number()?, number()?);
        let published = Timestamp::from_millis(i64::try_from(nanos / 1_000_000).ok()?);
        Some(Self { stream: stream.clone(), sequence, delivered, published, reply, life })
    }
}

impl Held {
    /// A message as it came just now.
    pub(crate) fn new(origin: Origin, message: async_nats::Message, room: Option<Room>) -> Self {
        let async_nats::Message { subject, headers, payload, .. } = message;
        let values = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len()).sum::<usize>()
        };
        let size = OVERHEAD + payload.len() + headers.iter().flat_map(HeaderMap::iter).map(values).sum::<usize>();
        let users = Users::of(&payload);
        Self { origin, subject, headers, payload, users, received_at: Instant::now(), size, _room: room }
    }

    /// How many bytes count against the limits of a batch.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The same whenever this message comes, and no other's.
    pub(crate) fn message_id(&self) -> String {
        match &self.origin {
            Origin::Stream(delivery) => format!("{}:{}", delivery.stream, delivery.sequence),
            Origin::Core { subscription, number } => format!("{subscription}-{number}"),
        }
    }

    /// Its number among those of its origin.
    pub(crate) fn number(&self) -> u64 {
        match &self.origin {
            Origin::Stream(delivery) => delivery.sequence,
            Origin::Core { number, .. } => *number,
        }
    }

    /// How often it has come, this time included; `attempts` were counted here.
    pub(crate) fn delivered(&self, attempts: u32) -> u64 {
        match &self.origin {
            Origin::Stream(delivery) => delivery.delivered,
            Origin::Core { .. } => u64::from(attempts) + 1,
        }
    }

    /// As the function gets it.
    pub(crate) fn record(&self, timestamp: Timestamp, attempts: u32) -> Record {
        Record {
            message_id: self.message_id(),
            subject: self.subject.to_string(),
            data: self.payload.clone(),
            headers: headers(self.headers.as_ref()),
            num_delivered: self.delivered(attempts),
            timestamp: Some(timestamp),
        }
    }
}

fn headers(map: Option<&HeaderMap>) -> BTreeMap<String, Vec<String>> {
    let values = |values: &Vec<async_nats::HeaderValue>| values.iter().map(|value| value.to_string()).collect();
    map.into_iter().flat_map(HeaderMap::iter).map(|(name, all)| (name.to_string(), values(all))).collect()
}

/// A part of the room for messages: so many of them, and so many bytes.
#[derive(Debug)]
pub(crate) struct Room {
    messages: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// The room for messages of one subscription. Whatever happens, no more are held.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Rooms {
    /// Room for so many messages and bytes.
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        Self { messages: Arc::new(Semaphore::new(messages)), bytes: Arc::new(Semaphore::new(bytes)) }
    }

    /// Waits for room. Fails only if there never will be.
    pub(crate) async fn take(&self, messages: u32, bytes: u32) -> Result<Room, AcquireError> {
        let messages = self.messages.clone().acquire_many_owned(messages).await?;
        let bytes = self.bytes.clone().acquire_many_owned(bytes).await?;
        Ok(Room { messages, bytes })
    }
}

impl Room {
    /// How many messages fit in.
    pub(crate) fn messages(&self) -> usize {
        self.messages.num_permits()
    }

    /// How many bytes fit in.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.num_permits()
    }

    /// The part for one message of that many bytes; none if no message fits in. What is larger than the rest gets the
    /// rest.
    pub(crate) fn split(&mut self, bytes: usize) -> Option<Room> {
        let messages = self.messages.split(1)?;
        let bytes = self.bytes.split(bytes.min(self.bytes.num_permits()))?;
        Some(Room { messages, bytes })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A message of a stream.
    pub(crate) fn held(sequence: u64, payload: impl Into<Bytes>) -> Arc<Held> {
        let reply = Subject::from(format!("$JS.ACK.S.C.1.{sequence}.{sequence}.1704110400007000000.0"));
        let origin = Origin::Stream(Delivery::parse(reply, &Arc::from("S"), 1).unwrap());
        let message = async_nats::Message {
            subject: "a.b".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Arc::new(Held::new(origin, message, None))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::held;
    use super::*;

    #[test]
    fn a_delivery_is_read_from_its_reply_subject_old_and_new() {
        let stream: Arc<str> = Arc::from("S");
        for reply in [
            "$JS.ACK.S.C.3.17.21.1704110400007999999.5",
            "$JS.ACK.hub.account.S.C.3.17.21.1704110400007999999.5.token",
            "$JS.ACK._.account.S.C.3.17.21.1704110400007999999.5.token.more",
        ] {
            let delivery = Delivery::parse(reply.into(), &stream, 1).unwrap();
            assert_eq!((delivery.delivered, delivery.sequence), (3, 17), "{reply}");
            assert_eq!(delivery.published.millis(), 1_704_110_400_007, "{reply}");
        }
        for bad in ["", "$JS.ACK", "$JS.ACK.S.C.3.x.21.1.5", "_INBOX.a.b", "$JS.ACK.S.C.1.2"] {
            assert_eq!(Delivery::parse(bad.into(), &stream, 1), None, "{bad}");
        }
    }

    #[test]
    fn a_record_says_what_came() {
        let mut map = HeaderMap::new();
        map.append("k", "v");
        map.append("k", "w");
        let mut message = Arc::into_inner(held(17, "{}")).unwrap();
        message.headers = Some(map);
        let record = message.record(Timestamp::from_millis(5), 0);
        assert_eq!((record.message_id.as_str(), record.num_delivered), ("S:17", 1));
        assert_eq!(record.headers["k"], ["v", "w"]);
        assert_eq!((record.timestamp, &record.data[..]), (Some(Timestamp::from_millis(5)), &b"{}"[..]));
    }

    #[tokio::test]
    async fn no_more_is_held_than_there_is_room_for() {
        let rooms = Rooms::new(2, 10);
        let mut room = rooms.take(2, 10).await.unwrap();
        let one = room.split(7).unwrap();
        let large = room.split(7).unwrap();
        assert_eq!((one.bytes(), large.bytes(), room.messages(), room.bytes()), (7, 3, 0, 0));
        assert!(room.split(0).is_none());
        drop(one);
        let again = rooms.take(1, 7).await.unwrap();
        assert_eq!((again.messages(), again.bytes()), (1, 7));
        assert!(futures::FutureExt::now_or_never(rooms.take(1, 1)).is_none(), "there is none left");
    }
}
