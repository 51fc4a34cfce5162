//! What a transaction protocol is, and how a type that is one becomes a component.
//!
//! A protocol is two pure functions. `plan` reads what a client has sent, with [`request`], and answers branches. `next`
//! sees all that has happened to a transaction and says what comes next; [`view`] answers what protocols ask of it, and
//! [`two_phase`] is what those have in common whose branches prepare and then commit. [`testing::transaction`] plays a
//! protocol through every interleaving of answers, losses and crashes, and finds where it goes wrong.
//!
//! [`testing::transaction`]: crate::testing::transaction

pub mod request;
pub mod two_phase;
pub mod view;

use std::cell::RefCell;

pub use crate::bindings::transaction::exports::sluice::plugin::transaction::{
    Branch, Decision, Operation, Phase, Progress, Reference, Step, View,
};
pub use request::{Problems, Request};

use crate::{Context, Problem, Settings};

/// A distributed-commit protocol. The gateway keeps the record, makes and repeats the calls, and stops a transaction whose
/// protocol breaks a rule.
pub trait Protocol: Sized + 'static {
    /// Reads the settings. What is wrong with them is noted by [`Settings`], and then nobody uses the instance.
    fn configure(context: &Context, settings: &mut Settings) -> Self;

    /// The branches that a client's request adds to those that are enlisted: none yet for the submission, and for a branch
    /// that is registered later those so far. What is noted in `problems` is what is wrong with the request, and then
    /// nothing is stored. Has 50 ms of CPU.
    fn plan(&self, request: &Request, enlisted: &[Branch], problems: &mut Problems) -> Vec<Branch>;

    /// What comes next. The same view must always have the same answer: recovery is asking again. Has 20 ms of CPU.
    fn next(&self, view: &View) -> Step;
}

/// Makes a component of a type that is a [`Protocol`](transaction::Protocol). Once in a crate.
///
/// ```
/// use sluice_sdk::{
///     Context, Settings,
///     transaction::{Branch, Decision, Operation, Phase, Problems, Protocol, Request, Step, View, view},
/// };
///
/// /// Tells everybody whom a request names, until all have heard it.
/// struct Tell;
///
/// impl Protocol for Tell {
///     fn configure(_: &Context, _: &mut Settings) -> Self {
///         Tell
///     }
///
///     fn plan(&self, request: &Request, _: &[Branch], problems: &mut Problems) -> Vec<Branch> {
///         let targets = request.entries("whom", problems);
///         let branch = |(index, target): (usize, Request)| Branch {
///             id: format!("{:02}", index + 1),
///             operations: vec![Operation {
///                 name: "tell".to_owned(),
///                 target: target.required_text("url", problems),
///                 phase: Phase::Committed,
///                 by_client: false,
///             }],
///             after: Vec::new(),
///             payload: None,
///         };
///         targets.into_iter().enumerate().map(branch).collect()
///     }
///
///     fn next(&self, view: &View) -> Step {
///         match (view.decision, view.asked) {
///             (Some(decision), _) => view::settle(view, decision),
///             (None, Some(asked)) => Step::Decide(asked),
///             (None, None) => Step::Wait,
///         }
///     }
/// }
///
/// sluice_sdk::transaction!(Tell);
/// ```
#[macro_export]
macro_rules! transaction {
    ($protocol:ty) => {
        const _: () = {
            use $crate::transaction as kind;

            struct Component;

            ::std::thread_local! {
                static INSTANCE: kind::Instance<$protocol> = const { kind::Instance::new() };
            }

            impl $crate::bindings::exports::sluice::plugin::policy::Guest for Component {
                fn configure(context: $crate::Context) -> Result<(), Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.configure(&context))
                }

                // What a transaction's past is, the gateway says with each call.
                fn save() -> Vec<u8> {
                    Vec::new()
                }

                fn restore(_: Vec<u8>) -> Result<(), String> {
                    Err("a protocol keeps no state".to_owned())
                }
            }

            impl $crate::bindings::transaction::exports::sluice::plugin::transaction::Guest for Component {
                fn plan(
                    request: String,
                    enlisted: Vec<kind::Branch>,
                ) -> Result<Vec<kind::Branch>, Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.with(|protocol| kind::plan(protocol, &request, &enlisted)))
                }

                fn next(view: kind::View) -> kind::Step {
                    INSTANCE.with(|instance| instance.with(|protocol| kind::Protocol::next(protocol, &view)))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
    $crate::bindings::transaction::export!(Component with_types_in $crate::bindings::transaction);
        };
    };
}

/// What a protocol makes of a request as it came: the branches to add, or everything that is wrong.
pub fn plan(protocol: &impl Protocol, request: &str, enlisted: &[Branch]) -> Result<Vec<Branch>, Vec<Problem>> {
    let mut problems = Problems::default();
    let Some(request) = request::parse(request) else {
        problems.note("", "the request must be a JSON object");
        return Err(problems.finish());
    };
    let branches = protocol.plan(&Request::whole(&request), enlisted, &mut problems);
    let problems = problems.finish();
    if problems.is_empty() { Ok(branches) } else { Err(problems) }
}

/// Where a component keeps its one protocol. Part of [`transaction!`](crate::transaction!).
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(RefCell<Option<P>>);

impl<P: Protocol> Instance<P> {
    #[expect(clippy::new_without_default, reason = "a static is made of it, which Default cannot do")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, context: &Context) -> Result<(), Vec<Problem>> {
        #[cfg(all(target_arch = "wasm32", feature = "panic-messages"))]
        std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
        let mut settings = Settings::parse(&context.settings);
        let protocol = P::configure(context, &mut settings);
        let problems = settings.finish();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.replace(Some(protocol));
        Ok(())
    }

    pub fn with<R>(&self, call: impl FnOnce(&P) -> R) -> R {
        call(self.0.borrow().as_ref().expect("the gateway configures an instance before anything else"))
    }
}
