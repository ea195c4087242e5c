//! Sending messages so that it is known which ones arrived.

use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::link::{IN_FLIGHT, NatsLink, Transport};
use crate::events::PublishError;

/// How long a send may take, whatever happens, with [`DEADLINE_EACH`] more for each message.
pub(super) const DEADLINE: Duration = Duration::from_millis(1500);
const DEADLINE_EACH: Duration = Duration::from_micros(100);

/// So many messages are sent before their acknowledgements are waited for.
const PIPELINE: usize = 512;
const _: () = assert!(PIPELINE <= IN_FLIGHT);

/// One message to send.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Why a message is not known to have arrived.
#[derive(Debug, Clone)]
enum Failure {
    /// The connection broke while it was under way.
    Broken,
    /// No stream captures its subject.
    NoStream,
    /// No answer in time.
    Silent,
    /// The server or the client library refused it.
    Refused(String),
}

type Outcome = Result<(), Failure>;

impl NatsLink {
    /// Sends the messages in order and says of each whether the server is known to have it: in a stream where it has
    /// JetStream, else in its hands. Ends within [`DEADLINE`] (and [`DEADLINE_EACH`]), and at once while the
    /// connection is known to be down: nothing is left in a buffer to be sent at a later time on purpose. What breaks
    /// under way is tried a second time: a function that was frozen finds its connection dead.
    pub(super) async fn send(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let each = DEADLINE_EACH.saturating_mul(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        let deadline = Instant::now() + DEADLINE + each;
        let mut results = vec![Ok(()); messages.len()];
        let mut open: Vec<usize> = (0..messages.len()).collect();
        for patient in [false, true] {
            let outcomes = match self.transport(deadline, patient).await {
                Ok(transport) => self.send_once(&transport, messages, &open, deadline).await,
                // The second time, the reason of the first stays.
                Err(_) if patient => break,
                Err(reason) => vec![Err(Failure::Refused(reason)); open.len()],
            };
            let mut again = Vec::new();
            for (&index, outcome) in open.iter().zip(&outcomes) {
                results[index] = outcome.clone().map_err(|failure| PublishError(failure.text()));
                if matches!(outcome, Err(Failure::Broken | Failure::NoStream)) {
                    again.push(index);
                }
            }
            if outcomes.iter().any(Result::is_err) {
                self.inspect_soon();
            }
            if again.is_empty() || patient {
                break;
            }
            if outcomes.iter().any(|outcome| matches!(outcome, Err(Failure::NoStream))) {
                self.inspect(deadline).await;
            }
            open = again;
        }
        results
    }

    async fn send_once(
        &self,
        transport: &Transport,
        messages: &[Outgoing],
        open: &[usize],
        deadline: Instant,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(open.len());
        for chunk in open.chunks(PIPELINE) {
            let chunk: Vec<&Outgoing> = chunk.iter().map(|&index| &messages[index]).collect();
            // The others would only wait for the same end.
            let hopeless = outcomes.last().and_then(|outcome| match outcome {
                Err(failure @ (Failure::Broken | Failure::Silent)) => Some(failure.clone()),
                _ => None,
            });
            outcomes.extend(match (hopeless, transport) {
                (Some(failure), _) => vec![Err(failure); chunk.len()],
                (None, Transport::JetStream) => self.to_jetstream(&chunk, deadline).await,
                (None, _) => vec![self.to_whoever_listens(&chunk, deadline).await; chunk.len()],
            });
        }
        outcomes
    }

    /// All are sent before the first acknowledgement is waited for.
    async fn to_jetstream(&self, messages: &[&Outgoing], deadline: Instant) -> Vec<Outcome> {
        let generation = self.generation();
        let received = self.received();
        let places = self.in_flight().acquire_many(messages.len() as u32);
        let Ok(Ok(_places)) = timeout_at(deadline, places).await else {
            return vec![Err(Failure::Silent); messages.len()];
        };
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            let publish = PublishMessage::build().headers(message.headers.clone()).payload(message.payload.clone());
            sent.push(timeout_at(deadline, self.jetstream().send_publish(message.subject.clone(), publish)).await);
        }
        let broken = self.broken(generation).shared();
        let outcomes = join_all(sent.into_iter().map(|sent| {
            let broken = broken.clone();
            async move {
                tokio::select! {
                    biased;
                    outcome = timeout_at(deadline, acknowledged(sent)) => outcome.unwrap_or(Err(Failure::Silent)),
                    () = broken => Err(Failure::Broken),
                }
            }
        }))
        .await;
        let silent = outcomes.iter().any(|outcome| matches!(outcome, Err(Failure::Silent)));
        if silent && self.received() == received {
            // Not a byte came in all that time: the connection is dead and nobody has told us.
            let _ = timeout_at(Instant::now() + DEADLINE, self.client().force_reconnect()).await;
        }
        outcomes
    }

    /// Without JetStream nothing is acknowledged: a message of our own, sent after the others over the same
    /// connection, comes back when the server has taken them.
    async fn to_whoever_listens(&self, messages: &[&Outgoing], deadline: Instant) -> Outcome {
        let generation = self.generation();
        let sending = async {
            for message in messages {
                self.client()
                    .publish_with_headers(message.subject.clone(), message.headers.clone(), message.payload.clone())
                    .await
                    .map_err(|error| Failure::Refused(error.to_string()))?;
            }
            let echo = self.client().new_inbox();
            match self.client().send_request(echo.clone(), Request::new().inbox(echo).timeout(None)).await {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::Refused(error.to_string())),
            }
        };
        tokio::select! {
            biased;
            outcome = timeout_at(deadline, sending) => outcome.unwrap_or(Err(Failure::Silent)),
            () = self.broken(generation) => Err(Failure::Broken),
        }
    }

    /// A measure of what came in over the connection.
    fn received(&self) -> u64 {
        self.client().statistics().in_bytes.load(std::sync::atomic::Ordering::Relaxed)
    }
}

type Sent = Result<Result<PublishAckFuture, async_nats::jetstream::context::PublishError>, tokio::time::error::Elapsed>;

async fn acknowledged(sent: Sent) -> Outcome {
    let acknowledgement = match sent {
        Err(_) => return Err(Failure::Silent),
        Ok(Err(error)) => return Err(Failure::Refused(error.to_string())),
        Ok(Ok(acknowledgement)) => acknowledgement,
    };
    match acknowledgement.await {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            PublishErrorKind::StreamNotFound => Failure::NoStream,
            PublishErrorKind::TimedOut => Failure::Silent,
            PublishErrorKind::BrokenPipe => Failure::Broken,
            _ => Failure::Refused(error.to_string()),
        }),
    }
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Failure::Broken => "the connection to NATS broke".to_owned(),
            Failure::NoStream => "no stream captures the subject".to_owned(),
            Failure::Silent => "NATS did not answer in time".to_owned(),
            Failure::Refused(reason) => reason.clone(),
        }
    }
}
