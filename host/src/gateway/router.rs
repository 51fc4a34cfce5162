//! From a request's host, path and method to a route.

use crate::model::RouteConfig;

/// All routes, ready to be matched.
#[derive(Debug)]
pub struct Router {
    routes: Vec<RouteConfig>,
}

impl Router {
    pub fn new(routes: Vec<RouteConfig>) -> Self {
        Self { routes }
    }

    pub fn routes(&self) -> &[RouteConfig] {
        &self.routes
    }
}
