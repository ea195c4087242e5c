//! What waits to be sent to one client: bounded, so that a client that does not read costs itself and nobody else.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::Limits;

/// Frames on their way from anyone to the task of a connection. A frame is shared by all who get it.
#[derive(Debug)]
pub(crate) struct Outbox {
    most_frames: usize,
    most_bytes: usize,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflowed: bool,
}

/// More waited than may: the client is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most_frames: limits.queued_frames,
            most_bytes: limits.queued_bytes,
            waiting: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a frame; never waits. One too many makes the outbox useless for good.
    pub(crate) fn push(&self, frame: Utf8Bytes) {
        let mut waiting = self.waiting();
        if waiting.overflowed {
            return;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        if waiting.frames.len() > self.most_frames || waiting.bytes > self.most_bytes {
            *waiting = Waiting { overflowed: true, ..Waiting::default() };
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits until there is something to send, and takes all of it.
    pub(crate) async fn take(&self) -> Result<VecDeque<Utf8Bytes>, Overflow> {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.overflowed {
                    return Err(Overflow);
                }
                if !waiting.frames.is_empty() {
                    waiting.bytes = 0;
                    return Ok(std::mem::take(&mut waiting.frames));
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits for the overflow alone.
    pub(crate) async fn overflow(&self) -> Overflow {
        while !self.waiting().overflowed {
            self.changed.notified().await;
        }
        Overflow
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn outbox(queued_frames: usize, queued_bytes: usize) -> Outbox {
        Outbox::new(&Limits { queued_frames, queued_bytes, ..Limits::default() })
    }

    #[tokio::test]
    async fn everything_that_waits_is_taken_at_once_and_in_order() {
        let outbox = outbox(10, 1000);
        assert!(outbox.take().now_or_never().is_none());
        outbox.push("one".into());
        outbox.push("two".into());
        assert_eq!(outbox.take().await, Ok(VecDeque::from(["one".into(), "two".into()])));
        assert!(outbox.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_frame_too_many_is_the_end() {
        let outbox = outbox(2, 1000);
        outbox.push("one".into());
        outbox.push("two".into());
        assert!(outbox.overflow().now_or_never().is_none());
        outbox.push("three".into());
        assert_eq!(outbox.overflow().await, Overflow);
        outbox.push("four".into());
        assert_eq!(outbox.take().await, Err(Overflow));
    }

    #[tokio::test]
    async fn bytes_count_too_and_count_anew_once_they_are_taken() {
        let outbox = outbox(10, 6);
        outbox.push("12345".into());
        assert!(outbox.take().await.is_ok());
        outbox.push("12345".into());
        assert!(outbox.overflow().now_or_never().is_none());
        outbox.push("67".into());
        assert_eq!(outbox.take().await, Err(Overflow));
    }
}
