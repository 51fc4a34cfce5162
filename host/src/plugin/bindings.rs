//! Typed functions from `wit/`, one module a world.

/// World `balancer-plugin`.
pub(super) mod balancer {
    wasmtime::component::bindgen!({ path: "../wit", world: "balancer-plugin" });
}
