//! What groups promise.

mod crashes;
mod promises;
mod races;
mod webhooks;
mod world;
