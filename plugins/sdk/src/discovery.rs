//! What a source of membership is, and how a type that is one becomes a component.

use std::cell::RefCell;

use crate::{Context, Problem, Settings};
pub use crate::{
    bindings::discovery::exports::sluice::plugin::discovery::{Membership, WatchError},
    bindings::sluice::plugin::types::Instance as Member,
};

/// What a source answers: none where nothing has changed.
pub type Watched = Result<Option<Membership>, WatchError>;

/// Where a service's endpoints come from. One instance a service; it may wait in [`http`](crate::http),
/// [`dns`](crate::dns), [`files`](crate::files), [`registry`](crate::registry) and [`clock`](crate::clock).
pub trait Discovery: Sized + 'static {
    /// Reads the settings. What is wrong with them is noted by [`Settings`], and then nobody uses the instance.
    fn configure(context: &Context, settings: &mut Settings) -> Self;

    /// Without a cursor: the membership now. With one (of an answer of this plugin, perhaps from before a restart of
    /// the gateway): waits until the membership is another than that, at most `wait_ms`. Has 2 s of CPU; waiting
    /// costs none, and 10 s after `wait_ms` the gateway gives up.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched;
}

/// An instance of weight 1 and priority 0, healthy, without zone and metadata.
pub fn member(id: impl Into<String>, address: impl Into<String>) -> Member {
    Member {
        id: id.into(),
        address: address.into(),
        weight: 1,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        healthy: true,
    }
}

/// `host:port`, an IPv6 address in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Makes a component of a type that is a [`Discovery`]. Once in a crate.
///
/// ```
/// use sluice_sdk::{Context, Settings, discovery::{Discovery, Membership, Watched, member}};
///
/// struct One(String);
///
/// impl Discovery for One {
///     fn configure(_: &Context, settings: &mut Settings) -> Self {
///         One(settings.text("address", "127.0.0.1:9001"))
///     }
///
///     fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
///         if cursor.is_some() {
///             sluice_sdk::clock::sleep_ms(wait_ms);
///             return Ok(None);
///         }
///         Ok(Some(Membership { instances: vec![member("one", &self.0)], cursor: "1".into() }))
///     }
/// }
///
/// sluice_sdk::discovery!(One);
/// ```
#[macro_export]
macro_rules! discovery {
    ($source:ty) => {
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::discovery::Instance<$source> = const { $crate::discovery::Instance::new() };
            }

            impl $crate::bindings::exports::sluice::plugin::policy::Guest for Component {
                fn configure(context: $crate::Context) -> Result<(), Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.configure(&context))
                }

                fn save() -> Vec<u8> {
                    Vec::new()
                }

                fn restore(_: Vec<u8>) -> Result<(), String> {
                    Err("a source keeps no state but its cursor".to_owned())
                }
            }

            impl $crate::bindings::discovery::exports::sluice::plugin::discovery::Guest for Component {
                fn watch(cursor: Option<String>, wait_ms: u32) -> $crate::discovery::Watched {
                    INSTANCE.with(|instance| instance.watch(cursor.as_deref(), wait_ms))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
    $crate::bindings::discovery::export!(Component with_types_in $crate::bindings::discovery);
        };
    };
}

/// Where a component keeps its one source. Part of [`discovery!`](crate::discovery!).
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<D>(RefCell<Option<D>>);

impl<D: Discovery> Instance<D> {
    #[expect(clippy::new_without_default, reason = "a static is made of it, which Default cannot do")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, context: &Context) -> Result<(), Vec<Problem>> {
        #[cfg(all(target_arch = "wasm32", feature = "panic-messages"))]
        std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
        let mut settings = Settings::parse(&context.settings);
        let source = D::configure(context, &mut settings);
        let problems = settings.finish();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.replace(Some(source));
        Ok(())
    }

    pub fn watch(&self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let mut source = self.0.borrow_mut();
        source.as_mut().expect("the gateway configures an instance before anything else").watch(cursor, wait_ms)
    }
}
