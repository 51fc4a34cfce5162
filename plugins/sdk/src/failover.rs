//! What a failover policy is, and how a type that is one becomes a component.
//!
//! A policy has two halves, and an instance is used for one of them only. On each *worker*, `decide` says what becomes
//! of a failed attempt, and `complete` when a second copy of a request is sent. Once a *service*, `observe` sees
//! how all attempts ended, and says which endpoints are fit for traffic. Who cares about one half takes the other from
//! here: [`Retries`] has the usual rules for retries, and [`Outliers`] ejects endpoints that fail.

mod ejections;
mod endpoints;
mod evidence;
mod outlier_rules;
mod outliers;
mod retries;

use std::cell::RefCell;

pub use crate::bindings::failover::exports::sluice::plugin::{
    failover::{Failure, Verdict},
    health::{Change, Ejection, Observation, Source},
};
pub use ejections::{EJECTION_MS_MAX, FORMAT as EJECTIONS_FORMAT, Saved, ejection_ms, restored, saved};
pub use endpoints::{Endpoints, Known, VERDICT_GRACE_US, began};
pub use evidence::{Evidence, outcome_in_words};
pub use outlier_rules::OutlierRules;
pub use outliers::Outliers;
pub use retries::Retries;

use crate::{Completion, Context, Endpoint, InstantUs, Problem, Settings};

/// What becomes of a failed attempt, and which endpoints are fit for traffic. The gateway bounds both, whatever the
/// answers: attempts, deadline, budget, the share that is ejected and for how long.
pub trait Failover: Sized + 'static {
    /// Reads the settings. What is wrong with them is noted by [`Settings`], and then nobody uses the instance.
    fn configure(context: &Context, settings: &mut Settings) -> Self;

    /// On a worker: what becomes of a failed attempt. Has 1 ms of CPU.
    fn decide(&mut self, _failure: &Failure) -> Verdict {
        Verdict::GiveUp
    }

    /// On a worker: how its attempts ended, in batches. Answers after how many microseconds without a response head a
    /// second copy of a request is sent from now on; none: never.
    fn complete(&mut self, _completions: &[Completion], _now: InstantUs) -> Option<u32> {
        None
    }

    /// For the service: the whole membership, each time it changes, this instance's own verdicts included.
    fn update(&mut self, _endpoints: &[Endpoint], _now: InstantUs) {}

    /// For the service: what all workers and the active checks saw, at least every 100 ms; may be empty.
    fn observe(&mut self, _observations: &[Observation], _now: InstantUs) -> Vec<Change> {
        Vec::new()
    }

    /// What a successor of the same half should know: see [`state`](crate::state). Empty for nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over what a predecessor saved, maybe of another version or another plugin. An error means that this
    /// instance starts fresh, and why.
    fn restore(&mut self, _state: &[u8]) -> Result<(), String> {
        Err("this policy keeps no state".to_owned())
    }
}

/// Makes a component of a type that is a [`Failover`](failover::Failover). Once in a crate.
///
/// ```
/// use sluice_sdk::{Context, Outcome, Settings, failover::{Failover, Failure, Verdict}};
///
/// /// Tries once more where there was no connection.
/// struct OnceMore;
///
/// impl Failover for OnceMore {
///     fn configure(_: &Context, _: &mut Settings) -> Self {
///         OnceMore
///     }
///
///     fn decide(&mut self, failure: &Failure) -> Verdict {
///         let again = failure.repeatable && failure.retries_left > 0 && failure.attempts == 1 && failure.outcome == Outcome::ConnectFailed;
///         if again { Verdict::Retry(0) } else { Verdict::GiveUp }
///     }
/// }
///
/// sluice_sdk::failover!(OnceMore);
/// ```
#[macro_export]
macro_rules! failover {
    ($policy:ty) => {
        const _: () = {
            use $crate::failover as kind;

            struct Component;

            ::std::thread_local! {
                static INSTANCE: kind::Instance<$policy> = const { kind::Instance::new() };
            }

            impl $crate::bindings::exports::sluice::plugin::policy::Guest for Component {
                fn configure(context: $crate::Context) -> Result<(), Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.configure(&context))
                }

                fn save() -> Vec<u8> {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Failover::save(policy)))
                }

                fn restore(state: Vec<u8>) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Failover::restore(policy, &state)))
                }
            }

            impl $crate::bindings::failover::exports::sluice::plugin::failover::Guest for Component {
                fn decide(failure: kind::Failure) -> kind::Verdict {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Failover::decide(policy, &failure)))
                }

                fn complete(completions: Vec<$crate::Completion>, now: $crate::InstantUs) -> Option<u32> {
                    INSTANCE
                        .with(|instance| instance.with(|policy| kind::Failover::complete(policy, &completions, now)))
                }
            }

            impl $crate::bindings::failover::exports::sluice::plugin::health::Guest for Component {
                fn update(endpoints: Vec<$crate::Endpoint>, now: $crate::InstantUs) {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Failover::update(policy, &endpoints, now)))
                }

                fn observe(observations: Vec<kind::Observation>, now: $crate::InstantUs) -> Vec<kind::Change> {
                    INSTANCE
                        .with(|instance| instance.with(|policy| kind::Failover::observe(policy, &observations, now)))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
    $crate::bindings::failover::export!(Component with_types_in $crate::bindings::failover);
        };
    };
}

/// Where a component keeps its one policy. Part of [`failover!`](crate::failover!).
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(RefCell<Option<P>>);

impl<P: Failover> Instance<P> {
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

    pub fn with<R>(&self, call: impl FnOnce(&mut P) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("the gateway configures an instance before anything else"))
    }
}
