//! What one client connection is doing, shared by its reading side, its requests and the worker's reaper.
//!
//! All of it belongs to one thread; the fields are relaxed atomics only because hyper asks of an upgradable
//! connection's I/O that it be `Send`.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
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
pub struct CoarseClock(Arc<AtomicU64>);

impl CoarseClock {
    pub fn starting_at(now_us: InstantUs) -> Self {
        Self(Arc::new(AtomicU64::new(now_us)))
    }

    pub fn set(&self, now_us: InstantUs) {
        self.0.store(now_us, Relaxed);
    }

    pub fn now_us(&self) -> InstantUs {
        self.0.load(Relaxed)
    }
}

/// One client connection.
#[derive(Debug)]
pub struct ConnState {
    clock: CoarseClock,
    /// Where the next byte stands.
    place: AtomicU8,
    /// Part of a head has come.
    within_head: AtomicBool,
    /// hyper waits for bytes.
    wants_bytes: AtomicBool,
    /// Heads handed to hyper, requests begun by the service and requests ended.
    heads: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    /// Of the head, of idling, of closing: when the present phase began.
    since_us: AtomicU64,
    /// When the last byte of a body came, or was first waited for.
    read_us: AtomicU64,
    /// When a write first found the socket full; 0 while writes go on.
    write_stalled_us: AtomicU64,
    refused: OnceLock<Refused>,
    /// What the reading side has yet to do.
    order: AtomicU8,
    /// The number of the request that asked for another protocol.
    upgrade_request: AtomicU64,
    /// Of the connection's task, where it waits for an order.
    waker: Mutex<Option<Waker>>,
}

/// What was refused: a head, with the number it would have had, or the framing of a body.
#[derive(Clone, Copy, Debug)]
struct Refused {
    refusal: Refusal,
    head: Option<u64>,
}

/// An order to the reading side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    None,
    Tunnel,
    NoTunnel,
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
        Phase::Head => (conn.since_us.load(Relaxed), limits.header_read_timeout, Overdue::HeaderRead),
        Phase::Idle => (conn.since_us.load(Relaxed), limits.keep_alive_timeout, Overdue::Idle),
        Phase::Body => (conn.read_us.load(Relaxed), limits.body_read_timeout, Overdue::BodyRead),
        Phase::Closing => (conn.since_us.load(Relaxed), LINGER_TIMEOUT, Overdue::Closing),
    };
    let waited = Duration::from_micros(now_us.saturating_sub(since_us));
    (waited > limit).then_some(overdue)
}

impl ConnState {
    pub fn new(clock: CoarseClock) -> Arc<Self> {
        let now_us = clock.now_us();
        Arc::new(Self {
            clock,
            place: AtomicU8::new(Place::Head as u8),
            within_head: AtomicBool::new(false),
            wants_bytes: AtomicBool::new(false),
            heads: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            since_us: AtomicU64::new(now_us),
            read_us: AtomicU64::new(now_us),
            write_stalled_us: AtomicU64::new(0),
            refused: OnceLock::new(),
            order: AtomicU8::new(Order::None as u8),
            upgrade_request: AtomicU64::new(0),
            waker: Mutex::new(None),
        })
    }

    /// To be called once, first of all, for each request that hyper hands to the service.
    pub fn next_request(self: &Arc<Self>) -> Turn {
        let number = self.begun.load(Relaxed) + 1;
        self.begun.store(number, Relaxed);
        Turn { conn: Arc::clone(self), number }
    }

