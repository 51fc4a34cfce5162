//! Takes the settings of `hostile`, and takes turns.

sluice_sdk::balancer!(behaviour::Behaviour<false>);
