//! A life in words, for whoever has to find out why a rule was broken.

use serde_json::Value;

use super::{Life, Outcome};

impl Life {
    /// What was done, told and seen, a line each in the order of time; what is read again is left out. Times are in
    /// milliseconds since the epoch.
    pub fn story(&self) -> String {
        let mut lines = Vec::new();
        for update in &self.updates {
            let outcome = match &update.outcome {
                Outcome::Done(presence) => look(presence),
                Outcome::Refused => "refused".to_owned(),
                Outcome::Unknown => "no answer".to_owned(),
            };
            lines.push((update.ended, format!("update since {}: {} -> {outcome}", update.began, update.body)));
        }
        lines.extend(self.signs.iter().map(|sign| (sign.at, "a sign of life".to_owned())));
        for told in &self.told {
            lines.push((told.at, format!("told {}: {}", told.id, look(&told.presence))));
        }
        let mut last = String::new();
        for read in &self.reads {
            let look = look(&read.presence);
            if look != last {
                lines.push((read.ended, format!("read since {}: {look}", read.began)));
                last = look;
            }
        }
        lines.sort();
        lines.iter().map(|(at, line)| format!("{at} {line}\n")).collect()
    }
}

fn look(presence: &Value) -> String {
    let own = &presence["own"]["intent"];
    format!(
        "{} {} {} {} (own {own})",
        presence["version"], presence["status"], presence["custom_status"], presence["client_status"]
    )
}
