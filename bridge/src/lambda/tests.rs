use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use aws_sdk_lambda::config::{Credentials, Region, SharedCredentialsProvider};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use presence::events::batch::Record;
use tokio::net::TcpListener;

use super::*;

/// Whether a request is answered, and how: status, headers, body.
type Answer = Option<(u16, &'static [(&'static str, &'static str)], &'static str)>;

/// A Lambda that always gives one answer; the paths and bodies of what it was asked.
async fn lambda(answer: Answer) -> (Lambda, Arc<Mutex<Vec<(String, Bytes)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<(String, Bytes)>>> = Arc::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let respond = service_fn(move |request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    seen.lock().unwrap().push((path, body));
                    let Some((status, headers, body)) = answer else { return std::future::pending().await };
                    let mut response = Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(*name, *value);
                    }
                    Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).unwrap())
                }
            });
            tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await });
        }
    });
    (at(&format!("http://{address}")).await, asked)
}

async fn at(url: &str) -> Lambda {
    let credentials = SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test"));
    let config = loader(Duration::from_millis(500))
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .load()
        .await;
    let names = Names { prefix: "stack-".into(), suffix: ":live".into() };
    Lambda { client: Client::new(&config), names }
}

fn batch() -> Batch {
    let record = Record {
        message_id: "PRESENCE:17".into(),
        subject: "a.b".into(),
        data: Bytes::from_static(b"{}"),
        headers: BTreeMap::new(),
        num_delivered: 1,
        timestamp: None,
    };
    Batch { event_source: "nats:jetstream".into(), records: vec![record] }
}

async fn outcome(answer: Answer) -> Result<BatchResponse, TargetError> {
    lambda(answer).await.0.invoke("heartbeat-received", batch()).await
}

#[tokio::test]
async fn a_function_is_invoked_by_its_name_with_the_batch_as_the_contract_says() {
    let (lambda, asked) = lambda(Some((200, &[], r#"{"batchItemFailures":[{"itemIdentifier":"PRESENCE:17"}]}"#))).await;
    let answer = lambda.invoke("heartbeat-received", batch()).await;
    assert_eq!(answer, Ok(BatchResponse::failed(["PRESENCE:17".to_owned()])));
    let (path, body) = asked.lock().unwrap().pop().unwrap();
    assert_eq!(path, "/2015-03-31/functions/stack-heartbeat-received%3Alive/invocations");
    assert_eq!(serde_json::from_slice::<Batch>(&body).unwrap(), batch());
}

#[tokio::test]
async fn an_answer_without_failures_is_a_success_in_every_way_in_which_aws_takes_it() {
    for body in ["", "null", "{}", r#"{"batchItemFailures":[]}"#] {
        assert_eq!(outcome(Some((200, &[], body))).await, Ok(BatchResponse::default()), "{body}");
    }
    let nonsense = outcome(Some((200, &[], r#"{"batchItemFailures":7}"#))).await;
    assert!(matches!(nonsense, Err(TargetError::Failed(_))), "{nonsense:?}");
}

#[tokio::test]
async fn a_function_that_failed_is_told_by_aws_and_by_the_emulator_in_their_ways() {
    const UNHANDLED: &[(&str, &str)] = &[("x-amz-function-error", "Unhandled")];
    for (status, headers) in [(200, UNHANDLED), (500, &[])] {
        let failed = outcome(Some((status, headers, r#"{"errorType":"Internal","errorMessage":"boom"}"#))).await;
        assert_eq!(failed, Err(TargetError::Failed("Internal: boom".into())), "{status}");
        let away = outcome(Some((status, headers, r#"{"errorType":"Unavailable","errorMessage":"no store"}"#))).await;
        assert_eq!(away, Err(TargetError::Unavailable("no store".into())), "{status}");
        let silent = outcome(Some((status, headers, "<html>"))).await;
        assert!(matches!(silent, Err(TargetError::Failed(_))), "{silent:?}");
    }
}

#[tokio::test]
async fn a_throttle_says_when_to_come_again_if_it_does() {
    const ERROR: (&str, &str) = ("x-amzn-errortype", "TooManyRequestsException");
    let throttled = outcome(Some((429, &[ERROR, ("retry-after", "3")], "{}"))).await;
    assert_eq!(throttled, Err(TargetError::Throttled { retry_after: Some(Duration::from_secs(3)) }));
    let throttled = outcome(Some((429, &[ERROR], "{}"))).await;
    assert_eq!(throttled, Err(TargetError::Throttled { retry_after: None }));
    assert_eq!(outcome(Some((429, &[], ""))).await, Err(TargetError::Throttled { retry_after: None }));
}

#[tokio::test]
async fn what_is_the_deployments_fault_is_held_against_no_record() {
    for (status, error) in [
        (500, "ServiceException"),
        (502, "ResourceNotReadyException"),
        (404, "ResourceNotFoundException"),
        (403, "AccessDeniedException"),
        (503, "SlowDown"),
    ] {
        let headers: &'static [(&str, &str)] = Box::leak(Box::new([("x-amzn-errortype", error)]));
        let outcome = outcome(Some((status, headers, "{}"))).await;
        assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{error}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_batch_that_lambda_will_never_take_is_refused() {
    const TOO_LARGE: &[(&str, &str)] = &[("x-amzn-errortype", "RequestTooLargeException")];
    for headers in [TOO_LARGE, &[]] {
        let outcome = outcome(Some((413, headers, "{}"))).await;
        assert!(matches!(outcome, Err(TargetError::Refused(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_function_that_does_not_answer_is_timed_out_and_a_lambda_that_is_not_there_is_away() {
    assert_eq!(outcome(None).await, Err(TargetError::TimedOut));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let away = at(&format!("http://{nobody}")).await.invoke("heartbeat-received", batch()).await;
    assert!(matches!(away, Err(TargetError::Unavailable(_))), "{away:?}");
}
