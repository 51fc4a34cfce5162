//! What a balancer is, and how a type that is one becomes a component.

use std::cell::RefCell;

use crate::{Completion, Context, Endpoint, InstantUs, Problem, Request, Settings, Slot};

/// Which endpoint of a service gets a request. One instance a worker and service; the gateway calls `configure`,
/// `update`, perhaps `restore`, and then the rest in any order.
pub trait Balancer: Sized + 'static {
    /// Reads the settings. What is wrong with them is noted by [`Settings`], and then nobody uses the instance.
    fn configure(context: &Context, settings: &mut Settings) -> Self;

    /// The whole membership, each time it changes; may be empty. Has 1 s of CPU: what a pick needs is prepared here.
    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs);

    /// None where there is nothing to choose. Has 1 ms of CPU, so no allocation and no walk over all endpoints.
    fn pick(&mut self, request: &Request) -> Option<Slot>;

    /// How attempts ended, in batches. To be learned from; [`load::in_flight`](crate::load::in_flight) is what
    /// counts requests.
    fn complete(&mut self, _completions: &[Completion], _now: InstantUs) {}

    /// What a successor on this worker should know: see [`state`](crate::state). Empty for nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over what a predecessor saved, maybe of another version or another plugin. An error means that this
    /// instance starts fresh, and why.
    fn restore(&mut self, _state: &[u8]) -> Result<(), String> {
        Err("this policy keeps no state".to_owned())
    }
}

/// Makes a component of a type that is a [`Balancer`]. Once in a crate.
///
/// ```
/// use sluice_sdk::{Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot};
///
/// struct First(Option<Slot>);
///
/// impl Balancer for First {
///     fn configure(_: &Context, _: &mut Settings) -> Self {
///         First(None)
///     }
///
///     fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
///         self.0 = endpoints.iter().filter(|e| e.available).map(|e| e.slot).min();
///     }
///
///     fn pick(&mut self, _: &Request) -> Option<Slot> {
///         self.0
///     }
/// }
///
/// sluice_sdk::balancer!(First);
/// ```
#[macro_export]
macro_rules! balancer {
    ($policy:ty) => {
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::balancer::Instance<$policy> = const { $crate::balancer::Instance::new() };
            }

            impl $crate::bindings::exports::sluice::plugin::policy::Guest for Component {
                fn configure(context: $crate::Context) -> Result<(), Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.configure(&context))
                }

                fn save() -> Vec<u8> {
                    INSTANCE.with(|instance| instance.with(|policy| $crate::Balancer::save(policy)))
                }

                fn restore(state: Vec<u8>) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.with(|policy| $crate::Balancer::restore(policy, &state)))
                }
            }

            impl $crate::bindings::balancer::exports::sluice::plugin::balancer::Guest for Component {
                fn update(endpoints: Vec<$crate::Endpoint>, now: $crate::InstantUs) {
                    INSTANCE.with(|instance| instance.with(|policy| $crate::Balancer::update(policy, &endpoints, now)))
                }

                #[inline]
                fn pick(request: $crate::Request) -> Option<$crate::Slot> {
                    INSTANCE.with(|instance| instance.with(|policy| $crate::Balancer::pick(policy, &request)))
                }

                fn complete(completions: Vec<$crate::Completion>, now: $crate::InstantUs) {
                    INSTANCE
                        .with(|instance| instance.with(|policy| $crate::Balancer::complete(policy, &completions, now)))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
    $crate::bindings::balancer::export!(Component with_types_in $crate::bindings::balancer);
        };
    };
}

/// Where a component keeps its one policy. Part of [`balancer!`](crate::balancer!).
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(RefCell<Option<P>>);

impl<P: Balancer> Instance<P> {
    #[expect(clippy::new_without_default, reason = "a static is made of it, which Default cannot do")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, context: &Context) -> Result<(), Vec<Problem>> {
        #[cfg(all(target_arch = "wasm32", feature = "panic-messages"))]
        std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
        let mut settings = Settings::parse(&context.settings);
        let policy = P::configure(context, &mut settings);
        let problems = settings.finish();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.replace(Some(policy));
        Ok(())
    }

    #[inline]
    pub fn with<R>(&self, call: impl FnOnce(&mut P) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("the gateway configures an instance before anything else"))
    }
}
