//! The bodies of requests: the schemas of `docs/openapi.yaml` allow exactly what the service takes.

use presence_tests::{JetStream, Nats, Service, Store, User};
use serde_json::{Value, json};

use crate::document::faults;
use crate::http::{Interface, Operation};

const ID: &str = "5f0c7d3e-8a41-4a52-9d3c-2f6e1b7a9c04";

/// Values at the edges of every rule for texts that others see.
fn texts() -> Vec<Value> {
    let mut texts: Vec<Value> = [
        "",
        "a",
        " ",
        " a ",
        "\t",
        "a\tb",
        "line\nline",
        "\u{0}",
        "a\u{7f}",
        "a\u{85}",
        "\u{9f}a",
        "\u{a0}",
        "\u{a0}a",
        "\u{2003}\u{3000}",
        "\u{2028}",
        "\u{200b}",
        "\u{feff}",
        "\u{180e}",
        "\u{1f600}",
        "e\u{301}",
        "\u{202e}abc",
    ]
    .map(Value::from)
    .to_vec();
    for count in [127, 128, 129] {
        texts.extend([json!("x".repeat(count)), json!("\u{1f600}".repeat(count)), json!(" ".repeat(count))]);
    }
    texts.extend([json!(null), json!(7), json!(true), json!([]), json!({})]);
    texts
}

fn ids() -> Vec<Value> {
    vec![
        json!(ID),
        json!(ID.to_uppercase()),
        json!("00000000-0000-0000-0000-000000000000"),
        json!("ffffffff-ffff-ffff-ffff-ffffffffffff"),
        json!(""),
        json!(ID.replace('-', "")),
        json!(format!("{{{ID}}}")),
        json!(format!("urn:uuid:{ID}")),
        json!(format!(" {ID}")),
        json!(format!("{ID}\n")),
        json!(ID.replace('5', "g")),
        json!(null),
        json!(7),
    ]
}

fn status_updates() -> Vec<Value> {
    let mut bodies = vec![json!({}), json!({ "unknown": 1 }), json!([]), json!(null), json!("online"), json!(1)];
    for status in ["online", "idle", "dnd", "offline", "invisible", "away", "Online", "", " online"] {
        bodies.push(json!({ "status": status }));
    }
    for other in [json!(null), json!(1), json!(["online"])] {
        bodies.extend([json!({ "status": other }), json!({ "activity": other })]);
    }
    for text in texts() {
        bodies.push(json!({ "custom_status": text }));
        bodies.push(json!({ "activity": { "type": "playing", "name": text } }));
    }
    for kind in [json!("playing"), json!("streaming"), json!("listening"), json!("watching"), json!(null), json!(0)] {
        bodies.push(json!({ "activity": { "type": kind, "name": "A name", "unknown": null } }));
    }
    bodies.extend([json!({ "activity": {} }), json!({ "activity": { "type": "playing" } })]);
    bodies.push(json!({ "activity": { "name": "A name" } }));
    bodies
}

fn bulk_requests() -> Vec<Value> {
    let mut bodies = vec![json!({}), json!({ "user_ids": ID }), json!({ "user_ids": null }), json!([ID])];
    bodies.extend([0, 1, 2, 1000, 1001].map(|count| json!({ "user_ids": vec![ID; count] })));
    bodies.extend(ids().into_iter().map(|id| json!({ "user_ids": [ID, id], "unknown": {} })));
    bodies
}

fn typing_requests() -> Vec<Value> {
    let mut bodies = vec![json!({}), json!([]), json!({ "channel": ID })];
    bodies.extend(ids().into_iter().map(|id| json!({ "channel_id": id, "unknown": [] })));
    bodies
}

#[tokio::test]
async fn a_body_is_taken_exactly_if_its_schema_allows_it() {
    let interface = Interface::read();
    let (store, nats) = (Store::start().await, Nats::start(JetStream::Off).await);
    let service = Service::start(&store, &nats).await;
    for (path, bodies) in [
        ("/presence/status", status_updates()),
        ("/presence/bulk", bulk_requests()),
        ("/presence/typing", typing_requests()),
    ] {
        let operation = Operation { method: "POST".to_owned(), path: path.to_owned() };
        let validator = interface.document.validator(interface.body_schema(&operation));
        let mut refused = 0;
        for body in bodies {
            let answer = service.post(&User::new(), path, &body).await;
            let faults = faults(&validator, &body);
            match answer.status {
                200 | 204 => assert_eq!(faults, None, "{path} takes {body}"),
                422 => assert!(faults.is_some(), "{path} refuses {body}: {}", answer.text),
                other => panic!("{path} answers {other} to {body}: {}", answer.text),
            }
            refused += usize::from(faults.is_some());
        }
        assert!(refused > 5, "{path}: only {refused} bodies were refused");
    }
}
