//! A user left a voice channel: their voice activity ends, if it is that session's.

use presence::domain::{InputKind, Invalid};
use presence::events::inputs;

use super::{Element, Subscription};

/// `voice.session.ended` → `voice-session-ended`.
pub const SUBSCRIPTION: Subscription =
    Subscription { subject: inputs::VOICE_SESSION_ENDED, function: "voice-session-ended", input };

fn input(element: Element) -> Result<InputKind, Invalid> {
    Ok(InputKind::VoiceEnded { session_id: element.session_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::element;

    #[test]
    fn it_ends_the_voice_session_that_it_names() {
        let ended = InputKind::VoiceEnded { session_id: "v".parse().unwrap() };
        assert_eq!(input(element(r#""session_id":"v""#)), Ok(ended));
    }
}
