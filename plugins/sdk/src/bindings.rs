//! What `wit-bindgen` makes of `wit/`: plain types, raw imports, and the macro behind
//! [`balancer!`](crate::balancer!).

wit_bindgen::generate!({
    world: "balancer-plugin",
    path: "wit",
    pub_export_macro: true,
    default_bindings_module: "sluice_sdk::bindings",
    // The SDK has no static constructors; running them before each call would cost every pick.
    disable_run_ctors_once_workaround: true,
});
