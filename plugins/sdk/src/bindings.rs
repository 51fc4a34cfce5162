//! What `wit-bindgen` makes of `wit/`: plain types, raw imports, and the macros behind
//! [`balancer!`](crate::balancer!), [`failover!`](crate::failover!), [`discovery!`](crate::discovery!),
//! [`transaction!`](crate::transaction!) and [`event_handler!`](crate::event_handler!).
//!
//! A component's world is made of two halves, each with an `export!` of its own: what every kind has, here, and what
//! its own kind has, in [`balancer`], [`failover`], [`discovery`], [`transaction`] and [`event_handler`].

wit_bindgen::generate!({
    inline: "package sluice:sdk; world every-kind { import sluice:plugin/log@0.1.0; export sluice:plugin/policy@0.1.0; }",
    world: "sluice:sdk/every-kind",
    path: "wit",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "sluice_sdk::bindings",
    // The SDK has no static constructors; running them before each call would cost every pick.
    disable_run_ctors_once_workaround: true,
});

/// A balancer's own half.
pub mod balancer {
    wit_bindgen::generate!({
        inline: "package sluice:sdk; world balancer-half { import sluice:plugin/load@0.1.0; import sluice:plugin/incoming@0.1.0; export sluice:plugin/balancer@0.1.0; }",
        world: "sluice:sdk/balancer-half",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluice_sdk::bindings::balancer",
        with: { "sluice:plugin/types@0.1.0": crate::bindings::sluice::plugin::types },
        disable_run_ctors_once_workaround: true,
    });
}

/// The own half of a failover policy.
pub mod failover {
    wit_bindgen::generate!({
        inline: "package sluice:sdk; world failover-half { export sluice:plugin/failover@0.1.0; export sluice:plugin/health@0.1.0; }",
        world: "sluice:sdk/failover-half",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluice_sdk::bindings::failover",
        with: { "sluice:plugin/types@0.1.0": crate::bindings::sluice::plugin::types },
        // So that tests can compare verdicts and changes; an observation holds what cannot be compared.
        additional_derives: [PartialEq],
        additional_derives_ignore: ["observation"],
        disable_run_ctors_once_workaround: true,
    });
}

/// The own half of a source of endpoints.
pub mod discovery {
    wit_bindgen::generate!({
        inline: "package sluice:sdk; world discovery-half { import sluice:plugin/clock@0.1.0; import sluice:plugin/http@0.1.0; import sluice:plugin/dns@0.1.0; import sluice:plugin/files@0.1.0; import sluice:plugin/registry@0.1.0; export sluice:plugin/discovery@0.1.0; }",
        world: "sluice:sdk/discovery-half",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluice_sdk::bindings::discovery",
        with: { "sluice:plugin/types@0.1.0": crate::bindings::sluice::plugin::types },
        disable_run_ctors_once_workaround: true,
    });
}

/// The own half of a transaction protocol.
pub mod transaction {
    wit_bindgen::generate!({
        inline: "package sluice:sdk; world transaction-half { export sluice:plugin/transaction@0.1.0; }",
        world: "sluice:sdk/transaction-half",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluice_sdk::bindings::transaction",
        with: { "sluice:plugin/types@0.1.0": crate::bindings::sluice::plugin::types },
        // So that tests can compare steps and branches.
        additional_derives: [PartialEq],
        disable_run_ctors_once_workaround: true,
    });
}

/// The own half of an event handler. What it asks of the world it asks as a source of endpoints does.
pub mod event_handler {
    wit_bindgen::generate!({
        inline: "package sluice:sdk; world event-handler-half { import sluice:plugin/http@0.1.0; import sluice:plugin/state@0.1.0; import sluice:plugin/state-write@0.1.0; export sluice:plugin/event-handler@0.1.0; export sluice:plugin/read-model@0.1.0; }",
        world: "sluice:sdk/event-handler-half",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluice_sdk::bindings::event_handler",
        with: { "sluice:plugin/http@0.1.0": crate::bindings::discovery::sluice::plugin::http },
        // So that tests can compare events and effects.
        additional_derives: [PartialEq],
        disable_run_ctors_once_workaround: true,
    });
}
