//! A user joined a voice channel: it becomes their voice activity.

use presence::domain::{ActivityName, InputKind, Invalid};
use presence::events::inputs;

use super::{Element, Subscription};

/// `voice.session.created` → `voice-session-created`.
pub const SUBSCRIPTION: Subscription =
    Subscription { subject: inputs::VOICE_SESSION_CREATED, function: "voice-session-created", input };

/// What the activity is called in a channel without a name.
const UNNAMED: &str = "Voice";

fn input(element: Element) -> Result<InputKind, Invalid> {
    let channel = element.channel_name.as_deref().filter(|name| !name.trim().is_empty());
    let name: ActivityName = channel.unwrap_or(UNNAMED).parse()?;
    Ok(InputKind::VoiceCreated { session_id: element.session_id, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::element;

    fn name(channel_name: &str) -> Result<String, Invalid> {
        let named = element(&format!(r#""session_id":"v","channel_name":{channel_name}"#));
        input(named).map(|kind| match kind {
            InputKind::VoiceCreated { session_id, name } if session_id.as_str() == "v" => name.to_string(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_activity_is_named_after_the_channel() {
        assert_eq!(name(r#""Lounge ☕""#).as_deref(), Ok("Lounge ☕"));
    }

    #[test]
    fn a_channel_without_a_name_is_voice() {
        for nothing in ["null", r#""""#, r#""  \t\n""#] {
            assert_eq!(name(nothing).as_deref(), Ok("Voice"), "{nothing}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_shown_is_refused() {
        assert!(name(&format!(r#""{}""#, "é".repeat(128))).is_ok());
        assert!(name(&format!(r#""{}""#, "é".repeat(129))).is_err());
        assert!(name(r#""two\nlines""#).is_err());
    }
}
