//! The gateway as it is deployed: inside the service, and by itself.

use presence_tests::Service;

#[tokio::test]
async fn the_gateway_and_the_page_are_part_of_the_service_unless_they_are_off() {
    let service = Service::builder().start().await;
    let page = service.get_openly("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(service.get_openly("/gateway").await.status, 426);
    for part in page.text.split('"').filter(|part| part.starts_with("/page/")) {
        assert_eq!(service.get_openly(part).await.status, 200, "{part}");
    }

    let service = Service::builder().env("GATEWAY", "off").start().await;
    for path in ["/", "/gateway", "/page/page.js"] {
        assert_eq!(service.get_openly(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_gateway_by_itself_says_what_it_needs_and_does_not_start_without() {
    let (status, said) = Service::gateway_alone().fail().await;
    assert!(!status.success());
    assert!(said.contains("REDIS_URL is not set") && said.contains("NATS_URL is not set"), "{said}");
}
