//! What groups promise.

mod crashes;
mod promises;
mod webhooks;
mod world;
