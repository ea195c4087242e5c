//! From records to inputs, and from what became of the inputs to what becomes of the records. Pure.

use std::ops::Range;
use std::time::Duration;

use presence::domain::{Input, Timestamp};
use presence::events::DeadLetter;
use presence::events::batch::{Batch, Record};
use presence::service::UserInput;
use presence::{Error, ErrorKind};

use super::Subscription;
use super::payload::{self, Element, Payload, Unreadable};

/// A batch that was read: everything that happened to anyone, in the order of the records.
#[derive(Debug)]
pub struct Plan<'a> {
    subscription: Subscription,
    inputs: Vec<UserInput>,
    records: Vec<Planned<'a>>,
    now: Timestamp,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It was processed.
    Done,
    /// It can't be processed, or not all of it: it is done once this letter is kept.
    DeadLetter(DeadLetter),
    /// It may go better the next time.
    Retry,
}

#[derive(Debug)]
struct Planned<'a> {
    record: &'a Record,
    /// Its inputs among all.
    inputs: Range<usize>,
    wrong: Option<Wrong>,
}

#[derive(Debug)]
struct Wrong {
    reason: String,
    elements: Vec<usize>,
}

impl<'a> Plan<'a> {
    /// Reads the records of a batch at this moment of the store's clock.
    pub fn read(subscription: Subscription, batch: &'a Batch, now: Timestamp, heartbeat_timeout: Duration) -> Self {
        let mut plan = Self { subscription, inputs: Vec::new(), records: Vec::new(), now };
        for record in &batch.records {
            let own_time = record.timestamp.unwrap_or(now).min(now);
            let traceparent = record.traceparent();
            let make = |element: Element| {
                let (user_id, timestamp) = (element.user_id, element.timestamp);
                let kind = (subscription.input)(element)?;
                let input = Input { at: time_of(timestamp, own_time, now, heartbeat_timeout), kind };
                Ok(UserInput { user_id, input, traceparent: traceparent.clone() })
            };
            let first = plan.inputs.len();
            let wrong = match payload::read(&record.data, make) {
                Ok(Payload { good, bad, reason }) => {
                    plan.inputs.extend(good);
                    reason.map(|reason| Wrong { reason, elements: bad })
                }
                Err(Unreadable(reason)) => Some(Wrong { reason, elements: Vec::new() }),
            };
            plan.records.push(Planned { record, inputs: first..plan.inputs.len(), wrong });
        }
        plan
    }

    /// Everything that happened, to be decided together.
    pub fn inputs(&self) -> &[UserInput] {
        &self.inputs
    }

    /// What becomes of each record, by its message id, in the order of the batch. `decided` holds one result an input,
    /// in its place.
    ///
    /// A record of which anything failed comes again as a whole, also with what was decided before: inputs may come
    /// twice. Only then, with nothing left to retry, its bad elements go to the dead letters, so that they go once.
    pub fn settle(self, decided: &[Result<(), Error>]) -> Vec<(String, Disposition)> {
        let Self { subscription, records, now, .. } = self;
        let settle = |planned: Planned<'_>| {
            let Planned { record, inputs, wrong } = planned;
            let failed = decided.get(inputs).is_none_or(|results| results.iter().any(Result::is_err));
            let disposition = match wrong {
                _ if failed => Disposition::Retry,
                None => Disposition::Done,
                Some(wrong) => Disposition::DeadLetter(letter(subscription, record, wrong, now)),
            };
            (record.message_id.clone(), disposition)
        };
        records.into_iter().map(settle).collect()
    }
}

/// Whether nothing could be decided because the store is away: then the batch as a whole waits for it.
pub(super) fn all_unavailable(decided: &[Result<(), Error>]) -> bool {
    let unavailable =
        |result: &Result<(), Error>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
    !decided.is_empty() && decided.iter().all(unavailable)
}

