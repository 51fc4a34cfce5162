//! What a plugin may ask of the gateway. In a native test the answers are those that the test gives with
//! [`testing`](crate::testing).

#[cfg(target_arch = "wasm32")]
mod host {
    pub use crate::bindings::{
        balancer::sluice::plugin::{incoming, load},
        event_handler::sluice::plugin::{state, state_write},
        sluice::plugin::log,
    };
}
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

/// What an event handler has stored: behind [`State`](crate::event_handler::State).
pub(crate) mod stored {
    pub(crate) use super::host::{
        state::{get, scan},
        state_write::{delete, put},
    };
}

/// Time, for plugins that wait.
pub mod clock {
    use crate::{InstantUs, bindings::discovery::sluice::plugin::clock as host};

    pub fn now() -> InstantUs {
        host::now()
    }

    /// Waits; costs no CPU.
    pub fn sleep_ms(duration: u32) {
        host::sleep_ms(duration);
    }
}

/// Outbound HTTP, to the hosts in `allow_hosts` and, under `service://NAME/path`, the gateway's own services in
/// `allow_services`. Redirects are not followed.
pub mod http {
    pub use crate::bindings::discovery::sluice::plugin::http::{Error, Request, Response, send};

    /// Largest body that [`body`] reads.
    const BODY_BYTES_MAX: usize = 8 << 20;
    /// Of one piece.
    const PIECE_BYTES: u32 = 64 << 10;

    /// The rest of a response's body; `timeout_ms` is for each piece.
    pub fn body(response: &Response, timeout_ms: u32) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = response.read(PIECE_BYTES, timeout_ms)? {
            body.extend_from_slice(&piece);
            if body.len() > BODY_BYTES_MAX {
                return Err(Error::Malformed("the body is larger than 8 MiB".to_owned()));
            }
        }
        Ok(body)
    }

    /// What went wrong, in words.
    pub fn in_words(error: &Error) -> String {
        match error {
            Error::NotAllowed(why) => format!("not allowed: {why}"),
            Error::Unreachable(why) => format!("unreachable: {why}"),
            Error::TimedOut => "timed out".to_owned(),
            Error::Malformed(why) => format!("no HTTP: {why}"),
        }
    }
}

/// Names, for those granted in `allow_names`.
pub mod dns {
    pub use crate::bindings::discovery::sluice::plugin::dns::{Error, Target, addresses, services};
}

/// The files in `allow_files`.
pub mod files {
    pub use crate::bindings::discovery::sluice::plugin::files::{Error, read};
}

/// The gateway's own registry.
pub mod registry {
    pub use crate::bindings::discovery::sluice::plugin::registry::{Listing, list_service};
}
