//! The dashboard: one page, its scripts and its style, embedded in the binary. It shows what the JSON API says,
//! asked once a second, and changes things through the same API as everybody else.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// Everything comes from this listener, nothing is inline, nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// `/`, and what the page loads. They hold no secret, so they need no token: the figures do.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/elements.js", get(async || asset(JAVASCRIPT, include_str!("elements.js"))))
        .route("/dashboard.js", get(async || asset(JAVASCRIPT, include_str!("dashboard.js"))))
        .route("/dashboard.css", get(async || asset("text/css; charset=utf-8", include_str!("dashboard.css"))))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A newer binary brings newer assets under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_is_inline_or_from_elsewhere() {
        let page = include_str!("index.html");
        assert!(!page.contains("://"), "an address of another host");
        assert!(!page.contains("<style") && !page.contains("style="), "the policy forbids inline styles");
        assert_eq!(page.matches("<script").count(), page.matches("<script src=").count(), "and inline scripts");
        let script = concat!(include_str!("elements.js"), include_str!("dashboard.js"));
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script.contains(word), "{word} would turn a plugin's name or message into markup");
        }
    }

    #[test]
    fn each_asset_is_served_under_a_strict_policy() {
        let answer = asset("text/html; charset=utf-8", "");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    }
}
