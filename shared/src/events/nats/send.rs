//! Sending messages so that it is known which ones arrived.

use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Request, Subject};
use bytes::Bytes;
use futures::FutureExt;
use tokio::task::unconstrained;
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
    pub(super) subject: Subject,
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
    /// Sends messages in order and says of each whether the server is known to have it: in a stream where it has
    /// JetStream, else in its hands. Each is made when it is sent. Ends within [`DEADLINE`] (and [`DEADLINE_EACH`]), and
    /// at once while the connection is known to be down: nothing is left in a buffer to be sent at a later time on
    /// purpose. What breaks under way is made and tried a second time: a function that was frozen finds its connection
    /// dead.
    pub(super) async fn send<M: Sync>(
        &self,
        messages: &[M],
        outgoing: impl Fn(&M) -> Outgoing + Sync,
    ) -> Vec<Result<(), PublishError>> {
        let each = DEADLINE_EACH.saturating_mul(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        let deadline = Instant::now() + DEADLINE + each;
        let mut results = vec![Ok(()); messages.len()];
        let mut open: Vec<usize> = (0..messages.len()).collect();
        for patient in [false, true] {
            let outcomes = match self.transport(deadline, patient).await {
                Ok(transport) => {
                    let make = |index: &usize| outgoing(&messages[*index]);
                    self.send_once(&transport, &open, make, deadline).await
                }
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
        open: &[usize],
        make: impl Fn(&usize) -> Outgoing,
        deadline: Instant,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(open.len());
        for chunk in open.chunks(PIPELINE) {
            // The others would only wait for the same end.
            let hopeless = outcomes.last().and_then(|outcome| match outcome {
                Err(failure @ (Failure::Broken | Failure::Silent)) => Some(failure.clone()),
                _ => None,
            });
            let messages = || chunk.iter().map(&make);
            outcomes.extend(match (hopeless, transport) {
                (Some(failure), _) => vec![Err(failure); chunk.len()],
                (None, Transport::JetStream) => self.to_jetstream(messages(), deadline).await,
                (None, _) => vec![self.to_whoever_listens(messages(), deadline).await; chunk.len()],
            });
        }
        outcomes
    }

    /// All are sent before the first acknowledgement is waited for.
    async fn to_jetstream(&self, messages: impl ExactSizeIterator<Item = Outgoing>, deadline: Instant) -> Vec<Outcome> {
        let generation = self.generation();
        let received = self.received();
        let places = self.in_flight().acquire_many(messages.len() as u32);
        let Ok(Ok(_places)) = timeout_at(deadline, places).await else {
            return vec![Err(Failure::Silent); messages.len()];
        };
        let mut sent = Vec::with_capacity(messages.len());
        for Outgoing { subject, headers, payload } in messages {
            let publish = PublishMessage::build().headers(headers).payload(payload);
            sent.push(timeout_at(deadline, self.jetstream().send_publish(subject, publish)).await);
        }
        // They come in the order of the messages, so that one that is waited for in turn is most often there.
        let mut outcomes = Vec::with_capacity(sent.len());
        let mut over = pin!(self.over(generation, deadline));
        let mut ended = None;
        for sent in sent {
            let acknowledged = acknowledged(sent);
            let outcome = match ended.clone() {
                // What came before the end still counts, however much of it is looked at in one go.
                Some(failure) => unconstrained(acknowledged).now_or_never().unwrap_or(Err(failure)),
                None => tokio::select! {
                    biased;
                    outcome = acknowledged => outcome,
                    failure = over.as_mut() => Err(ended.insert(failure).clone()),
                },
            };
            outcomes.push(outcome);
        }
        let silent = outcomes.iter().any(|outcome| matches!(outcome, Err(Failure::Silent)));
        if silent && self.received() == received {
            // Not a byte came in all that time: the connection is dead and nobody has told us.
            let _ = timeout_at(Instant::now() + DEADLINE, self.client().force_reconnect()).await;
        }
        outcomes
    }

    /// Why nothing more is to be waited for, once that is so.
    async fn over(&self, generation: u64, deadline: Instant) -> Failure {
        match timeout_at(deadline, self.broken(generation)).await {
            Ok(()) => Failure::Broken,
            Err(_) => Failure::Silent,
        }
    }

    /// Without JetStream nothing is acknowledged: a message of our own, sent after the others over the same
    /// connection, comes back when the server has taken them.
    async fn to_whoever_listens(&self, messages: impl Iterator<Item = Outgoing>, deadline: Instant) -> Outcome {
        let generation = self.generation();
        let sending = async {
            for Outgoing { subject, headers, payload } in messages {
                self.client()
                    .publish_with_headers(subject, headers, payload)
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
