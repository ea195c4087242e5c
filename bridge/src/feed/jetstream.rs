//! Messages from a durable pull consumer. One request is open at a time, for as much as there is room: what is pulled
//! is what can be held.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures::{FutureExt, StreamExt};
use presence::events::nats::INPUT_STREAM;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{End, Feeder, LOOK, consumer};
use crate::held::{Delivery, Held, Origin, Room};

/// How long a request stays open. Short, because a shutdown waits for its end: what the server sends for it must not
/// get lost on the way.
const EXPIRES: Duration = Duration::from_secs(1);
/// How much later than that the server's word may come.
const GRACE: Duration = Duration::from_secs(2);
/// How often the consumer is looked at while all goes well, for the number up to which all is settled.
const INSPECT_INTERVAL: Duration = Duration::from_secs(15);

/// A consumer in use.
struct Pull {
    stream: Arc<str>,
    life: u64,
    /// Answers come here; each request has a subject of its own below it.
    inbox: String,
    answers: Subscriber,
    requests: u64,
}

/// How a request ended.
enum Answered {
    /// As it should: it is filled, or its time is over.
    Fully,
    Not(End),
}

impl Feeder {
    /// Until the shutdown, or until something has to be looked at anew.
    pub(super) async fn feed_from_stream(&mut self) -> End {
        let shutdown = self.shutdown.clone();
        if shutdown.run_until_cancelled(self.times.known()).await.is_none() {
            return End::Shutdown;
        }
        let (rooms, bytes) = self.rooms();
        let messages = self.mapping.options.batch_size.max(1);
        loop {
            let connection = self.connection();
            let mut pull = match self.start().await {
                Ok(pull) => pull,
                Err(reason) => return End::Trouble(reason),
            };
            let inspect_at = Instant::now() + INSPECT_INTERVAL;
            while Instant::now() < inspect_at {
                let room = rooms.take(as_u32(messages), as_u32(bytes));
                let Some(Ok(room)) = shutdown.run_until_cancelled(room).await else { return End::Shutdown };
                match self.pull(&mut pull, room, connection).await {
                    Answered::Fully => {}
                    Answered::Not(end) => return end,
                }
                if shutdown.is_cancelled() {
                    return End::Shutdown;
                }
            }
        }
    }

    /// Looks at the consumer and prepares a place for answers.
    async fn start(&mut self) -> Result<Pull, String> {
        let jetstream = self.link.jetstream();
        let usable = consumer::look(jetstream, &self.mapping, self.consumers, self.memory.settled).await?;
        if usable.notes != self.memory.notes {
            usable.notes.iter().for_each(|note| tracing::warn!("{note}"));
            self.memory.notes = usable.notes;
        }
        self.memory.settled = Some((usable.life, usable.floor));
        self.acks.set_life(usable.life);
        self.ack_wait.set(usable.ack_wait);
        let client = self.link.client();
        let inbox = client.new_inbox();
        let subscribing = timeout(GRACE, client.subscribe(format!("{inbox}.*"))).await;
        let answers = match subscribing {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("NATS takes no subscription".to_owned()),
        };
        self.is_in_place("consumer");
        Ok(Pull { stream: Arc::from(INPUT_STREAM), life: usable.life, inbox, answers, requests: 0 })
    }

    /// Asks for as many messages as there is room for, and passes them on until the server says that there are no more
    /// for this request.
    async fn pull(&self, pull: &mut Pull, mut room: Room, connection: u64) -> Answered {
        pull.requests += 1;
        let reply = format!("{}.{}", pull.inbox, pull.requests);
        let request = json!({
            "batch": room.messages(),
            "max_bytes": room.bytes(),
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{INPUT_STREAM}.{}", self.mapping.function);
        let client = self.link.client();
        let sending = client.publish_with_reply(subject, reply.clone(), request.to_string().into());
        match timeout(GRACE, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Answered::Not(End::Trouble(error.to_string())),
            Err(_) => return Answered::Not(End::Changed),
        }
        let deadline = Instant::now() + EXPIRES + GRACE;
        while room.messages() > 0 {
            let next = match pull.answers.next().now_or_never() {
                Some(next) => Ok(next),
                None => timeout(LOOK, pull.answers.next()).await,
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => return Answered::Not(End::Trouble("the connection to NATS is closed".to_owned())),
                // A request is answered only over the connection over which it was made.
                Err(_) if self.connection() != connection => return Answered::Not(End::Changed),
                Err(_) if Instant::now() >= deadline => {
                    return Answered::Not(End::Trouble("the consumer does not answer".to_owned()));
                }
                Err(_) => continue,
            };
            match message.status {
                None | Some(StatusCode::OK) => {
                    if let Some(end) = self.pass_on(pull, &mut room, message).await {
                        return Answered::Not(end);
                    }
                }
                // About an earlier request that was filled in the same moment.
                Some(_) if message.subject.as_str() != reply => {}
                Some(status) => return ended(status, message.description.as_deref().unwrap_or_default()),
            }
        }
        Answered::Fully
    }

    async fn pass_on(&self, pull: &Pull, room: &mut Room, mut message: Message) -> Option<End> {
        let Some(delivery) = message.reply.take().and_then(|reply| Delivery::parse(reply, &pull.stream, pull.life))
        else {
            tracing::debug!("something came that is no delivery");
            return None;
        };
        let room = room.split(message.length)?;
        let held = Held::new(Origin::Stream(delivery), message, Some(room));
        self.to_worker.send(held).await.is_err().then_some(End::Shutdown)
    }
}

/// What the server says at the end of a request.
fn ended(status: StatusCode, description: &str) -> Answered {
    let is_full = ["Message Size Exceeds MaxBytes", "Batch Completed"].contains(&description);
    match status {
        StatusCode::TIMEOUT | StatusCode::NOT_FOUND => Answered::Fully,
        StatusCode::REQUEST_TERMINATED if is_full => Answered::Fully,
        // The consumer is gone or moves to another server.
        StatusCode::REQUEST_TERMINATED | StatusCode::NO_RESPONDERS => Answered::Not(End::Changed),
        _ => Answered::Not(End::Trouble(format!("the consumer answers {status} {description}"))),
    }
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
