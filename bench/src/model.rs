//! What so many users cost, from the unit costs that were measured.

use std::fmt::Write as _;

use crate::report::{Section, readable};

/// What one of each costs.
pub(crate) struct Costs {
    /// Redis CPU of a heartbeat, in µs.
    pub(crate) heartbeat: f64,
    /// Of a connection opened and told.
    pub(crate) open: f64,
    /// Of one closed and told.
    pub(crate) close: f64,
    /// Of one user in a bulk read.
    pub(crate) read: f64,
    /// Of a status update.
    pub(crate) update: f64,
    /// Of typing.
    pub(crate) typing: f64,
    /// Processor time of the service for a heartbeat, messages of 100, in µs.
    pub(crate) service_heartbeat: f64,
    /// Bytes in Redis for an online user.
    pub(crate) memory: f64,
}

/// What users do, on average: a chat on a busy evening.
pub(crate) struct Habits {
    /// Seconds between two heartbeats of a session.
    pub(crate) interval: f64,
    /// Seconds that a session lasts.
    pub(crate) session: f64,
    /// Seconds between two status updates of a user.
    pub(crate) update: f64,
    /// Seconds between two bulk reads of a user, and how many users one asks for.
    pub(crate) read: f64,
    pub(crate) read_users: f64,
    /// Seconds between two typing indicators of a user.
    pub(crate) typing: f64,
    /// Heartbeats that a gateway tells of in one message.
    pub(crate) message: f64,
}

pub(crate) const HABITS: Habits = Habits {
    interval: 30.0,
    session: 1800.0,
    update: 1200.0,
    read: 300.0,
    read_users: 100.0,
    typing: 120.0,
    message: 100.0,
};

/// What a number of users online does in a second.
pub(crate) struct Rates {
    pub(crate) heartbeats: f64,
    pub(crate) opens: f64,
    pub(crate) closes: f64,
    pub(crate) updates: f64,
    pub(crate) bulk_reads: f64,
    pub(crate) typing: f64,
}

impl Habits {
    pub(crate) fn of(&self, users: f64) -> Rates {
        Rates {
            heartbeats: users / self.interval,
            opens: users / self.session,
            closes: users / self.session,
            updates: users / self.update,
            bulk_reads: users / self.read,
            typing: users / self.typing,
        }
    }
}

/// Prices of Lambda in its first region on arm64, in dollars: a million invocations, and a GB for a second.
const MILLION_INVOCATIONS: f64 = 0.20;
const GB_SECOND: f64 = 0.000_013_333_4;
/// Memory of a function, in GB.
const FUNCTION_GB: f64 = 0.25;
/// What an HTTP request takes, with the round trips within a zone, in ms.
const REQUEST_MS: f64 = 3.0;
const MONTH: f64 = 30.0 * 24.0 * 3600.0;

impl Costs {
    /// From the results; none if some that it needs are not there.
    pub(crate) fn of(sections: &[Section]) -> Option<Self> {
        let section = |name: &str| sections.iter().find(|section| section.name == name);
        // The value of a row and a column, of the first table whose title begins so.
        let value = |name: &str, table: &str, row: &str, column: usize| {
            let table = section(name)?.tables.iter().find(|one| one.title.starts_with(table))?;
            table.rows.iter().find(|one| one.name.starts_with(row))?.values.get(column).copied().flatten()
        };
        const REDIS: usize = 2;
        let durable = section("heartbeats")?.tables.last()?;
        let heartbeat = durable.rows.iter().find(|row| row.name == "ours")?.values.get(REDIS).copied().flatten()?;
        Some(Self {
            heartbeat,
            open: value("opens", "", "ours: opened", REDIS)?,
            close: value("opens", "", "ours: closed", REDIS)?,
            read: value("bulk", "over HTTP", "ours", REDIS)?,
            update: value("updates", "status updates", "ours", REDIS)?,
            typing: value("updates", "typing", "ours", REDIS)?,
            service_heartbeat: section("end-to-end")?.tables.last()?.rows.last()?.values.get(2).copied().flatten()?,
            memory: value("memory", "", "ours", 0)?,
        })
    }

    /// Redis CPU, as a part of one core.
    pub(crate) fn redis(&self, rates: &Rates, habits: &Habits) -> f64 {
        let micros = rates.heartbeats * self.heartbeat
            + rates.opens * self.open
            + rates.closes * self.close
            + rates.bulk_reads * habits.read_users * self.read
            + rates.updates * self.update
            + rates.typing * self.typing;
        micros / 1e6
    }

