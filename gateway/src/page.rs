//! The page that shows all of it in a browser: a few files that are built in, and no server side of its own. It uses the
//! HTTP interface and the gateway as everyone does.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use presence::auth::{AuthConfig, KeySource};
use presence::domain::Rules;

const INDEX: &str = include_str!("../page/index.html");

/// Path, media type and text of everything that never differs.
const FILES: [(&str, &str, &str); 9] = [
    ("/page/page.css", CSS, include_str!("../page/page.css")),
    ("/page/page.js", JS, include_str!("../page/page.js")),
    ("/page/gateway.js", JS, include_str!("../page/gateway.js")),
    ("/page/metronome.js", JS, include_str!("../page/metronome.js")),
    ("/page/people.js", JS, include_str!("../page/people.js")),
    ("/page/token.js", JS, include_str!("../page/token.js")),
    ("/page/wire.js", JS, include_str!("../page/wire.js")),
    ("/page/words.js", JS, include_str!("../page/words.js")),
    ("/page/icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Nothing but the files above, and no script or style inside the page; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page at `/`, for a process that also serves the gateway and the HTTP interface. People to sign in as are offered
/// only where development tokens are accepted; everywhere else it takes a token that the user brings.
pub fn page(auth: &AuthConfig, rules: &Rules) -> Router {
    let index = index(auth, rules);
    let router = Router::new().route("/", get(async move || file(HTML, index)));
    FILES
        .into_iter()
        .fold(router, |router, (path, media_type, text)| router.route(path, get(async move || file(media_type, text))))
}

/// What the page has to know of the process stands in the attributes of its first element.
fn index(auth: &AuthConfig, rules: &Rules) -> String {
    let typing = format!(r#"data-typing-ms="{}""#, rules.typing_timeout.as_millis());
    let index = INDEX.replacen(r#"data-typing-ms="10000""#, &typing, 1);
    match auth.keys {
        KeySource::Development => index.replacen(r#"data-tokens="own""#, r#"data-tokens="development""#, 1),
        _ => index,
    }
}

fn file(media_type: &'static str, text: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use presence::auth::DEVELOPMENT_SECRET;

    use super::*;

    fn index_with(keys: KeySource) -> String {
        let rules = Rules { typing_timeout: Duration::from_millis(7500), ..Rules::default() };
        index(&AuthConfig { keys, issuer: None, audience: None }, &rules)
    }

    #[test]
    fn people_are_offered_only_where_anyone_can_make_a_token() {
        assert!(index_with(KeySource::Development).contains(r#"data-tokens="development""#));
        assert!(index_with(KeySource::Nowhere).contains(r#"data-tokens="own""#));
        assert!(index_with(KeySource::Nowhere).contains(r#"data-typing-ms="7500""#));
    }

    #[test]
    fn the_page_signs_with_the_secret_that_is_published() {
        let (_, _, token) = FILES.into_iter().find(|(path, ..)| path.ends_with("/token.js")).unwrap();
        assert!(token.contains(&format!("\"{DEVELOPMENT_SECRET}\"")));
    }

    #[test]
    fn the_policy_finds_nothing_to_forbid() {
        assert!(!INDEX.contains(" style=") && !INDEX.contains("<style") && !INDEX.contains(" onclick"));
        assert_eq!(INDEX.matches("<script").count(), INDEX.matches(r#"<script type="module" src="/page/"#).count());
    }

    #[test]
    fn every_file_that_one_names_is_there() {
        let has = |path: &str| FILES.iter().any(|(known, ..)| *known == path);
        for (name, text) in FILES.iter().map(|(path, _, text)| (*path, *text)).chain([("/", INDEX)]) {
            for path in text.split('"').filter(|part| part.starts_with("/page/")) {
                assert!(has(path), "{name} names {path}");
            }
            for module in text.split('"').filter_map(|part| part.strip_prefix("./")) {
                assert!(has(&format!("/page/{module}")), "{name} imports {module}");
            }
        }
    }
}
