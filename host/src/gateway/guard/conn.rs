//! What one client connection is doing, shared by its reading side, its requests and the worker's reaper.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    task::Waker,
    time::Duration,
};

use super::{Place, Refusal};
use crate::model::{InstantUs, Limits};

/// How long a refused client may go on sending before the connection is cut. RFC 9112 §9.6: a server that closes
/// at once on a client still sending resets the connection, and the client never sees the answer. nginx and
/// Apache linger 5 s and 2 s.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// A worker's clock, moved on by the worker's tick: reading it costs a load.
#[derive(Clone, Debug, Default)]
pub struct CoarseClock(Rc<Cell<InstantUs>>);

impl CoarseClock {
    pub fn starting_at(now_us: InstantUs) -> Self {
        Self(Rc::new(Cell::new(now_us)))
    }

    pub fn set(&self, now_us: InstantUs) {
        self.0.set(now_us);
    }

    pub fn now_us(&self) -> InstantUs {
        self.0.get()
    }
}

/// One client connection.
pub struct ConnState {
    clock: CoarseClock,
    place: Cell<Place>,
    /// [`Phase::Tunnel`] or [`Phase::Closing`], from which nothing leads back.
    last_phase: Cell<Option<Phase>>,
    /// Part of a head has come.
    within_head: Cell<bool>,
    /// hyper waits for bytes.
    wants_bytes: Cell<bool>,
    /// Heads handed to hyper, requests begun by the service and requests ended.
    heads: Cell<u64>,
    begun: Cell<u64>,
    ended: Cell<u64>,
    /// Of the head, of idling, of closing: when the present phase began.
    since_us: Cell<InstantUs>,
    /// When the last byte of a body came, or was first waited for.
    read_us: Cell<InstantUs>,
    write_stalled_since: Cell<Option<InstantUs>>,
    refused: OnceCell<Refused>,
    /// What the reading side has yet to do.
    order: Cell<Option<Order>>,
    /// The number of the request that asked for another protocol.
    upgrade_request: Cell<u64>,
    /// Of the connection's task, where it waits for an order.
    waker: Cell<Option<Waker>>,
}

// A waker has nothing to show, and a cell of it no `Debug`.
impl std::fmt::Debug for ConnState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnState")
            .field("phase", &self.phase())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// The head that was refused, by the number of its request.
#[derive(Clone, Copy, Debug)]
struct Refused {
    refusal: Refusal,
    number: u64,
}

/// An order to the reading side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// What asked for another protocol was answered without changing to it: HTTP goes on.
    Resume,
    /// The time is up.
    Expire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests, or before the first.
    Idle,
    /// A head has begun to come.
    Head,
    /// hyper waits for more of a body.
    Body,
    /// A request is being served.
    Waiting,
    /// It speaks another protocol now.
    Tunnel,
    /// Answered and shut; what the client still sends is thrown away.
    Closing,
}

/// A connection that has used up its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Its head: [`ConnState::expire`] has it answered with 408.
    HeaderRead,
    /// A body's next byte: likewise.
    BodyRead,
    /// Its next request: close it.
    Idle,
    /// Its end: drop it.
    Closing,
}

/// Whether the connection is to be ended, and why.
pub fn overdue(conn: &ConnState, now_us: InstantUs, limits: &Limits) -> Option<Overdue> {
    let (since_us, limit, overdue) = match conn.phase() {
        Phase::Waiting | Phase::Tunnel => return None,
        Phase::Head => (conn.since_us.get(), limits.header_read_timeout, Overdue::HeaderRead),
        Phase::Idle => (conn.since_us.get(), limits.keep_alive_timeout, Overdue::Idle),
        Phase::Body => (conn.read_us.get(), limits.body_read_timeout, Overdue::BodyRead),
        Phase::Closing => (conn.since_us.get(), LINGER_TIMEOUT, Overdue::Closing),
    };
    let waited = Duration::from_micros(now_us.saturating_sub(since_us));
    (waited > limit).then_some(overdue)
}

impl ConnState {
    pub fn new(clock: CoarseClock) -> Rc<Self> {
        let now_us = clock.now_us();
        Rc::new(Self {
            clock,
            place: Cell::new(Place::Head),
            last_phase: Cell::new(None),
            within_head: Cell::new(false),
            wants_bytes: Cell::new(false),
            heads: Cell::new(0),
            begun: Cell::new(0),
            ended: Cell::new(0),
            since_us: Cell::new(now_us),
            read_us: Cell::new(now_us),
            write_stalled_since: Cell::new(None),
            refused: OnceCell::new(),
            order: Cell::new(None),
            upgrade_request: Cell::new(0),
            waker: Cell::new(None),
        })
    }

