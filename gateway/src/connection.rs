//! One connection, from its first frame to its last. One task does all of it: it reads, it writes what waits in the
//! outbox, and it looks at the clock; nothing of it waits for anyone else without a limit.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use presence::auth::AuthError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::Limits;
use crate::close::{Close, End};
use crate::frame::{self, Identify, Incoming};
use crate::gateway::Shared;
use crate::hub::Listener;
use crate::outbox::{Outbox, Overflow};
use crate::rate::RateLimit;
use crate::session::Session;

/// What a connection reads at a time. Most frames of clients are far smaller.
const READ_BUFFER: usize = 1024;
/// From how many bytes on a frame is written without waiting for the next.
const WRITE_BUFFER: usize = 4 * 1024;
/// So many frames are written before it is looked whether the client takes them.
const FLUSH_EVERY: usize = 32;
/// How long a client may take to take a close frame.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long, and how much, is read on after that: closing a socket with unread bytes would make the network throw the
/// close frame away.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Serves a connection to its end.
pub(crate) async fn serve(io: TokioIo<Upgraded>, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let outbox = Arc::new(Outbox::new(limits));
    outbox.push(shared.hello.clone());
    let connection = Connection {
        socket,
        rate: RateLimit::new(Limits::FRAMES, Limits::WINDOW),
        alarm: Box::pin(sleep(limits.identify_time)),
        identified: None,
        outbox,
        shared: shared.clone(),
    };
    connection.run().await;
}

struct Connection {
    shared: Arc<Shared>,
    socket: Socket,
    outbox: Arc<Outbox>,
    rate: RateLimit,
    /// When the client is out of time: to identify, and then for its next heartbeat.
    alarm: Pin<Box<Sleep>>,
    identified: Option<Identified>,
}

/// What a connection has once its client is known.
struct Identified {
    session: Session,
    listener: Listener,
}

impl Connection {
    async fn run(mut self) {
        let end = self.converse().await;
        metrics::counter!("presence_gateway_closed_total", "code" => end.label()).increment(1);
        if let Some(Identified { mut session, listener }) = self.identified.take() {
            tracing::debug!(user_id = %session.user_id, session_id = %session.session_id, ?end, "connection ended");
            drop(listener);
            // Told before the client is seen off, which may take a moment.
            session.end = end;
        }
        match end {
            End::Ours(close) => see_off(self.socket, close).await,
            // The answer to the client's close frame waits to be written, and then there is nothing more to read.
            End::Theirs(_) => drop(timeout(CLOSE_TIME, self.socket.next()).await),
            End::Broken => {}
        }
    }

