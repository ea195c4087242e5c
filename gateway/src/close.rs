//! How connections end: the close codes of the protocol, and what is told of each end.

/// Why the gateway closes a connection: a code and a few words for whoever debugs the client. The codes from 4000 on
/// are the protocol's own, the others are those of RFC 6455 and its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Close {
    pub(crate) const GOING_AWAY: Close = Close::new(1001, "the gateway is going away; connect again");
    pub(crate) const PROTOCOL: Close = Close::new(1002, "not the WebSocket protocol");
    pub(crate) const NOT_UTF8: Close = Close::new(1007, "a text frame is not UTF-8");
    pub(crate) const TOO_SLOW: Close = Close::new(1008, "frames are not read as fast as they come");
    pub(crate) const TOO_LARGE: Close = Close::new(1009, "the frame is too large");
    pub(crate) const TRY_AGAIN: Close = Close::new(1013, "tokens cannot be checked now; connect again");
    pub(crate) const UNKNOWN_OP: Close = Close::new(4001, "unknown op");
    pub(crate) const NEVER_IDENTIFIED: Close = Close::new(4003, "not authenticated in time");
    pub(crate) const NOT_AUTHENTICATED: Close = Close::new(4003, "not authenticated: identify first");
    pub(crate) const AUTHENTICATION_FAILED: Close = Close::new(4004, "the token proves nothing");
    pub(crate) const RATE_LIMITED: Close = Close::new(4008, "too many frames");
    pub(crate) const TIMED_OUT: Close = Close::new(4009, "no heartbeat in time");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// A frame that can't be read: 4002.
    pub(crate) const fn decode(reason: &'static str) -> Self {
        Self::new(4002, reason)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The gateway closed it.
    Ours(Close),
    /// The client closed it, with a code or without one.
    Theirs(Option<u16>),
    /// It broke without a close frame.
    Broken,
}

/// "Abnormal closure", which no frame carries.
const ABNORMAL: u16 = 1006;

/// "Service restart". Told instead of [`Close::GOING_AWAY`]: the client did not leave and will be back in a moment, so
/// that its session lingers and nobody sees the user go.
const RESTART: u16 = 1012;

impl End {
    /// The `close_code` that is told of it; none for a client that left without giving one.
    pub(crate) fn told_code(self) -> Option<u16> {
        match self {
            End::Ours(Close::GOING_AWAY) => Some(RESTART),
            End::Ours(close) => Some(close.code),
            End::Theirs(code) => code,
            End::Broken => Some(ABNORMAL),
        }
    }

    /// The label under which it is counted.
    pub(crate) fn label(self) -> String {
        match self {
            End::Ours(close) => close.code.to_string(),
            End::Theirs(_) => "client".to_owned(),
            End::Broken => ABNORMAL.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_control_frame() {
        for close in [
            Close::GOING_AWAY,
            Close::PROTOCOL,
            Close::NOT_UTF8,
            Close::TOO_SLOW,
            Close::TOO_LARGE,
            Close::TRY_AGAIN,
            Close::UNKNOWN_OP,
            Close::NEVER_IDENTIFIED,
            Close::NOT_AUTHENTICATED,
            Close::AUTHENTICATION_FAILED,
            Close::RATE_LIMITED,
            Close::TIMED_OUT,
        ] {
            assert!(close.reason.len() <= 123, "{close:?}");
        }
    }

    #[test]
    fn only_a_client_that_leaves_is_told_as_one() {
        assert_eq!(End::Theirs(None).told_code(), None);
        assert_eq!(End::Theirs(Some(1001)).told_code(), Some(1001));
        assert_eq!(End::Broken.told_code(), Some(1006));
        assert_eq!(End::Ours(Close::TIMED_OUT).told_code(), Some(4009));
        assert_eq!(End::Ours(Close::GOING_AWAY).told_code(), Some(1012), "the user did not leave");
    }
}
