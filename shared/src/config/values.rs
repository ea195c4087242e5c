//! The forms of values: each parser takes what is allowed and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use redis::IntoConnectionInfo;
use url::{Host, Url};

/// URLs, separated by commas, as a log may show them: without user, password, query and fragment.
pub fn redacted(urls: &str) -> String {
    // A comma inside a password separates nothing.
    let mut parts: Vec<String> = Vec::new();
    for part in urls.split(',') {
        match parts.last_mut() {
            Some(last) if !part.contains("://") => last.extend([",", part]),
            _ => parts.push(part.to_owned()),
        }
    }
    parts.iter().map(|url| redacted_url(url.trim())).collect::<Vec<_>>().join(",")
}

fn redacted_url(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return "***".to_owned() };
    let Some(host) = url.host_str() else { return "***".to_owned() };
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?***" } else { "" };
    format!("{}://{user}{host}{port}{}{query}", url.scheme(), url.path())
}

/// Seconds with at most three decimals, as the service counts in milliseconds.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 9) || !digits(fraction, 3) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").parse().ok()?;
    Some(Duration::from_millis(whole.parse::<u64>().ok()? * 1000 + millis))
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn ip(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse().ok() }
}

pub(super) fn socket_addr(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(SocketAddr::new(ip(host)?, port.parse().ok()?))
}

/// Only reachable from this machine, also when written as an IPv4-mapped IPv6 address.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// A URL of one server that the Redis client takes. A fragment is refused: it would switch the check of certificates
/// off, and is most often an unescaped `#` in a password.
pub(super) fn redis_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let known = matches!(url.scheme(), "redis" | "rediss");
    let usable = known && url.has_host() && url.fragment().is_none() && text.into_connection_info().is_ok();
    usable.then(|| text.to_owned())
}

/// URLs of one or more servers that the NATS client takes.
pub(super) fn nats_urls(text: &str) -> Option<String> {
    let usable = |part: &str| {
        Url::parse(part).is_ok_and(|url| {
            let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "nats" | "tls") && url.has_host() && bare
        }) && part.parse::<async_nats::ServerAddr>().is_ok()
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    parts.iter().all(|part| usable(part)).then(|| parts.join(","))
}

/// `https`, or `http` to this very machine; the keys of tokens must not come over a wire that others write on.
pub(super) fn jwks_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let local = match url.host()? {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(ip) => is_loopback(ip.into()),
        Host::Ipv6(ip) => is_loopback(ip.into()),
    };
    let safe = url.scheme() == "https" || (url.scheme() == "http" && local);
    (safe && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Origins as browsers send them. `*` is none: who may call is worth naming.
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    text.split(',').map(|part| origin(part.trim())).collect()
}

fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (matches!(url.scheme(), "http" | "https") && bare && url.password().is_none())
        .then(|| url.origin().ascii_serialization())
}

/// The base of a collector's address. It may be without TLS: collectors stand beside the process, or in its network.
pub(super) fn collector(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && bare).then_some(url)
}

/// Headers as OpenTelemetry writes them: `name=value`, percent-encoded, with commas between.
pub(super) fn headers(text: &str) -> Option<Vec<(String, String)>> {
    let header = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        (is_name && !value.chars().any(char::is_control)).then(|| (name.to_owned(), value.into_owned()))
    };
    text.split(',').map(header).collect()
}

/// A namespace as CloudWatch takes it; its own are not ours.
pub(super) fn metrics_namespace(text: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/#:".contains(&b);
    let usable = (1..=255).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with("AWS/");
    usable.then(|| text.to_owned())
}
