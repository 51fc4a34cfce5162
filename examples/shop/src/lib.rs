//! A shop of three services: what `make run` puts behind the gateway.
//!
//! `inventory` keeps the catalogue and the stock, `payments` charges cards, `orders` takes orders: it reserves
//! at inventory and charges at payments, *through the gateway*, and gives the reservation back where the
//! charge is refused. Or it has the gateway's coordinator do all of that as one transaction ([`coordinator`]), of
//! which the three services are participants ([`participant`], behind a [`barrier`]). What happens to an order stands in the
//! gateway's event store ([`events`]), and an event alone can place one: `plugins/` has the handlers that follow them.
//!
//! Each runs as two instances that share what they know, as they would share a database: here a locked file ([`store`]).
//! So it does not matter which of them is called, nor whether another one began what it ends. Every answer names the
//! instance that gave it. Nobody is told where they are: each registers itself with the gateway while it serves
//! ([`registration`]).

pub mod barrier;
pub mod coordinator;
pub mod events;
pub mod participant;
pub mod recent;
pub mod registration;
pub mod reply;
pub mod services;
pub mod store;
pub mod traffic;
pub mod up;
