//! The answers of the running service against `docs/openapi.yaml`: nothing is answered that is not documented, and
//! everything that is documented is answered.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, Request};
use presence_golden::{Case, Host};
use presence_tests::{Api, DEVELOPMENT_SECRET, JetStream, Nats, Service, Store, StoreKind};

use crate::http::{Interface, Operation};

/// Sends requests and judges every answer.
struct Judged<'a> {
    api: &'a Api,
    interface: &'a Interface,
    seen: Mutex<BTreeSet<(Operation, u16)>>,
    wrong: Mutex<Vec<String>>,
}

impl<'a> Judged<'a> {
    fn new(api: &'a Api, interface: &'a Interface) -> Self {
        Self { api, interface, seen: Mutex::default(), wrong: Mutex::default() }
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, String> {
        let response = self.api.exchange(request.clone()).await?;
        match self.interface.judge(&request, &response) {
            Ok(seen) => self.seen.lock().unwrap().extend(seen),
            Err(wrong) => self.wrong.lock().unwrap().push(wrong),
        }
        Ok(response)
    }

    /// The golden suite, whose expectations are not looked at here, and the same with HEAD for GET; then the probes.
    async fn walk(&self) {
        let cases = presence_golden::cases().unwrap();
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.runs_on(Host::Service)).collect();
        for case in &cases {
            let send = async |request: Request<Bytes>| {
                if request.method() == Method::GET {
                    let mut head = request.clone();
                    *head.method_mut() = Method::HEAD;
                    self.exchange(head).await?;
                }
                self.exchange(request).await
            };
            let _ = case.run(DEVELOPMENT_SECRET, send).await;
        }
        for path in ["/health", "/ready", "/metrics"] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
                let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
                self.exchange(request).await.unwrap();
            }
        }
    }

    fn finish(self) -> BTreeSet<(Operation, u16)> {
        let wrong = self.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{} answers are not as documented:\n  {}", wrong.len(), wrong.join("\n  "));
        self.seen.into_inner().unwrap()
    }
}

#[tokio::test]
async fn every_answer_is_documented_and_every_documented_answer_is_given() {
    let interface = Interface::read();
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let service = Service::start(&store, &nats).await;
    let judged = Judged::new(&service, &interface);
    judged.walk().await;
    let mut seen = judged.finish();

    let away = Store::stopped(StoreKind::of_this_run());
    let service = Service::builder().store(&away).nats(&nats).start_unready().await;
    let judged = Judged::new(&service, &interface);
    judged.walk().await;
    seen.extend(judged.finish());

    let mut documented = BTreeSet::new();
    for operation in interface.operations() {
        documented.extend(interface.responses(&operation).map(|(status, _)| (operation.clone(), status)));
    }
    // A defect can't be asked for.
    let missing: Vec<_> = documented.difference(&seen).filter(|(_, status)| *status != 500).collect();
    assert!(missing.is_empty(), "documented and never given: {missing:?}");
}
