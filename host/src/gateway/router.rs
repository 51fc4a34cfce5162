//! From a request's host, path and method to a route, and from the route to one of its services.

use std::collections::HashMap;

use http::Method;

use super::snapshot::ServiceIndex;
use crate::model::{RouteConfig, ServiceName};

/// Index into [`Router::routes`].
pub type RouteIndex = usize;

/// All routes, ready to be matched: the most exact host first, then the longest path, then those that name
/// methods.
#[derive(Debug)]
pub struct Router {
    routes: Vec<RouteConfig>,
    /// By host; each ordered by path, the longest first.
    exact: HashMap<String, Vec<RouteIndex>>,
    /// `*.suffix` as `.suffix`, the longest first.
    wildcard: Vec<(String, Vec<RouteIndex>)>,
    any_host: Vec<RouteIndex>,
    /// By route: its targets with their cumulative weights.
    targets: Vec<Vec<(u64, ServiceIndex)>>,
}

/// Why no route was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No route has this host and path.
    NotFound,
    /// One has, but not this method. What `Allow` says of it: the methods of all that have.
    MethodNotAllowed { allow: String },
}

impl NoRoute {
    fn of(mut allowed: Vec<&Method>) -> Self {
        if allowed.is_empty() {
            return Self::NotFound;
        }
        allowed.sort_unstable_by_key(|method| method.as_str());
        allowed.dedup();
        let names: Vec<&str> = allowed.into_iter().map(Method::as_str).collect();
        Self::MethodNotAllowed { allow: names.join(", ") }
    }
}

impl Router {
    /// `services` must have every service that a route names; the configuration has been checked for it.
    pub fn new(routes: Vec<RouteConfig>, services: &HashMap<ServiceName, ServiceIndex>) -> Self {
        let mut order: Vec<RouteIndex> = (0..routes.len()).collect();
        order.sort_by_key(|&index| {
            let route = &routes[index];
            (std::cmp::Reverse(route.path.trim_end_matches('/').len()), route.methods.is_empty(), index)
        });
        let mut exact: HashMap<String, Vec<RouteIndex>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<RouteIndex>> = HashMap::new();
        let mut any_host = Vec::new();
        for index in order {
            match routes[index].host.as_deref() {
                None => any_host.push(index),
                Some(host) => match host.strip_prefix('*') {
                    Some(suffix) => wildcard.entry(suffix.to_owned()).or_default().push(index),
                    None => exact.entry(host.to_owned()).or_default().push(index),
                },
            }
        }
        let mut wildcard: Vec<_> = wildcard.into_iter().collect();
        wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let targets = routes
            .iter()
            .map(|route| {
                let mut sum = 0;
                let target = |target: &crate::model::RouteTarget| {
                    sum += u64::from(target.weight.get());
                    services.get(&target.service).map(|&service| (sum, service))
                };
                route.targets.iter().filter_map(target).collect()
            })
            .collect();
        Self { routes, exact, wildcard, any_host, targets }
    }

    pub fn routes(&self) -> &[RouteConfig] {
        &self.routes
    }

    pub fn route(&self, index: RouteIndex) -> &RouteConfig {
        &self.routes[index]
    }

    /// `host` in any case, with or without port; `path` normalised.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<RouteIndex, NoRoute> {
        let mut allowed: Vec<&Method> = Vec::new();
        let mut first_of = |candidates: &[RouteIndex]| {
            candidates.iter().copied().find(|&index| {
                let route = &self.routes[index];
                let path_fits = prefix_fits(&route.path, path);
                let method_fits = route.methods.is_empty() || route.methods.contains(method);
                if path_fits && !method_fits {
                    allowed.extend(&route.methods);
                }
                path_fits && method_fits
            })
        };
        let found = if self.exact.is_empty() && self.wildcard.is_empty() {
            first_of(&self.any_host)
        } else {
            let host = name_of(host).to_ascii_lowercase();
            let exact = self.exact.get(&host).and_then(|candidates| first_of(candidates));
            exact
                .or_else(|| {
                    self.wildcard
                        .iter()
                        .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix))
                        .find_map(|(_, candidates)| first_of(candidates))
                })
                .or_else(|| first_of(&self.any_host))
        };
        found.ok_or_else(|| NoRoute::of(allowed))
    }

    /// One of the route's services, by weight.
    pub fn target(&self, route: RouteIndex, random: u64) -> Option<ServiceIndex> {
        let targets = &self.targets[route];
        let (sum, last) = *targets.last()?;
        if targets.len() == 1 {
            return Some(last);
        }
        let point = random % sum;
        targets.iter().find(|(upto, _)| point < *upto).map(|&(_, service)| service)
    }
}

