//! Does whatever its settings say: see the crate `behaviour`.

sluice_sdk::balancer!(behaviour::Behaviour<true>);