    /// Messages in and events out a second.
    fn messages(rates: &Rates, habits: &Habits) -> [f64; 2] {
        let inwards = rates.heartbeats / habits.message + rates.opens + rates.closes;
        [inwards, rates.opens + rates.closes + rates.updates + rates.typing]
    }

    /// The tables of the model, for four sizes.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = "| what one costs | |\n| --- | ---: |\n".to_owned();
        for (what, value, unit) in [
            ("heartbeat, Redis CPU", self.heartbeat, "µs"),
            ("connection opened, Redis CPU", self.open, "µs"),
            ("connection closed, Redis CPU", self.close, "µs"),
            ("user in a bulk read, Redis CPU", self.read, "µs"),
            ("status update, Redis CPU", self.update, "µs"),
            ("typing, Redis CPU", self.typing, "µs"),
            ("heartbeat, CPU of the service", self.service_heartbeat, "µs"),
            ("online user, memory in Redis", self.memory, "bytes"),
        ] {
            let _ = writeln!(text, "| {what} | {} {unit} |", readable(value));
        }
        text.push_str("\n| users online | 100 k | 1 M | 10 M | 100 M |\n| --- | ---: | ---: | ---: | ---: |\n");
        let sizes = [1e5, 1e6, 1e7, 1e8];
        let mut line = |what: &str, value: &dyn Fn(f64) -> f64| {
            let cells = sizes.map(|users| readable(value(users)));
            let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
        };
        let rates = |users: f64| HABITS.of(users);
        line("heartbeats a second", &|users| rates(users).heartbeats);
        line("status updates a second", &|users| rates(users).updates);
        line("bulk reads of 100 users a second", &|users| rates(users).bulk_reads);
        line("Redis CPU, cores", &|users| self.redis(&rates(users), &HABITS));
        line("Redis shards at half a core each", &|users| (self.redis(&rates(users), &HABITS) / 0.5).ceil());
        line("Redis memory, GB", &|users| self.memory * users / 1e9);
        line("NATS messages in, a second", &|users| Self::messages(&rates(users), &HABITS)[0]);
        line("NATS events out, a second", &|users| Self::messages(&rates(users), &HABITS)[1]);
        line("service CPU for heartbeats, cores", &|users| rates(users).heartbeats * self.service_heartbeat / 1e6);
        text.push_str("\n| by Lambda: heartbeats in an invocation | 100 k | 1 M | 10 M | 100 M |\n");
        text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
        for batch in [1.0, 100.0, 1000.0, 10_000.0] {
            let cells = sizes.map(|users| {
                let (invocations, dollars) = self.lambda(HABITS.of(users).heartbeats, batch);
                format!("{} a second, {} $ a month", readable(invocations), readable(dollars))
            });
            let _ = writeln!(text, "| {batch} | {} |", cells.join(" | "));
        }
        let cells = sizes.map(|users| {
            let rates = HABITS.of(users);
            let requests = rates.updates + rates.bulk_reads + rates.typing;
            format!("{} a second, {} $ a month", readable(requests), readable(requests * price(REQUEST_MS) * MONTH))
        });
        let _ = writeln!(text, "| HTTP requests, one in an invocation | {} |", cells.join(" | "));
        text
    }

    /// Invocations a second and dollars a month for so many heartbeats a second in batches.
    fn lambda(&self, heartbeats: f64, batch: f64) -> (f64, f64) {
        let invocations = heartbeats / batch;
        // A millisecond of round trips, and the same processor time as in the service; billed by the millisecond.
        let milliseconds = (1.0 + batch * self.service_heartbeat / 1000.0).ceil();
        (invocations, invocations * price(milliseconds) * MONTH)
    }
}

/// Of one invocation, in dollars.
fn price(milliseconds: f64) -> f64 {
    MILLION_INVOCATIONS / 1e6 + GB_SECOND * FUNCTION_GB * milliseconds / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_many_users_cost_twice_as_much() {
        let costs = Costs {
            heartbeat: 5.0,
            open: 40.0,
            close: 40.0,
            read: 2.0,
            update: 60.0,
            typing: 10.0,
            service_heartbeat: 5.0,
            memory: 340.0,
        };
        let redis = |users: f64| costs.redis(&HABITS.of(users), &HABITS);
        assert!((redis(2e6) / redis(1e6) - 2.0).abs() < 1e-9);
        assert!(redis(1e6) > 1e6 / HABITS.interval * costs.heartbeat / 1e6, "heartbeats are not all");
        assert!(costs.lambda(1000.0, 1000.0).1 < costs.lambda(1000.0, 1.0).1, "batches are cheaper");
    }
}
