//! What an event handler is, and how a type that is one becomes a component.
//!
//! A handler follows the events that it subscribes to. What it makes of them it stores in a [`State`] of its own, from
//! which `read` answers clients; what shall happen because of them goes into [`Effects`]. State, effects and the handler's
//! place in the log are one commit, so each event has its effect on the state exactly once.
//! [`testing::event_handler`] plays a handler natively.
//!
//! [`testing::event_handler`]: crate::testing::event_handler

mod effects;
mod reading;
mod state;
mod structured;

use std::cell::RefCell;

pub use crate::bindings::event_handler::{
    exports::sluice::plugin::{
        event_handler::{Call, Caused, Effect, Subscription},
        read_model::{Answer, Query},
    },
    sluice::plugin::events::{Draft, Event},
};
pub use effects::Effects;
pub use reading::Page;
pub use state::{State, number};
pub use structured::{STRUCTURED, rfc3339};

use crate::{Context, Problem, Settings, bindings::event_handler::exports::sluice::plugin::event_handler as wit};

/// What an event causes: a projection, a reactor, or both. Instances come and go, `handle` and `read` run in different
/// ones: whatever shall last stands in the state.
pub trait EventHandler: Sized + 'static {
    /// Reads the settings. What is wrong with them is noted by [`Settings`], and then nobody uses the instance.
    fn configure(context: &Context, settings: &mut Settings) -> Self;

    /// Which events it wants: everything, unless it says otherwise.
    fn subscription(&self) -> Subscription {
        Subscription { types: Vec::new(), streams: Vec::new() }
    }

    /// One event. Given the same events and settings it must write and cause the same again: a new version is made by
    /// replay. A batch of events has 1 s of CPU; waiting in [`http`](crate::http) costs none, and after a minute the
    /// gateway gives up.
    fn handle(&mut self, event: &Event, state: &mut State, effects: &mut Effects) -> Result<(), Failure>;

    /// A client's question, under `/projections/NAME/…`, from the state as of one commit. Has 100 ms of CPU.
    fn read(&self, query: &Query, state: &State) -> Answer {
        let _ = (query, state);
        Answer::not_found("this handler has nothing to read")
    }
}

/// Why an event could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    transient: bool,
    message: String,
}

impl Failure {
    /// The event is tried again later.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { transient: true, message: message.into() }
    }

    /// Trying again would not help: the event is parked, or the handler halts, as its setting says.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { transient: false, message: message.into() }
    }

    pub fn is_transient(&self) -> bool {
        self.transient
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Settings `types` and `streams`: names, or beginnings of names with a `*` behind; without them everything.
pub fn subscription_settings(settings: &mut Settings) -> Subscription {
    let mut patterns = |key: &'static str| {
        let given = settings.texts(key);
        let is_wrong = |text: &String| text.is_empty() || text.trim_end_matches('*').len() + 1 < text.len();
        if given.iter().any(|text| is_wrong(text) || text.trim_end_matches('*').contains('*')) {
            settings.problem(key, "must be names, or beginnings of names with a \"*\" behind, such as \"order.*\"");
        }
        given
    };
    Subscription { types: patterns("types"), streams: patterns("streams") }
}

/// Makes a component of a type that is an [`EventHandler`](event_handler::EventHandler). Once in a crate.
///
/// ```
/// use sluice_sdk::{
///     Context, Settings,
///     event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State},
/// };
///
/// /// Counts the events of each stream.
/// struct Counts;
///
/// impl EventHandler for Counts {
///     fn configure(_: &Context, _: &mut Settings) -> Self {
///         Counts
///     }
///
///     fn handle(&mut self, event: &Event, state: &mut State, _: &mut Effects) -> Result<(), Failure> {
///         state.add(&event.draft.stream_name, 1);
///         Ok(())
///     }
///
///     fn read(&self, query: &Query, state: &State) -> Answer {
///         Answer::json(state.number(&query.path).to_string())
///     }
/// }
///
/// sluice_sdk::event_handler!(Counts);
/// ```
#[macro_export]
macro_rules! event_handler {
    ($handler:ty) => {
        const _: () = {
            use $crate::{bindings::event_handler::exports::sluice::plugin as wit, event_handler as kind};

            struct Component;

            ::std::thread_local! {
                static INSTANCE: kind::Instance<$handler> = const { kind::Instance::new() };
            }

            impl $crate::bindings::exports::sluice::plugin::policy::Guest for Component {
                fn configure(context: $crate::Context) -> Result<(), Vec<$crate::Problem>> {
                    INSTANCE.with(|instance| instance.configure(&context))
                }

                // What lasts stands in the state.
                fn save() -> Vec<u8> {
                    Vec::new()
                }

                fn restore(_: Vec<u8>) -> Result<(), String> {
                    Err("an event handler keeps what it knows in its state".to_owned())
                }
            }

            impl wit::event_handler::Guest for Component {
                fn subscribe() -> kind::Subscription {
                    INSTANCE.with(|instance| instance.with(|handler| kind::EventHandler::subscription(handler)))
                }

                fn handle(events: Vec<kind::Event>) -> Result<Vec<kind::Caused>, wit::event_handler::Failure> {
                    INSTANCE.with(|instance| instance.with(|handler| kind::handle(handler, &events)))
                }
            }

            impl wit::read_model::Guest for Component {
                fn read(query: kind::Query) -> kind::Answer {
                    INSTANCE.with(|instance| {
                        instance.with(|handler| kind::EventHandler::read(handler, &query, &kind::State::new()))
                    })
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
    $crate::bindings::event_handler::export!(Component with_types_in $crate::bindings::event_handler);
        };
    };
}

/// A batch, event by event; at the first that cannot be handled it ends.
pub fn handle(handler: &mut impl EventHandler, events: &[Event]) -> Result<Vec<Caused>, wit::Failure> {
    let (mut state, mut effects) = (State::new(), Effects::default());
    for (at, event) in (0..).zip(events) {
        effects.by = at;
        let handled = handler.handle(event, &mut state, &mut effects);
        handled.map_err(|Failure { transient, message }| wit::Failure { at, transient, message })?;
    }
    Ok(effects.caused)
}

/// Where a component keeps its one handler. Part of [`event_handler!`](crate::event_handler!).
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<H>(RefCell<Option<H>>);

impl<H: EventHandler> Instance<H> {
    #[expect(clippy::new_without_default, reason = "a static is made of it, which Default cannot do")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, context: &Context) -> Result<(), Vec<Problem>> {
        #[cfg(all(target_arch = "wasm32", feature = "panic-messages"))]
        std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
        let mut settings = Settings::parse(&context.settings);
        let handler = H::configure(context, &mut settings);
        let problems = settings.finish();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.replace(Some(handler));
        Ok(())
    }

    pub fn with<R>(&self, call: impl FnOnce(&mut H) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("the gateway configures an instance before anything else"))
    }
}
