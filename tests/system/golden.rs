//! The golden HTTP suite, against the service on its port and against the functions in the local Lambda emulator. The
//! third host, recorded API Gateway events, is asked by the functions' own tests.

use futures::StreamExt;
use presence_golden::{Case, Host};
use presence_tests::{Api, DEVELOPMENT_SECRET, Emulator, JetStream, Nats, Store};

use crate::world::World;

/// The emulator runs one instance a function and is strictly serial; the service takes as many at once.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn the_service_answers_as_the_golden_suite_says() {
    let world = World::start().await;
    replay(&world.service, Host::Service).await;
}

#[tokio::test]
async fn the_functions_in_the_local_emulator_answer_as_the_golden_suite_says() {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let emulator = Emulator::start(&store, &nats).await;
    replay(&emulator, Host::Emulator).await;
    emulator.stop().await;
}

async fn replay(api: &Api, host: Host) {
    let cases: Vec<Case> = presence_golden::cases().unwrap().into_iter().filter(|case| case.runs_on(host)).collect();
    let count = cases.len();
    assert!(count > 0, "the suite has no case for {host:?}");
    let run = async |case: Case| case.run(DEVELOPMENT_SECRET, async |request| api.exchange(request).await).await;
    let failures: Vec<String> = futures::stream::iter(cases)
        .map(run)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |outcome| outcome.err().map(|failure| failure.to_string()))
        .collect()
        .await;
    assert!(failures.is_empty(), "{} of {count} cases do not hold:\n  {}", failures.len(), failures.join("\n  "));
}
