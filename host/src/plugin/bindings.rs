//! Typed functions from `wit/`, one module a world.

/// World `balancer-plugin`.
pub(super) mod balancer {
    wasmtime::component::bindgen!({ path: "../wit", world: "balancer-plugin" });
}

/// World `failover-plugin`. Types and the log are those of every kind.
pub(super) mod failover {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "failover-plugin",
        with: {
            "sluice:plugin/types": super::balancer::sluice::plugin::types,
            "sluice:plugin/log": super::balancer::sluice::plugin::log,
        },
    });
}

/// World `transaction-plugin`. Types and the log are those of every kind. What is given is borrowed: a view is shown many
/// times, and most of it is texts.
pub(super) mod transaction {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "transaction-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "sluice:plugin/types": super::balancer::sluice::plugin::types,
            "sluice:plugin/log": super::balancer::sluice::plugin::log,
        },
    });
}

/// World `discovery-plugin`. What waits is async; types and the log are those of every kind.
pub(super) mod discovery {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "discovery-plugin",
        imports: {
            "sluice:plugin/clock.sleep-ms": async,
            "sluice:plugin/http.send": async,
            "sluice:plugin/http.[method]response.read": async | trappable,
            "sluice:plugin/http.[method]response.status": trappable,
            "sluice:plugin/http.[method]response.header": trappable,
            "sluice:plugin/http.[drop]response": trappable,
            "sluice:plugin/dns.addresses": async,
            "sluice:plugin/dns.services": async,
            "sluice:plugin/files.read": async,
            "sluice:plugin/registry.list-service": async,
        },
        exports: { default: async },
        with: {
            "sluice:plugin/types": super::balancer::sluice::plugin::types,
            "sluice:plugin/log": super::balancer::sluice::plugin::log,
            "sluice:plugin/http.response": crate::plugin::imports::http::OpenResponse,
        },
    });
}

/// World `event-handler-plugin`. What is asked of the world waits and is discovery's; what is stored is answered at once.
/// Events are borrowed: a batch is shown to the guest, and stays the runner's.
pub(super) mod event_handler {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "event-handler-plugin",
        imports: { default: trappable },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "sluice:plugin/types": super::balancer::sluice::plugin::types,
            "sluice:plugin/log": super::balancer::sluice::plugin::log,
            "sluice:plugin/http": super::discovery::sluice::plugin::http,
        },
    });
}