    /// Until it ends, and how.
    async fn converse(&mut self) -> End {
        loop {
            let step = tokio::select! {
                () = self.shared.shutdown.cancelled() => Err(End::Ours(Close::GOING_AWAY)),
                () = &mut self.alarm => Err(End::Ours(self.out_of_time())),
                frames = self.outbox.take() => match frames {
                    Ok(frames) => self.write(frames).await,
                    Err(Overflow) => Err(End::Ours(Close::TOO_SLOW)),
                },
                message = self.socket.next() => self.hear(message).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn out_of_time(&self) -> Close {
        if self.identified.is_some() { Close::TIMED_OUT } else { Close::NEVER_IDENTIFIED }
    }

    /// Writes frames as fast as the client takes them, with a limit on each step.
    async fn write(&mut self, mut frames: VecDeque<Utf8Bytes>) -> Result<(), End> {
        metrics::counter!("presence_gateway_frames_sent_total").increment(frames.len() as u64);
        let write_time = self.shared.limits.write_time;
        while !frames.is_empty() {
            let socket = &mut self.socket;
            let some = async {
                for frame in frames.drain(..frames.len().min(FLUSH_EVERY)) {
                    socket.feed(Message::Text(frame)).await?;
                }
                socket.flush().await
            };
            tokio::select! {
                written = timeout(write_time, some) => match written {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(end_of(&error)),
                    Err(_) => return Err(End::Ours(Close::TOO_SLOW)),
                },
                Overflow = self.outbox.overflow() => return Err(End::Ours(Close::TOO_SLOW)),
                () = self.shared.shutdown.cancelled() => return Err(End::Ours(Close::GOING_AWAY)),
            }
        }
        Ok(())
    }

    async fn hear(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(end_of(&error)),
            None => return Err(End::Broken),
        };
        if let Message::Close(frame) = &message {
            return Err(End::Theirs(frame.as_ref().map(|frame| frame.code.into())));
        }
        if !self.rate.take(Instant::now()) {
            return Err(End::Ours(Close::RATE_LIMITED));
        }
        match message {
            Message::Text(text) => self.obey(&text).await.map_err(End::Ours),
            Message::Binary(_) => Err(End::Ours(Close::decode("frames are JSON text, not binary"))),
            // Pings are answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn obey(&mut self, text: &str) -> Result<(), Close> {
        match (Incoming::read(text)?, &mut self.identified) {
            (Incoming::Heartbeat, identified) => {
                if let Some(Identified { session, .. }) = identified {
                    session.heartbeat();
                    self.alarm.as_mut().reset(Instant::now() + self.shared.heartbeat_timeout);
                }
                self.outbox.push(frame::HEARTBEAT_ACK);
                Ok(())
            }
            (Incoming::Identify(identify), None) => self.identify(identify).await,
            (Incoming::Identify(_), Some(_)) => Err(Close::decode("already identified")),
            (Incoming::Subscribe(subscribe), Some(Identified { listener, .. })) => {
                listener.subscribe(subscribe);
                Ok(())
            }
            (Incoming::Subscribe(_), None) => Err(Close::NOT_AUTHENTICATED),
        }
    }

    async fn identify(&mut self, identify: Identify) -> Result<(), Close> {
        let authorization = format!("Bearer {}", identify.token);
        let user_id = match self.shared.authenticator.authenticate(Some(authorization.as_bytes())).await {
            Ok(user_id) => user_id,
            Err(AuthError::Missing | AuthError::Invalid(_)) => return Err(Close::AUTHENTICATION_FAILED),
            Err(AuthError::Unavailable) => return Err(Close::TRY_AGAIN),
        };
        let session = Session::open(self.shared.reports.clone(), user_id, identify.platform, identify.status);
        tracing::debug!(%user_id, session_id = %session.session_id, "connection identified");
        self.alarm.as_mut().reset(Instant::now() + self.shared.heartbeat_timeout);
        self.outbox.push(frame::ready(&session.session_id, user_id));
        let listener = self.shared.hub.listener(self.outbox.clone());
        self.identified = Some(Identified { session, listener });
        Ok(())
    }
}

/// How a connection ends whose socket fails: what the client did wrong it is told.
fn end_of(error: &tungstenite::Error) -> End {
    use tungstenite::Error;
    match error {
        Error::Capacity(_) => End::Ours(Close::TOO_LARGE),
        Error::Utf8(_) => End::Ours(Close::NOT_UTF8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Broken,
        Error::Protocol(_) => End::Ours(Close::PROTOCOL),
        _ => End::Broken,
    }
}

/// Sends the close frame, and sees to it that it arrives: ends the sending side, then reads on until the client has
/// ended its own, within limits.
async fn see_off(mut socket: Socket, close: Close) {
    let frame = CloseFrame { code: close.code.into(), reason: Utf8Bytes::from_static(close.reason) };
    let sent = timeout(CLOSE_TIME, socket.send(Message::Close(Some(frame)))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return;
    }
    let mut io = socket.into_inner();
    let ending = async {
        io.shutdown().await?;
        let (mut scratch, mut read) = ([0; 1024], 0);
        while read < LINGER_BYTES {
            match io.read(&mut scratch).await? {
                0 => break,
                bytes => read += bytes,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // The client got all the chances that it gets.
    drop(timeout(LINGER_TIME, ending).await);
}