/// The sender's time where it can be true: near the message's own time, and not in the future. Else the message's own.
fn time_of(
    timestamp: Option<Timestamp>,
    own_time: Timestamp,
    now: Timestamp,
    heartbeat_timeout: Duration,
) -> Timestamp {
    let believable = |at: &Timestamp| {
        let distance = at.since(own_time).max(own_time.since(*at));
        distance <= heartbeat_timeout && *at <= now
    };
    timestamp.filter(believable).unwrap_or(own_time)
}

fn letter(subscription: Subscription, record: &Record, wrong: Wrong, now: Timestamp) -> DeadLetter {
    DeadLetter {
        function: subscription.function.to_owned(),
        reason: wrong.reason,
        elements: wrong.elements,
        subject: record.subject.clone(),
        message_id: record.message_id.clone(),
        delivered: record.num_delivered,
        time: record.timestamp.unwrap_or(now),
        headers: record.headers.clone(),
        payload: record.data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use presence::domain::Traceparent;

    use super::*;
    use crate::event::heartbeat_received;
    use crate::event::testing::{USER, record};

    const NOW: i64 = 1_704_110_400_000;
    const TIMEOUT: Duration = Duration::from_secs(45);

    fn heartbeat(session: &str) -> String {
        format!(r#"{{"user_id":"{USER}","session_id":"{session}"}}"#)
    }

    fn batch(records: Vec<Record>) -> Batch {
        Batch { event_source: "nats:jetstream".into(), records }
    }

    fn read(batch: &Batch) -> Plan<'_> {
        Plan::read(heartbeat_received::SUBSCRIPTION, batch, Timestamp::from_millis(NOW), TIMEOUT)
    }

    fn ok(count: usize) -> Vec<Result<(), Error>> {
        (0..count).map(|_| Ok(())).collect()
    }

    fn at(timestamp: &str, published: i64) -> i64 {
        let data = format!(r#"{{"user_id":"{USER}","timestamp":{timestamp}}}"#);
        let batch = batch(vec![record(1, published, data)]);
        read(&batch).inputs()[0].input.at.millis()
    }

    #[test]
    fn inputs_keep_the_order_of_records_and_elements() {
        let array = format!("[{},{}]", heartbeat("b"), heartbeat("c"));
        let batch = batch(vec![record(1, NOW, heartbeat("a")), record(2, NOW, array), record(3, NOW, heartbeat("d"))]);
        let plan = read(&batch);
        let sessions: Vec<String> = plan.inputs().iter().map(|input| format!("{:?}", input.input.kind)).collect();
        assert_eq!(sessions.len(), 4);
        for (session, name) in sessions.iter().zip(["a", "b", "c", "d"]) {
            assert!(session.contains(&format!("{name:?}")), "{session}");
        }
        assert!(plan.settle(&ok(4)).iter().all(|(_, disposition)| *disposition == Disposition::Done));
    }

    #[test]
    fn the_senders_time_counts_while_it_can_be_true() {
        let published = NOW - 1000;
        for (timestamp, expected) in [
            (NOW - 2000, NOW - 2000),
            (NOW, NOW),
            (published - 45_000, published - 45_000),
            (published - 45_001, published),
            (NOW + 1, published),
            (0, published),
        ] {
            assert_eq!(at(&timestamp.to_string(), published), expected, "{timestamp}");
        }
        assert_eq!(at("null", published), published);
        assert_eq!(at(r#""2024-01-01T11:59:58Z""#, published), NOW - 2000);
    }

    #[test]
    fn an_old_message_brings_an_old_time_with_it() {
        let published = NOW - 600_000;
        assert_eq!(at("null", published), published);
        assert_eq!(at(&(published - 1000).to_string(), published), published - 1000);
        assert_eq!(at(&NOW.to_string(), published), published);
    }

    #[test]
    fn nothing_happens_in_the_future() {
        assert_eq!(at("null", NOW + 60_000), NOW);
        assert_eq!(at(&(NOW + 1).to_string(), NOW + 60_000), NOW);
    }

    #[test]
    fn a_message_without_a_time_is_of_now() {
        let batch = batch(vec![Record { timestamp: None, ..record(1, 0, heartbeat("a")) }]);
        assert_eq!(read(&batch).inputs()[0].input.at.millis(), NOW);
    }

    #[test]
    fn the_trace_of_the_message_goes_along_if_it_is_well_formed() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let aws = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        for (name, value, expected) in [
            ("Traceparent", trace, Some(trace)),
            ("X-Amzn-Trace-Id", aws, Some(trace)),
            ("Traceparent", "nonsense", None),
        ] {
            let mut record = record(1, NOW, heartbeat("a"));
            record.headers.insert(name.into(), vec![value.into()]);
            let batch = batch(vec![record]);
            let traceparent = read(&batch).inputs()[0].traceparent.clone();
            assert_eq!(traceparent.as_ref().map(Traceparent::as_str), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_goes_to_the_dead_letters_as_it_came() {
        let mut poison = Record { num_delivered: 3, ..record(2, NOW - 5, b"{\xff".as_slice()) };
        poison.headers.insert("k".into(), vec!["v".into()]);
        let batch = batch(vec![record(1, NOW, heartbeat("a")), poison.clone(), record(3, NOW, heartbeat("b"))]);
        let plan = read(&batch);
        assert_eq!(plan.inputs().len(), 2);
        let settled = plan.settle(&ok(2));
        assert_eq!(settled[0], ("PRESENCE:1".into(), Disposition::Done));
        assert_eq!(settled[2], ("PRESENCE:3".into(), Disposition::Done));
        let (id, Disposition::DeadLetter(letter)) = &settled[1] else { panic!("{settled:?}") };
        assert_eq!(id, "PRESENCE:2");
        let expected = DeadLetter {
            function: "heartbeat-received".into(),
            reason: "the message is not UTF-8".into(),
            elements: vec![],
            subject: poison.subject,
            message_id: "PRESENCE:2".into(),
            delivered: 3,
            time: Timestamp::from_millis(NOW - 5),
            headers: poison.headers,
            payload: poison.data,
        };
        assert_eq!(*letter, expected);
    }

    #[test]
    fn of_an_array_the_good_elements_are_decided_and_the_letter_names_the_bad_ones() {
        let batch = batch(vec![record(1, NOW, format!("[{},7,{},{{}}]", heartbeat("a"), heartbeat("b")))]);
        let plan = read(&batch);
        assert_eq!(plan.inputs().len(), 2);
        let settled = plan.settle(&ok(2));
        let [(_, Disposition::DeadLetter(letter))] = settled.as_slice() else { panic!("{settled:?}") };
        assert_eq!(letter.elements, [1, 3]);
        assert_eq!(letter.payload, batch.records[0].data);
    }

    #[test]
    fn a_record_of_which_anything_failed_comes_again_and_no_letter_is_written_yet() {
        let array = format!("[{},7,{}]", heartbeat("a"), heartbeat("b"));
        let batch = batch(vec![record(1, NOW, heartbeat("c")), record(2, NOW, array), record(3, NOW, "[]")]);
        for kind in [ErrorKind::Unavailable, ErrorKind::Internal] {
            let settled = read(&batch).settle(&[Ok(()), Ok(()), Err(kind.into())]);
            let dispositions: Vec<&Disposition> = settled.iter().map(|(_, disposition)| disposition).collect();
            assert_eq!(dispositions, [&Disposition::Done, &Disposition::Retry, &Disposition::Done]);
        }
    }

    #[test]
    fn without_a_result_for_each_input_nothing_counts_as_decided() {
        let batch = batch(vec![record(1, NOW, heartbeat("a")), record(2, NOW, heartbeat("b"))]);
        let settled = read(&batch).settle(&ok(1));
        assert_eq!(settled[1], ("PRESENCE:2".into(), Disposition::Retry));
    }

    #[test]
    fn the_store_is_away_only_if_nothing_could_be_decided() {
        let unavailable = || Err(ErrorKind::Unavailable.into());
        assert!(all_unavailable(&[unavailable(), unavailable()]));
        assert!(!all_unavailable(&[unavailable(), Ok(())]));
        assert!(!all_unavailable(&[unavailable(), Err(ErrorKind::Internal.into())]));
        assert!(!all_unavailable(&[]));
    }
}