    /// To be called once, first of all, for each request that hyper hands to the service.
    pub fn next_request(self: &Rc<Self>) -> Turn {
        let number = self.begun.get() + 1;
        self.begun.set(number);
        Turn { conn: Rc::clone(self), number }
    }

    /// Whether a request is being served: hyper can then be told to say in its answer that it was the last.
    pub fn is_serving(&self) -> bool {
        self.begun.get() > self.ended.get()
    }

    pub fn phase(&self) -> Phase {
        if let Some(last) = self.last_phase.get() {
            return last;
        }
        match self.place.get() {
            Place::Body if self.wants_bytes.get() => Phase::Body,
            _ if self.heads.get() > self.ended.get() => Phase::Waiting,
            _ if self.within_head.get() => Phase::Head,
            _ => Phase::Idle,
        }
    }

    /// Since when the client has taken nothing of what is being written to it.
    pub fn write_stalled_since(&self) -> Option<InstantUs> {
        self.write_stalled_since.get()
    }

    /// Has an unfinished head answered with 408, and an unfinished body end with an error.
    pub fn expire(&self) {
        self.give(Order::Expire);
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What the reading and writing side says.
impl ConnState {
    pub(super) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    /// Bytes have come and have been looked at.
    pub(super) fn note_read(&self, heads: u64, place: Place, within_head: bool) {
        let now_us = self.clock.now_us();
        self.read_us.set(now_us);
        self.wants_bytes.set(false);
        if within_head && !self.within_head.get() {
            self.since_us.set(now_us);
        }
        self.within_head.set(within_head);
        self.heads.set(heads);
        self.place.set(place);
        if place == Place::UpgradeAsked {
            self.upgrade_request.set(heads);
        }
    }

    /// hyper wants bytes and none are there. The waker is kept where an order may have to end the wait.
    pub(super) fn note_want(&self, waker: &Waker) {
        if !self.wants_bytes.replace(true) {
            self.read_us.set(self.clock.now_us());
        }
        if self.within_head.get() || matches!(self.place.get(), Place::Body | Place::UpgradeAsked) {
            let kept = self.waker.take().filter(|kept| kept.will_wake(waker));
            self.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
        }
    }

    /// The head after `heads` good ones is refused: the last that hyper is handed stands for it.
    pub(super) fn refuse_head(&self, refusal: Refusal, heads: u64) {
        let number = heads + 1;
        self.note_read(number, Place::Refused, false);
        // The first refusal is the last: nothing is read after it.
        let _ = self.refused.set(Refused { refusal, number });
    }

    pub(super) fn refuse_body(&self) {
        self.place.set(Place::Refused);
    }

    pub(super) fn note_write(&self, is_stalled: bool) {
        if is_stalled != self.write_stalled_since.get().is_some() {
            self.write_stalled_since.set(is_stalled.then(|| self.clock.now_us()));
        }
    }

    pub(super) fn note_closing(&self) {
        if self.last_phase.replace(Some(Phase::Closing)).is_none() {
            self.since_us.set(self.clock.now_us());
        }
    }
}

/// One request's turn on its connection. Keep it until the answer is complete: its end starts the idle time.
#[derive(Debug)]
pub struct Turn {
    conn: Rc<ConnState>,
    number: u64,
}

impl Turn {
    /// Why the client's head is not served. What hyper shows in its stead is made up: answer with this refusal's
    /// status and close.
    pub fn refusal(&self) -> Option<Refusal> {
        self.conn.refused.get().filter(|refused| refused.number == self.number).map(|refused| refused.refusal)
    }

    /// The request's upgrade is being answered with 101: what the client sends now waits for
    /// [`super::GuardedIo::into_parts`], and no time limit of this connection's state holds any more.
    pub fn grant_upgrade(&self) {
        self.conn.last_phase.set(Some(Phase::Tunnel));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let conn = &self.conn;
        conn.ended.set(conn.ended.get() + 1);
        conn.since_us.set(conn.clock.now_us());
        let asked = conn.place.get() == Place::UpgradeAsked && conn.upgrade_request.get() == self.number;
        if asked && conn.phase() != Phase::Tunnel {
            conn.give(Order::Resume);
        }
    }
}
