//! HTTP/1.1 over TCP for strangers: whatever a client does or does not do, it holds a bounded part of this process for
//! a bounded time, and a shutdown ends.

mod guard;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use presence_functions::http::HttpApp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::guard::{Guarded, Phase};

/// What clients may take from the process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that are served at once.
    pub connections: usize,
    /// Connections beyond those that are told so; any more are closed without a word.
    pub refusals: usize,
    /// How long the head of a request may take from its first byte to its last.
    pub head_time: Duration,
    /// How long a connection may be silent between requests. Longer than a load balancer in front keeps one, or it
    /// would send requests into a connection that is being closed.
    pub idle_time: Duration,
    /// How long a client may take no byte of a response.
    pub write_time: Duration,
    /// How long a shutdown waits for requests in flight.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            refusals: 256,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(10),
            drain_time: Duration::from_secs(15),
        }
    }
}

/// The largest head of a request, in bytes: a token of 8 KB and what a proxy adds.
const HEAD_LIMIT: usize = 32 * 1024;

/// How long to wait after the process ran out of sockets, which only the end of other connections can heal.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers for one listener.
#[derive(Debug, Clone)]
pub struct Server {
    /// Answers the requests, and turns away those on connections beyond the limit.
    pub app: HttpApp,
    /// What clients may take.
    pub limits: Limits,
}

impl Server {
    /// Serves until `shutdown`, then accepts no more, lets what is in flight finish, and returns; after
    /// [`Limits::drain_time`] it returns in any case.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let refusals = Arc::new(Semaphore::new(self.limits.refusals));
        let connections = TaskTracker::new();
        let abandon = CancellationToken::new();
        // Dropped, too, if this future is: then nobody waits for the connections.
        let _abandon_on_return = abandon.clone().drop_guard();

        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_if_exhausted(&error).await;
                    continue;
                }
            };
            let (place, is_refused) = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                (place, false)
            } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                (place, true)
            } else {
                continue;
            };
            let (app, limits, shutdown) = (self.app.clone(), self.limits, shutdown.clone());
            let connection = Connection { app, is_refused, limits, shutdown };
            let served = connection.serve(stream, place);
            let abandon = abandon.clone();
            connections.spawn(async move { abandon.run_until_cancelled(served).await });
        }

        drop(listener);
        connections.close();
        if tokio::time::timeout(self.limits.drain_time, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "gave up requests that did not finish");
        }
    }
}

/// Errors of one connection that ended before it was accepted are nobody's; all others are the process's.
async fn pause_if_exhausted(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

struct Connection {
    app: HttpApp,
    /// Gets one answer and no time to be silent.
    is_refused: bool,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Connection {
    /// Serves one client until it leaves, breaks a limit, or the shutdown lets its last request finish. The place is
    /// given back when the socket closes, which for an upgraded connection is later than this returns.
    async fn serve(self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Only makes small answers slower where it is refused.
        let _ = stream.set_nodelay(true);
        let phase = Phase::default();
        let io = TokioIo::new(Guarded::new(stream, place, phase.clone(), self.limits));
        let (app, is_refused) = (self.app, self.is_refused);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            phase.serving();
            let (app, phase) = (app.clone(), phase.clone());
            async move {
                let request = request.map(Body::new);
                let response = if is_refused { app.turn_away(request).await } else { app.answer(request).await };
                phase.answered(response.status());
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if self.is_refused { self.limits.head_time } else { self.limits.idle_time })
            .max_buf_size(HEAD_LIMIT)
            .keep_alive(!self.is_refused)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // A failed connection is its client's affair.
        match self.shutdown.run_until_cancelled(connection.as_mut()).await {
            Some(result) => drop(result),
            None => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
}
