//! A connection that has identified: its user is told online, kept so by heartbeats, and told gone, whatever happens.

use std::sync::Arc;

use presence::domain::{Intent, Platform, SessionId, UserId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::close::End;
use crate::report::{Report, Reports, What};

/// From the open that is reported when it is made to the close that is reported when it is dropped.
pub(crate) struct Session {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
    platform: Platform,
    reports: Arc<Reports>,
    /// How the connection ended. Broken, as long as nobody knows better.
    pub(crate) end: End,
}

impl Session {
    /// A new session, with an id that no other has.
    pub(crate) fn open(
        reports: Arc<Reports>,
        user_id: UserId,
        platform: Option<Platform>,
        status: Option<Intent>,
    ) -> Self {
        let platform = platform.unwrap_or_default();
        let session_id = unique_id();
        let session = Self { user_id, session_id, platform, reports, end: End::Broken };
        session.report(What::Opened { platform, status });
        session
    }

    /// The client lives.
    pub(crate) fn heartbeat(&self) {
        self.report(What::Heartbeat { platform: self.platform });
    }

    fn report(&self, what: What) {
        let (user_id, session_id) = (self.user_id, self.session_id.clone());
        self.reports.add(Report { user_id, session_id, at: Instant::now(), what });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.report(What::Closed { code: self.end.told_code() });
    }
}

fn unique_id() -> SessionId {
    // 32 hexadecimal digits are a session id.
    Uuid::new_v4().simple().to_string().parse().unwrap_or_else(|_| SessionId::unnamed())
}
