//! `docs/openapi.yaml` against the code, without asking anyone: routes, methods, problem types, examples.

use std::collections::{BTreeMap, BTreeSet};

use presence_functions::http::problem::Kind;
use presence_functions::http::{ENDPOINTS, health, metrics, ready};
use serde_json::Value;

use crate::document::faults;
use crate::http::{Interface, Operation};

/// The probes of long-running processes, which the functions do not have.
const PROBES: [&str; 3] = [health::PATH, ready::PATH, metrics::PATH];

#[test]
fn the_documented_operations_are_those_of_the_router() {
    let probes = PROBES.map(|path| (path, "GET,HEAD"));
    let routed = ENDPOINTS.iter().chain(&probes).flat_map(|(path, methods)| {
        methods.split(',').map(|method| Operation { method: method.to_owned(), path: (*path).to_owned() })
    });
    let documented: BTreeSet<Operation> = Interface::read().operations().into_iter().collect();
    assert_eq!(documented, routed.collect());
}

#[test]
fn every_route_but_a_probe_needs_a_token() {
    let interface = Interface::read();
    assert_eq!(*interface.document.at("/security"), serde_json::json!([{ "bearer": [] }]));
    for operation in interface.operations() {
        let open = interface.describe(&operation).get("security");
        let is_probe = PROBES.contains(&operation.path.as_str());
        assert_eq!(open, is_probe.then_some(&serde_json::json!([])), "{operation:?}");
        let refused = interface.responses(&operation).any(|(status, _)| status == 401);
        assert_eq!(refused, !is_probe, "{operation:?}");
    }
}

#[test]
fn the_documented_problems_are_those_of_the_code() {
    let interface = Interface::read();
    let listed: Vec<&str> = strings(interface.document.at("/components/schemas/Problem/properties/type/enum"));
    let kinds = Kind::ALL.map(|kind| kind.describe().0);
    assert_eq!(listed, kinds, "in this order");

    let mut documented: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for operation in interface.operations() {
        for (status, response) in interface.responses(&operation) {
            documented.entry(status).or_default().extend(problem_types(response));
        }
    }
    for (name, status) in [("NotFound", 404), ("MethodNotAllowed", 405)] {
        let response = interface.document.at(&format!("/components/responses/{name}"));
        documented.entry(status).or_default().extend(problem_types(response));
    }
    for kind in Kind::ALL {
        let (uri, status, _) = kind.describe();
        let types = documented.entry(status.as_u16()).or_default();
        assert!(types.remove(uri), "{uri} is not documented for {status}");
    }
    documented.retain(|_, types| !types.is_empty());
    assert_eq!(documented, BTreeMap::new(), "these types are documented for a status that they do not have");
}

/// The types of problems that a response may be.
fn problem_types(response: &Value) -> Vec<String> {
    let schema = &response["content"]["application/problem+json"]["schema"];
    let narrowed = schema["allOf"].as_array().into_iter().flatten().map(|part| &part["properties"]["type"]);
    narrowed
        .flat_map(|kind| strings(&kind["enum"]).into_iter().chain(kind["const"].as_str()))
        .map(str::to_owned)
        .collect()
}

fn strings(array: &Value) -> Vec<&str> {
    array.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn the_examples_are_what_their_schemas_allow() {
    let interface = Interface::read();
    let document = &interface.document;
    let mut count = 0;
    let mut check = |place: String, schema: &Value, holder: &Value| {
        let validator = document.validator(schema);
        let several = holder["examples"].as_object().into_iter().flatten();
        let several = several.map(|(name, example)| (name.as_str(), &document.resolve(example)["value"]));
        for (name, value) in several.chain(holder.get("example").map(|value| ("example", value))) {
            assert_eq!(faults(&validator, value), None, "{place}, {name}");
            count += 1;
        }
    };
    for operation in interface.operations() {
        let described = interface.describe(&operation);
        let place = format!("{} {}", operation.method, operation.path);
        for media in described["requestBody"]["content"].as_object().into_iter().flat_map(|content| content.values()) {
            check(place.clone(), &media["schema"], media);
        }
        for (status, response) in interface.responses(&operation) {
            for media in response["content"].as_object().into_iter().flat_map(|content| content.values()) {
                check(format!("{place} {status}"), &media["schema"], media);
            }
        }
        let item = &document.at("/paths")[&operation.path];
        for parameter in described["parameters"].as_array().into_iter().chain(item["parameters"].as_array()).flatten() {
            let parameter = document.resolve(parameter);
            check(format!("{place} {}", parameter["name"]), &parameter["schema"], parameter);
        }
    }
    for (name, header) in document.members("/components/headers") {
        check(name.to_owned(), &header["schema"], header);
    }
    assert!(count > 50, "only {count} examples were found");
}

#[test]
fn the_examples_of_problems_say_what_the_code_says() {
    let interface = Interface::read();
    let mut seen = BTreeSet::new();
    for (name, response) in interface.document.members("/components/responses") {
        let media = &response["content"]["application/problem+json"];
        let several = media["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
        for problem in several.chain(media.get("example")) {
            let kind = Kind::ALL.into_iter().find(|kind| problem["type"] == kind.describe().0).unwrap();
            let (uri, status, title) = kind.describe();
            assert_eq!((&problem["status"], &problem["title"]), (&status.as_u16().into(), &title.into()), "{name}");
            seen.insert(uri);
        }
    }
    assert_eq!(seen, Kind::ALL.iter().map(|kind| kind.describe().0).collect());
}
