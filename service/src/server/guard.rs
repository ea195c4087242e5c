//! A socket with a clock: it ends a client that is slow on purpose, and is patient with one that is merely quiet.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::Limits;

/// How long a closed connection is read on, so that a client which is still sending (a body that was refused unread)
/// gets the answer: closing at once would make the network throw it away.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// How many bytes are read on at most.
const LINGER_BYTES: usize = 1024 * 1024;

/// Where a connection is in its conversation; shared by the socket, which sees bytes, and the service, which sees
/// requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// Between requests.
const IDLE: u8 = 0;
/// Some bytes of a request are there.
const HEAD: u8 = 1;
/// A request is being served.
const SERVING: u8 = 2;
/// No longer HTTP. Who upgraded it keeps its time.
const UPGRADED: u8 = 3;

impl Phase {
    /// The head of a request is complete.
    pub(super) fn serving(&self) {
        self.set(SERVING);
    }

    /// The response is known.
    pub(super) fn answered(&self, status: StatusCode) {
        self.set(if status == StatusCode::SWITCHING_PROTOCOLS { UPGRADED } else { IDLE });
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

/// A connection's socket, its place among the connections, and the time that its client has.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    phase: Phase,
    head: Timer,
    write: Timer,
    linger: Timer,
    lingered: usize,
    _place: OwnedSemaphorePermit,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit, phase: Phase, limits: Limits) -> Self {
        Self {
            stream,
            phase,
            head: Timer::new(limits.head_time),
            write: Timer::new(limits.write_time),
            linger: Timer::new(LINGER_TIME),
            lingered: 0,
            _place: place,
        }
    }

    /// Passes on the progress of a write and ends a client that takes nothing.
    fn written<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() || self.phase.is(UPGRADED) {
            self.write.stop();
            return progress;
        }
        ready!(self.write.poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let progress = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before && this.phase.is(IDLE) {
            this.phase.set(HEAD);
        }
        if !this.phase.is(HEAD) {
            this.head.stop();
            return progress;
        }
        // A byte now and then does not prolong the time that the head has.
        if progress.is_pending() && this.head.poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request is too slow")));
        }
        progress
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let mut scratch = [0; 8 * 1024];
        while this.lingered < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => this.lingered += buf.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(this.linger.poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A span of time that begins when it is first asked for and is over once it has passed.
#[derive(Debug)]
struct Timer {
    span: Duration,
    running: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(span: Duration) -> Self {
        Self { span, running: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.span;
        self.running.get_or_insert_with(|| Box::pin(tokio::time::sleep(span))).as_mut().poll(cx)
    }

    fn stop(&mut self) {
        self.running = None;
    }
}
