//! What a plugin may ask of the gateway. In a native test the answers are those that the test gives with
//! [`testing`](crate::testing).

#[cfg(target_arch = "wasm32")]
use crate::bindings::sluice::plugin as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as host;

/// Load that the gateway counts.
pub mod load {
    use super::host;
    use crate::Slot;

    /// Requests to the endpoint that have not ended, the whole gateway over.
    #[inline]
    pub fn in_flight(slot: Slot) -> u32 {
        host::load::in_flight(slot)
    }
}

/// The request that a pick is for.
pub mod incoming {
    use super::host;
    use crate::Slot;

    /// Whether an earlier attempt of this request went there.
    #[inline]
    pub fn tried(slot: Slot) -> bool {
        host::incoming::tried(slot)
    }

    /// First value of a header that the route lists in `expose`; `name` in lower case.
    pub fn header(name: &str) -> Option<String> {
        host::incoming::header(name)
    }

    /// Path without query.
    pub fn path() -> String {
        host::incoming::path()
    }
}

/// Lines in the gateway's log.
pub mod log {
    use super::host;

    pub fn error(message: &str) {
        host::log::write(host::log::Level::Error, message);
    }

    pub fn warn(message: &str) {
        host::log::write(host::log::Level::Warn, message);
    }

    pub fn info(message: &str) {
        host::log::write(host::log::Level::Info, message);
    }

    pub fn debug(message: &str) {
        host::log::write(host::log::Level::Debug, message);
    }
}
