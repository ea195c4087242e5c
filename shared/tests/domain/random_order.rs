//! Promise 5 for histories that are too long to go through every order: see `order.rs`, also for its exceptions.

use presence::domain::Timestamp;
use proptest::prelude::*;

use crate::history::{arrivals, moments, untimely};
use crate::order::assert_alike;
use crate::user::{User, at};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_late_and_twice_over_three_sessions_ends_as_if_in_order(
        history in untimely(40),
        later in prop_oneof![Just(0), 1..60_000_i64, 60_000..300_000_i64],
    ) {
        let (mut ordered, mut late) = (User::unknown(), User::unknown());
        for (at, happening) in moments(&history) {
            let _refused = ordered.tries(at, at, happening.kind.clone());
        }
        let arrivals = arrivals(&history);
        for arrival in &arrivals {
            late.arrives(arrival);
        }
        let last = arrivals.last().map_or(at(0), |arrival| arrival.heard_at);
        let now = Timestamp::from_millis(last.millis() + later);
        ordered.swept(now);
        late.swept(now);
        assert_alike(&ordered, &late, now, &arrivals);
    }
}
