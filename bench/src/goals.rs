//! What is to be reached, and what was found.

use std::fmt::Write as _;

use crate::report::{Finding, Section, readable};

/// A number to reach.
pub(crate) struct Goal {
    id: &'static str,
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    /// What the peer is, if one can be replayed or was measured on such a machine.
    peer: &'static str,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

#[rustfmt::skip]
const GOALS: [Goal; 20] = [
    goal("heartbeat-cpu", "heartbeat in the store, Redis CPU", AtMost(3.5), "µs", "`SET EX`"),
    goal("heartbeat-rate", "heartbeat in the store, part of the raw rate", AtLeast(0.7), "", "Centrifugo's script"),
    goal("end-to-end-100", "heartbeats from JetStream to Redis, messages of 100", AtLeast(100_000.0), "a second", ""),
    goal("end-to-end-1", "heartbeats from JetStream to Redis, one a message", AtLeast(30_000.0), "a second", ""),
    goal("end-to-end-flat", "the same from the fewest to the most users online", AtMost(20.0), "% of change", ""),
    goal("bulk-store", "bulk read in the store, part of the raw rate", AtLeast(0.8), "", "`MGET` of 1000"),
    goal("bulk-http", "bulk read over HTTP, 1000 ids", AtLeast(200_000.0), "users a second", ""),
    goal("read-http", "single read over HTTP, part of a bare handler's rate", AtLeast(0.8), "", ""),
    goal("set-http", "status update over HTTP", AtLeast(8_000.0), "a second", "Synapse"),
    goal("typing-http", "typing over HTTP", AtLeast(20_000.0), "a second", "Synapse"),
    goal("event-latency", "status update to event at a subscriber, 1000 a second, p99", AtMost(5.0), "ms", ""),
    goal("opens", "connections opened, stored and told", AtLeast(30_000.0), "a second", "Stoat"),
    goal("sweep-rate", "sweep with events published", AtLeast(50_000.0), "users a second", ""),
    goal("sweep-vanish", "100,000 vanish at once: last event after its deadline", AtMost(3.0), "s", ""),
    goal("sweep-idle", "a tick with everyone online and none due", AtMost(1.0), "ms", "`SCAN` sweep"),
    goal("memory", "memory in Redis, an online user", AtMost(450.0), "bytes", "Centrifugo"),
    goal("function-start", "function: process start to first answer, p50", AtMost(5.5), "ms", ""),
    goal("function-start-tls", "the same with TLS to the store, p50", AtMost(8.0), "ms", ""),
    goal("function-warm", "function, warm: over the raw round trips, p50", AtMost(40.0), "µs", ""),
    goal("service-memory", "memory of the service with the most users online", AtMost(64.0), "MB", ""),
];

const fn goal(id: &'static str, what: &'static str, bound: Bound, unit: &'static str, peer: &'static str) -> Goal {
    Goal { id, what, bound, unit, peer }
}

/// The table of goals, with what the sections found, for a page that says why some are missed.
pub(crate) fn table(sections: &[Section], page: &str) -> String {
    let mut text = "| | goal | ours | limit | ours / limit | a peer | |\n".to_owned();
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
    let findings: Vec<&Finding> = sections.iter().flat_map(|section| &section.findings).collect();
    for goal in &GOALS {
        let found = findings.iter().find(|finding| finding.goal == goal.id);
        let (sign, bound) = match goal.bound {
            AtMost(bound) => ("≤", bound),
            AtLeast(bound) => ("≥", bound),
        };
        let optional = |value: Option<f64>| value.map_or_else(String::new, readable);
        let ours = found.map(|found| found.ours);
        let limit = found.and_then(|found| found.limit);
        let ratio = ours.zip(limit).map(|(ours, limit)| ours / limit);
        let peer = match found.and_then(|found| found.peer) {
            Some(peer) => format!("{}: {}", goal.peer, readable(peer)),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "| {} | {sign} {} {} | {} | {} | {} | {peer} | {} |",
            goal.what,
            readable(bound),
            goal.unit,
            optional(ours),
            optional(limit),
            optional(ratio),
            goal.verdict(found.copied(), page),
        );
    }
    text
}

impl Goal {
    fn verdict(&self, found: Option<&Finding>, page: &str) -> String {
        let Some(found) = found else { return "not measured here".to_owned() };
        if self.is_met_by(found.ours) {
            return "reached".to_owned();
        }
        let allowed = found.allowed.map(|allowed| format!("; two free cores allow {}", readable(allowed)));
        let why = if has_a_reason(page, self.id) { "why, below" } else { "not yet known why" };
        format!("**missed** (`{}`: {why}){}", self.id, allowed.unwrap_or_default())
    }

    fn is_met_by(&self, value: f64) -> bool {
        match self.bound {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        }
    }
}

/// Whether the page says why the goal is missed, in a line such as "- `this`, `that`: because". People find that out.
fn has_a_reason(page: &str, goal: &str) -> bool {
    let ids = page.lines().filter_map(|line| Some(line.strip_prefix("- `")?.split_once("`: ")?.0));
    ids.flat_map(|ids| ids.split("`, `")).any(|id| id == goal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "- `opens`, `sweep-rate`: the road of a change.\nother `memory`: text";

    #[test]
    fn a_missed_goal_says_whether_the_page_knows_why() {
        let opens = Finding { goal: "opens".to_owned(), ours: 1.0, limit: None, peer: None, allowed: Some(2.0) };
        let goal = |id: &str| GOALS.iter().find(|goal| goal.id == id).unwrap();
        assert_eq!(
            goal("opens").verdict(Some(&opens), PAGE),
            "**missed** (`opens`: why, below); two free cores allow 2"
        );
        assert!(has_a_reason(PAGE, "sweep-rate"));
        assert!(!has_a_reason(PAGE, "memory"));
        let memory = Finding { goal: "memory".to_owned(), ours: 400.0, limit: None, peer: None, allowed: None };
        assert_eq!(goal("memory").verdict(Some(&memory), PAGE), "reached");
        assert_eq!(goal("memory").verdict(None, PAGE), "not measured here");
    }
}