    pub fn phase(&self) -> Phase {
        let place = self.place.load(Relaxed);
        if place == CLOSING {
            Phase::Closing
        } else if place == Place::Tunnel as u8 {
            Phase::Tunnel
        } else if place == Place::Body as u8 && self.wants_bytes.load(Relaxed) {
            Phase::Body
        } else if self.heads.load(Relaxed) > self.ended.load(Relaxed) {
            Phase::Waiting
        } else if self.within_head.load(Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Why this connection takes nothing more from its client; also why a request's body ended with an error.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refused.get().map(|refused| refused.refusal)
    }

    /// Since when the client has taken nothing of what is being written to it.
    pub fn write_stalled_since(&self) -> Option<InstantUs> {
        Some(self.write_stalled_us.load(Relaxed)).filter(|&since_us| since_us > 0)
    }

    /// Has an unfinished head answered with 408, and an unfinished body end with an error.
    pub fn expire(&self) {
        self.give(Order::Expire);
    }

    fn give(&self, order: Order) {
        self.order.store(order as u8, Relaxed);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

/// [`Phase::Closing`] as a value of `ConnState::place`, beside those of [`Place`].
const CLOSING: u8 = u8::MAX;

/// What the reading and writing side says.
impl ConnState {
    pub(super) fn take_order(&self) -> Order {
        let order = self.order.load(Relaxed);
        if order == Order::None as u8 {
            return Order::None;
        }
        self.order.store(Order::None as u8, Relaxed);
        match order {
            order if order == Order::Tunnel as u8 => Order::Tunnel,
            order if order == Order::NoTunnel as u8 => Order::NoTunnel,
            _ => Order::Expire,
        }
    }

    /// Bytes have come and have been looked at.
    pub(super) fn note_read(&self, heads: u64, place: Place, within_head: bool) {
        let now_us = self.clock.now_us();
        self.read_us.store(now_us, Relaxed);
        self.wants_bytes.store(false, Relaxed);
        if within_head && !self.within_head.load(Relaxed) {
            self.since_us.store(now_us, Relaxed);
        }
        self.within_head.store(within_head, Relaxed);
        self.heads.store(heads, Relaxed);
        self.place.store(place as u8, Relaxed);
        if place == Place::UpgradeAsked {
            self.upgrade_request.store(heads, Relaxed);
        }
    }

    /// hyper wants bytes and none are there. The waker is kept where an order may have to end the wait.
    pub(super) fn note_want(&self, waker: &Waker) {
        if !self.wants_bytes.load(Relaxed) {
            self.wants_bytes.store(true, Relaxed);
            self.read_us.store(self.clock.now_us(), Relaxed);
        }
        let place = self.place.load(Relaxed);
        let within_message = place == Place::Body as u8 || self.within_head.load(Relaxed);
        if within_message || place == Place::UpgradeAsked as u8 {
            let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *kept {
                Some(kept) => kept.clone_from(waker),
                None => *kept = Some(waker.clone()),
            }
        }
    }

    /// The head after `heads` good ones is refused: the last that hyper is handed stands for it.
    pub(super) fn refuse_head(&self, refusal: Refusal, heads: u64) {
        let number = heads + 1;
        self.note_read(number, Place::Refused, false);
        // The first refusal is the last: nothing is read after it.
        let _ = self.refused.set(Refused { refusal, head: Some(number) });
    }

    pub(super) fn refuse_body(&self, refusal: Refusal) {
        self.place.store(Place::Refused as u8, Relaxed);
        let _ = self.refused.set(Refused { refusal, head: None });
    }

    pub(super) fn note_write(&self, is_stalled: bool) {
        let stalled_us = self.write_stalled_us.load(Relaxed);
        if is_stalled != (stalled_us > 0) {
            self.write_stalled_us.store(if is_stalled { self.clock.now_us() } else { 0 }, Relaxed);
        }
    }

    pub(super) fn note_closing(&self) {
        if self.place.load(Relaxed) != CLOSING {
            self.place.store(CLOSING, Relaxed);
            self.since_us.store(self.clock.now_us(), Relaxed);
        }
    }
}

/// One request's turn on its connection. Keep it until the answer is complete: its end starts the idle time.
#[derive(Debug)]
pub struct Turn {
    conn: Arc<ConnState>,
    number: u64,
}

impl Turn {
    /// Why the client's head is not served. What hyper shows in its stead is made up: answer with this refusal's
    /// status and close.
    pub fn refusal(&self) -> Option<Refusal> {
        self.conn.refused.get().filter(|refused| refused.head == Some(self.number)).map(|refused| refused.refusal)
    }

    /// The request's upgrade is being answered with 101: what the client sends is not HTTP any more.
    pub fn tunnel(self) {
        self.conn.give(Order::Tunnel);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let conn = &self.conn;
        conn.ended.store(conn.ended.load(Relaxed) + 1, Relaxed);
        conn.since_us.store(conn.clock.now_us(), Relaxed);
        let is_open = conn.place.load(Relaxed) == Place::UpgradeAsked as u8
            && conn.upgrade_request.load(Relaxed) == self.number
            && conn.order.load(Relaxed) == Order::None as u8;
        if is_open {
            conn.give(Order::NoTunnel);
        }
    }
}
