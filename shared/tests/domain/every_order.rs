//! Promise 5, exhaustively: every order and every repetition of every history of up to so many inputs over two
//! sessions. `order.rs` has the exceptions.
//!
//! One step tells about all orders. Take a set of inputs, heard in order. If hearing any of them again changes nothing,
//! and leaving any out to hear it last ends the same, then by induction over the sets every way of hearing them ends
//! the same. Where the record differs in what may never show, all orders of that history are gone through, and of each
//! that contains it.
//!
//! The suite takes up to three inputs. `PRESENCE_INPUTS=6` takes more, in a release build.

use std::sync::atomic::{AtomicUsize, Ordering};

use presence::domain::{InputKind, Timestamp};

use crate::order::{EVERYTHING, Late, TIMES, assert_alike, beginnings, check, facts, input, now};
use crate::user::User;

/// A history, and what it left.
struct Lived {
    history: Late,
    /// Each input was heard when it happened.
    ordered: User,
    /// All of them were heard now, in order.
    late: User,
    /// The same without one of them.
    without: Vec<(Part, User)>,
}

/// One input of a history.
#[derive(Clone)]
struct Part {
    at: Timestamp,
    kind: InputKind,
    /// What it adds to the number of the history.
    number: usize,
}

/// All histories after one beginning, whose inputs happened at some of these moments.
struct Search<'a> {
    beginning: &'a User,
    /// In milliseconds before now, in order.
    moments: &'a [i64],
    /// Whether one step did not tell enough of the history of this number.
    unequal: Vec<bool>,
    histories: usize,
    /// How many of them were gone through in all orders.
    walked: usize,
}

/// What can be at one moment: one of the inputs, or none.
const BASE: usize = EVERYTHING.len() + 1;

impl<'a> Search<'a> {
    fn run(beginning: &'a User, moments: &'a [i64]) -> Self {
        let unequal = vec![false; BASE.pow(moments.len() as u32)];
        let mut search = Self { beginning, moments, unequal, histories: 0, walked: 0 };
        let late = facts(beginning.clone());
        let nothing = Lived { history: Vec::new(), ordered: beginning.clone(), late, without: Vec::new() };
        search.go_on(&nothing, 0, 0);
        search
    }

    /// Goes through everything that may follow on the history of this number, at this place of the moments and later.
    /// A history comes after all of its parts.
    fn go_on(&mut self, before: &Lived, number: usize, place: usize) {
        let Some(ago) = self.moments.get(place) else { return };
        self.go_on(before, number, place + 1);
        for (index, what) in EVERYTHING.into_iter().enumerate() {
            let (at, kind) = input((*ago, what));
            let part = Part { at, kind, number: (index + 1) * BASE.pow(place as u32) };
            let mut history = before.history.clone();
            history.push((*ago, what));
            let lived = before.then(history, &part);
            let number = number + part.number;
            self.judge(&lived, number);
            self.go_on(&lived, number, place + 1);
        }
    }

    fn judge(&mut self, lived: &Lived, number: usize) {
        self.histories += 1;
        let ordered = facts(lived.ordered.clone().swept(now()).clone());
        if !is_same(lived.late.clone(), &ordered, &ordered) {
            assert_alike(&ordered, &lived.late, now(), &lived.history);
        }
        let is_one_step_enough = lived.without.iter().all(|(part, without)| {
            !self.unequal[number - part.number]
                && is_same(heard(without, part), &lived.late, &ordered)
                && is_same(heard(&lived.late, part), &lived.late, &ordered)
        });
        if !is_one_step_enough {
            self.unequal[number] = true;
            self.walked += 1;
            check(self.beginning, &lived.history);
        }
    }
}

impl Lived {
    fn then(&self, history: Late, part: &Part) -> Self {
        let mut ordered = self.ordered.clone();
        ordered.happens(part.at, part.kind.clone());
        let without = self.without.iter().map(|(other, without)| (other.clone(), heard(without, part)));
        let without = without.chain([(part.clone(), self.late.clone())]).collect();
        Self { history, ordered, late: heard(&self.late, part), without }
    }
}

fn heard(user: &User, part: &Part) -> User {
    let mut user = user.clone();
    user.hears(now(), part.at, part.kind.clone());
    facts(user)
}

/// Whether both know the same, but for the `last_seen` of an invisible user, which must lie between the ordered one and
/// the latest sign of life.
fn is_same(mut one: User, other: &User, ordered: &User) -> bool {
    let seen = std::mem::replace(&mut one.record.frozen_last_seen, other.record.frozen_last_seen);
    assert!(ordered.record.frozen_last_seen <= seen && seen <= one.record.last_sign_of_life(), "{ordered:?}");
    one == *other
}

/// Goes through all histories of up to so many inputs, after every beginning and at all moments.
#[expect(clippy::disallowed_methods, reason = "a test is configured by whoever runs it")]
#[test]
fn any_order_of_any_inputs_ends_as_the_ordered_one() {
    let inputs = std::env::var("PRESENCE_INPUTS").map_or(3, |inputs| inputs.parse().unwrap());
    let beginnings = beginnings();
    let searches: Vec<(&User, &[i64])> =
        beginnings.iter().flat_map(|user| TIMES.iter().map(move |times| (user, &times[..inputs]))).collect();
    let next = AtomicUsize::new(0);
    let search = || {
        while let Some((beginning, moments)) = searches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Search { histories, walked, .. } = Search::run(beginning, moments);
            println!("{histories} histories at {moments:?}, {walked} of them order by order");
            assert_eq!(histories + 1, BASE.pow(inputs as u32));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(search);
        }
    });
}