/// `/orders/` and `/orders` both fit `/orders` and `/orders/…`, and not `/ordersx`.
fn prefix_fits(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is left of a path when a route's prefix is taken off; always begins with `/`.
pub fn strip_prefix<'p>(prefix: &str, path: &'p str) -> &'p str {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some("") | None => "/",
        Some(rest) => rest,
    }
}

/// The name alone: without port, and without the dot that ends a name in full (RFC 1034 §3.1).
fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RouteTarget, Weight};

    fn route(host: Option<&str>, path: &str, methods: &[Method], service: &str) -> RouteConfig {
        RouteConfig {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            methods: methods.to_vec(),
            targets: vec![RouteTarget { service: service.parse().unwrap(), weight: Weight::ONE }],
            strip_prefix: false,
            request_headers: Default::default(),
            response_headers: Default::default(),
            hash_on: None,
            expose: Vec::new(),
            decode_slash: false,
            repeatable: false,
        }
    }

    fn router(routes: Vec<RouteConfig>) -> Router {
        let services: HashMap<ServiceName, ServiceIndex> = routes
            .iter()
            .flat_map(|route| &route.targets)
            .enumerate()
            .map(|(index, target)| (target.service.clone(), index))
            .collect();
        Router::new(routes, &services)
    }

    fn found(router: &Router, host: &str, path: &str, method: Method) -> String {
        match router.find(host, path, &method) {
            Ok(index) => router.route(index).targets[0].service.to_string(),
            Err(refused) => format!("{refused:?}"),
        }
    }

    #[test]
    fn the_longest_prefix_of_the_most_exact_host_wins() {
        let router = router(vec![
            route(None, "/", &[], "root"),
            route(None, "/orders/", &[], "orders"),
            route(None, "/orders/special", &[], "special"),
            route(Some("shop.example"), "/", &[], "shop"),
            route(Some("*.example"), "/orders", &[], "any-example"),
            route(Some("*.eu.example"), "/orders", &[], "eu"),
        ]);
        for (host, path, service) in [
            ("x", "/", "root"),
            ("x", "/orders", "orders"),
            ("x", "/orders/7", "orders"),
            ("x", "/ordersx", "root"),
            ("x", "/orders/special/1", "special"),
            ("x", "/orders/specials", "orders"),
            ("SHOP.example:8080", "/orders/7", "shop"),
            ("a.example", "/orders/7", "any-example"),
            ("a.eu.example", "/orders/7", "eu"),
            ("a.example", "/other", "root"),
            ("[::1]:80", "/orders", "orders"),
            ("shop.example.:80", "/", "shop"),
            ("", "/orders", "orders"),
        ] {
            assert_eq!(found(&router, host, path, Method::GET), service, "{host}{path}");
        }
    }

    #[test]
    fn a_method_narrows_and_its_absence_is_told_from_a_missing_path() {
        let router = router(vec![
            route(None, "/orders", &[Method::POST], "writer"),
            route(None, "/orders", &[Method::GET], "reader"),
        ]);
        assert_eq!(found(&router, "x", "/orders", Method::POST), "writer");
        assert_eq!(found(&router, "x", "/orders", Method::GET), "reader");
        assert_eq!(found(&router, "x", "/orders", Method::DELETE), "MethodNotAllowed { allow: \"GET, POST\" }");
        assert_eq!(found(&router, "x", "/", Method::GET), "NotFound");
    }

    #[test]
    fn targets_share_requests_by_weight() {
        let mut split = route(None, "/", &[], "a");
        split.targets = vec![
            RouteTarget { service: "a".parse().unwrap(), weight: Weight::new(90).unwrap() },
            RouteTarget { service: "b".parse().unwrap(), weight: Weight::new(10).unwrap() },
        ];
        let router = router(vec![split]);
        let to_a = (0..1000).filter(|&random| router.target(0, random) == Some(0)).count();
        assert_eq!(to_a, 900);
    }

    #[test]
    fn a_prefix_taken_off_leaves_a_path() {
        assert_eq!(strip_prefix("/orders/", "/orders"), "/");
        assert_eq!(strip_prefix("/orders/", "/orders/"), "/");
        assert_eq!(strip_prefix("/orders", "/orders/7/x"), "/7/x");
        assert_eq!(strip_prefix("/", "/orders"), "/orders");
    }
}
