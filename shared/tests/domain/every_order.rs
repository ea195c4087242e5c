//! Promise 5, exhaustively: every order and every repetition of every history of up to so many inputs over two
//! sessions. `order.rs` has the exceptions.
//!
//! One step tells about all orders. Take a set of inputs, heard in order. If hearing any of them again changes nothing,
//! and leaving any out to hear it last ends the same, then by induction over the sets every way of hearing them ends
//! the same. Where the record differs in what may never show, all orders of that history are gone through, and of each
//! that contains it.
//!
//! Of histories that differ only in which of two sessions, or of two voice sessions, is which, the first tells for all:
//! the rules know names only as names (`exchange.rs`).
//!
//! The suite takes up to three inputs. `PRESENCE_INPUTS=6` takes more, in a release build, and `PRESENCE_INPUTS_PART=2/24`
//! the second of 24 equal parts of all pairs of a beginning and a series of moments: the first four are the unknown
//! user's.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use presence::domain::{InputKind, Timestamp};

use crate::exchange::{Exchange, exchanges};
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
    /// What leads from a history to another that ends alike.
    exchanges: Vec<Exchange>,
    /// Whether one step did not tell enough of the history of this number. Of those alike only the first is kept.
    unequal: Vec<bool>,
    histories: usize,
    /// How many of them were the first of those alike.
    judged: usize,
    /// How many of them were gone through in all orders.
    walked: usize,
}

/// What can be at one moment: one of the inputs, or none.
const BASE: usize = EVERYTHING.len() + 1;

impl<'a> Search<'a> {
    fn run(beginning: &'a User, moments: &'a [i64]) -> Self {
        let unequal = vec![false; BASE.pow(moments.len() as u32)];
        let exchanges = exchanges(beginning, moments);
        let mut search = Self { beginning, moments, exchanges, unequal, histories: 0, judged: 0, walked: 0 };
        let late = facts(beginning.clone());
        let nothing = Lived { history: Vec::new(), ordered: beginning.clone(), late, without: Vec::new() };
        search.go_on(&nothing, 0, 0);
        search
    }

    /// Goes through everything that may follow on the history of this number, at this place of the moments and later.
    /// A history comes after all of its parts: numbers rise.
    fn go_on(&mut self, before: &Lived, number: usize, place: usize) {
        let Some(ago) = self.moments.get(place) else { return };
        let is_last = place + 1 == self.moments.len();
        self.go_on(before, number, place + 1);
        for (index, what) in EVERYTHING.into_iter().enumerate() {
            let (at, kind) = input((*ago, what));
            let part = Part { at, kind, number: (index + 1) * BASE.pow((self.moments.len() - place - 1) as u32) };
            let number = number + part.number;
            let is_first = self.first_alike(number) == number;
            self.histories += 1;
            if is_last && !is_first {
                continue;
            }
            let mut history = before.history.clone();
            history.push((*ago, what));
            let lived = before.then(history, &part);
            if is_first {
                self.judge(&lived, number);
            }
            self.go_on(&lived, number, place + 1);
        }
    }

    fn judge(&mut self, lived: &Lived, number: usize) {
        self.judged += 1;
        let ordered = facts(lived.ordered.clone().swept(now()).clone());
        if !is_same(lived.late.clone(), &ordered, &ordered) {
            assert_alike(&ordered, &lived.late, now(), &lived.history);
        }
        let is_one_step_enough = lived.without.iter().all(|(part, without)| {
            !self.unequal[self.first_alike(number - part.number)]
                && is_same(heard(without, part), &lived.late, &ordered)
                && is_same(heard(&lived.late, part), &lived.late, &ordered)
        });
        if !is_one_step_enough {
            self.unequal[number] = true;
            self.walked += 1;
            check(self.beginning, &lived.history);
        }
    }

    /// The number of the first of all histories that differ from this one only in names.
    fn first_alike(&self, number: usize) -> usize {
        let others = self.exchanges.iter().filter_map(|exchange| exchanged(number, *exchange));
        others.fold(number, usize::min)
    }
}

/// The number of the history in which names are exchanged, if all of it is in the alphabet.
fn exchanged(mut number: usize, exchange: Exchange) -> Option<usize> {
    let (mut other, mut value) = (0, 1);
    while number > 0 {
        if let Some(index) = (number % BASE).checked_sub(1) {
            other += value * (exchange[index]? + 1);
        }
        number /= BASE;
        value *= BASE;
    }
    Some(other)
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

/// From so many searches those of the part that is asked for: all, or the second third by `2/3`.
fn part_of(searches: usize, part: Option<String>) -> Range<usize> {
    let Some(part) = part else { return 0..searches };
    let (which, of) = part.split_once('/').unwrap();
    let (which, of): (usize, usize) = (which.parse().unwrap(), of.parse().unwrap());
    assert!(0 < which && which <= of && searches.is_multiple_of(of), "{part} is no part of {searches}");
    searches / of * (which - 1)..searches / of * which
}

/// Goes through all histories of up to so many inputs, after every beginning and at all moments.
#[expect(clippy::disallowed_methods, reason = "a test is configured by whoever runs it")]
#[test]
fn any_order_of_any_inputs_ends_as_the_ordered_one() {
    let inputs = std::env::var("PRESENCE_INPUTS").map_or(3, |inputs| inputs.parse().unwrap());
    let beginnings = beginnings();
    let searches: Vec<(&User, &[i64])> =
        beginnings.iter().flat_map(|user| TIMES.iter().map(move |times| (user, &times[..inputs]))).collect();
    let searches = &searches[part_of(searches.len(), std::env::var("PRESENCE_INPUTS_PART").ok())];
    let next = AtomicUsize::new(0);
    let search = || {
        while let Some((beginning, moments)) = searches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Search { histories, judged, walked, .. } = Search::run(beginning, moments);
            println!("{histories} histories at {moments:?}: {judged} judged, {walked} of them order by order");
            assert_eq!(histories + 1, BASE.pow(inputs as u32));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(search);
        }
    });
}
