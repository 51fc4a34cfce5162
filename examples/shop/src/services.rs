//! The three services, and what they have in common: a health check, and their name in every answer.

pub mod inventory;
pub mod orders;
pub mod payments;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::{self, Next},
    routing::get,
};
use serde_json::json;
use tokio::{net::TcpListener, signal::unix};

use crate::{participant, registration::Registration};

/// Who answered.
const INSTANCE: HeaderName = HeaderName::from_static("x-instance");

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    Orders,
    Payments,
    Inventory,
}

/// What one instance is started with.
#[derive(Clone, Debug)]
pub struct Instance {
    pub service: Service,
    pub name: String,
    pub listen: SocketAddr,
    /// Where the other services are reached: `http://host:port`.
    pub gateway: String,
    /// Where it registers itself, if it does, and submits transactions: the gateway's control listener,
    /// `http://host:port`.
    pub control: Option<String>,
    pub data: PathBuf,
}

impl Service {
    /// As routes and the registry know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Inventory => "inventory",
        }
    }
}

/// Serves until SIGTERM or Ctrl-C, then leaves the registry and lets requests end.
pub async fn serve(instance: Instance) -> anyhow::Result<()> {
    let listener = TcpListener::bind(instance.listen)
        .await
        .with_context(|| format!("{}: cannot listen on {}", instance.name, instance.listen))?;
    let address = listener.local_addr()?;
    eprintln!("{} listening address={address}", instance.name);
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let router = router(&instance)?;
    let registration = instance
        .control
        .map(|control| Registration::begin(control, instance.service.name(), instance.name.clone(), address));
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        // Still serving: what is on its way here is answered.
        if let Some(registration) = registration {
            registration.end().await;
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// The service's paths, each answer naming the instance.
pub fn router(instance: &Instance) -> anyhow::Result<Router> {
    let name = HeaderValue::from_str(&instance.name).context("an instance's name must be printable ASCII")?;
    let service = match instance.service {
        Service::Orders => {
            let orders = Arc::new(orders::Orders::open(instance)?);
            orders::router(Arc::clone(&orders)).merge(participant::router(orders))
        }
        Service::Payments => {
            let payments = Arc::new(payments::Payments::open(instance)?);
            payments::router(Arc::clone(&payments)).merge(participant::router(payments))
        }
        Service::Inventory => {
            let inventory = Arc::new(inventory::Inventory::open(instance)?);
            inventory::router(Arc::clone(&inventory)).merge(participant::router(inventory))
        }
    };
    let health = json!({ "status": "ok", "instance": instance.name });
    let naming = middleware::from_fn(move |request: Request, next: Next| {
        let name = name.clone();
        async move {
            let mut response = next.run(request).await;
            response.headers_mut().insert(INSTANCE, name);
            response
        }
    });
    // Directly, and through the gateway's route.
    let through = format!("/{}/health", instance.service.name());
    let health = get(async move || Json(health));
    Ok(service.route("/health", health.clone()).route(&through, health).layer(naming))
}
