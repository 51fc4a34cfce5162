//! Between many who ask and one who serves: what is asked while it serves waits, and is served together.
//!
//! A thread of its own serves what waits. Whoever asks while nobody is served does it on its own thread, if that may block:
//! that spares two changes of threads, each of which takes as long as a tenth of a sync or more, so that a single writer
//! waits for little but the disk. Under load somebody is always being served, and the thread takes all that waits.
//!
//! Before a thread of the runtime blocks it hands over to another one, which costs a single writer those changes of threads
//! all the same. So where one asks at a time, and it has been so for a while, the thread [just blocks](super::blocking).

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tokio::task::block_in_place;

use super::blocking;

/// `A` is asked, `S` serves. Each of what is asked has its own way to be answered, and its own bound.
pub struct Desk<A, S> {
    queue: Mutex<Queue<A>>,
    /// Something is queued, or due earlier, or nothing will be any more.
    came: Condvar,
    server: Mutex<S>,
    serve: fn(&mut S, &mut VecDeque<A>),
}

struct Queue<A> {
    asked: VecDeque<A>,
    /// How many of them have no time.
    urgent: usize,
    /// When what is queued is served at the latest; None: nothing is.
    due: Option<Instant>,
    is_closed: bool,
    /// How often in a row no more than one was served, and nobody waited then.
    lone: u32,
}

/// So many that asked alone make it likely that the next one does.
const CALM_AFTER: u32 = 16;

impl<A, S> Desk<A, S> {
    /// `serve` is given what waits in its order, and may leave some of the last for its next turn, but not all.
    pub fn new(server: S, serve: fn(&mut S, &mut VecDeque<A>)) -> Self {
        let queue = Queue { asked: VecDeque::new(), urgent: 0, due: None, is_closed: false, lone: 0 };
        Self { queue: Mutex::new(queue), came: Condvar::new(), server: Mutex::new(server), serve }
    }

    /// Dropped where the desk is closed: whoever waits for its answer sees that nobody will give one.
    pub fn ask(&self, asked: A) {
        let is_calm = {
            let mut queue = lock(&self.queue);
            if queue.push(asked, Instant::now()).is_none() {
                return;
            }
            queue.urgent += 1;
            queue.lone >= CALM_AFTER
        };
        if blocking::runtime().is_none() {
            return self.came.notify_one();
        }
        let server = match self.server.try_lock() {
            Ok(server) => server,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.came.notify_one(),
        };
        match is_calm.then(blocking::here).flatten() {
            Some(_here) => self.serve_queued(server),
            None => block_in_place(|| self.serve_queued(server)),
        }
    }

    /// The same for what has time: it is served together with the next that has none, or after `patience`.
    pub fn ask_later(&self, asked: A, patience: Duration) {
        let is_due_first = lock(&self.queue).push(asked, Instant::now() + patience);
        if is_due_first == Some(true) {
            self.came.notify_one();
        }
    }

    /// Nothing is taken any more.
    pub fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.came.notify_one();
    }

    /// On a thread of its own: until it is closed, nothing waits, and nothing is served any more elsewhere.
    pub fn keep_serving(&self) {
        while self.something_came() {
            self.serve_queued(lock(&self.server));
        }
        drop(lock(&self.server));
    }

    /// Something beside the queue, of which what waits may be made a part; None where it is closed.
    pub fn with<R>(&self, serve: impl FnOnce(&mut S, &mut VecDeque<A>) -> R) -> Option<R> {
        let mut server = lock(&self.server);
        let mut asked = {
            let mut queue = lock(&self.queue);
            if queue.is_closed {
                return None;
            }
            queue.take()
        };
        let served = serve(&mut server, &mut asked);
        self.leave(server, asked);
        Some(served)
    }

    fn serve_queued(&self, mut server: MutexGuard<'_, S>) {
        let mut asked = lock(&self.queue).take();
        if !asked.is_empty() {
            (self.serve)(&mut server, &mut asked);
        }
        self.leave(server, asked);
    }

    /// What was left is served before what came meanwhile.
    fn leave(&self, server: MutexGuard<'_, S>, left: VecDeque<A>) {
        let mut queue = lock(&self.queue);
        queue.lone = if queue.urgent == 0 && left.is_empty() { queue.lone.saturating_add(1) } else { 0 };
        queue.put_back(left);
        let (waits, is_closed) = (!queue.asked.is_empty(), queue.is_closed);
        drop(queue);
        if waits && is_closed {
            // The thread may have seen an empty queue, and ended.
            return self.serve_queued(server);
        }
        drop(server);
        if waits {
            self.came.notify_one();
        }
    }

    /// Waits until something is due. Not: it is closed, and nothing waits.
    fn something_came(&self) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            let now = Instant::now();
            match queue.due {
                Some(due) if queue.is_closed || due <= now => return true,
                Some(due) => {
                    let waited = self.came.wait_timeout(queue, due - now);
                    (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
                None if queue.is_closed => return false,
                None => queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl<A> Queue<A> {
    /// Whether it is due before all that was there. None: it is closed, and this is dropped.
    fn push(&mut self, asked: A, due: Instant) -> Option<bool> {
        if self.is_closed {
            return None;
        }
        self.asked.push_back(asked);
        let is_first = self.due.is_none_or(|earlier| due < earlier);
        if is_first {
            self.due = Some(due);
        }
        Some(is_first)
    }

    fn take(&mut self) -> VecDeque<A> {
        self.due = None;
        if std::mem::take(&mut self.urgent) > 1 {
            self.lone = 0;
        }
        std::mem::take(&mut self.asked)
    }

    /// Before what came meanwhile.
    fn put_back(&mut self, left: VecDeque<A>) {
        if !left.is_empty() {
            self.due = Some(Instant::now());
            self.urgent += left.len();
        }
        for asked in left.into_iter().rev() {
            self.asked.push_front(asked);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_has_time_goes_with_the_next_that_has_none_or_when_its_patience_ends_or_all_does() {
        let (served, serving) = mpsc::channel();
        let serve = |served: &mut mpsc::Sender<Vec<u32>>, asked: &mut VecDeque<u32>| {
            served.send(asked.drain(..).collect()).expect("the test listens");
        };
        let desk = Arc::new(Desk::new(served, serve));
        let thread = std::thread::spawn({
            let desk = Arc::clone(&desk);
            move || desk.keep_serving()
        });
        let next = || serving.recv_timeout(Duration::from_secs(60)).expect("something is served");
        desk.ask_later(1, LONG);
        desk.ask(2);
        assert_eq!(next(), [1, 2]);
        desk.ask_later(3, LONG);
        desk.ask_later(4, Duration::from_millis(1));
        assert_eq!(next(), [3, 4]);
        desk.ask_later(5, LONG);
        desk.close();
        assert_eq!(next(), [5]);
        thread.join().expect("it ends");
    }

    /// Serves once something comes for it.
    struct Slow {
        begun: mpsc::Sender<()>,
        goes_on: mpsc::Receiver<()>,
        served: Arc<Mutex<Vec<u8>>>,
    }

    #[test]
    fn it_is_closed_once_what_is_served_elsewhere_is_served() {
        let ((begun, begins), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let served = Arc::default();
        let slow = Slow { begun, goes_on, served: Arc::clone(&served) };
        let desk = Arc::new(Desk::new(slow, |slow, asked: &mut VecDeque<u8>| {
            slow.begun.send(()).expect("the test waits for it");
            slow.goes_on.recv().expect("the test lets it go on");
            lock(&slow.served).extend(asked.drain(..));
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("it starts");
        let asking = Arc::clone(&desk);
        let asker = runtime.spawn(async move { asking.ask(7) });
        begins.recv().expect("it is served by whoever asked");
        desk.close();
        let serving = Arc::clone(&desk);
        let (ended, ends) = mpsc::channel();
        std::thread::spawn(move || {
            serving.keep_serving();
            ended.send(lock(&served).clone())
        });
        assert!(ends.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "it is being served");
        go_on.send(()).expect("it waits");
        assert_eq!(ends.recv().expect("it ends"), [7]);
        runtime.block_on(asker).expect("it ends");
        assert_eq!(desk.with(|_, _| ()), None, "it is closed");
    }

    /// What is served, and on which thread.
    type Served = mpsc::Sender<std::thread::ThreadId>;

    /// Serves at once, but for what is not 0: that waits until the test lets it go on.
    struct Gate {
        served: Served,
        goes_on: mpsc::Receiver<()>,
    }

    #[test]
    fn a_thread_that_blocks_for_one_that_asks_alone_leaves_no_socket_unattended() {
        let ((served, serving), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let desk = Arc::new(Desk::new(Gate { served, goes_on }, |gate, asked: &mut VecDeque<u8>| {
            for number in asked.drain(..) {
                gate.served.send(std::thread::current().id()).expect("the test listens");
                if number > 0 {
                    gate.goes_on.recv().expect("the test lets it go on");
                }
            }
        }));
        let watching = Arc::clone(&desk);
        let thread = std::thread::spawn(move || watching.keep_serving());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("it starts");
        let listen = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let listeners = [listen(), listen()];
        let connect = listeners.each_ref().map(|listener| listener.local_addr().expect("bound"));
        let connect = connect.map(|address| move || std::net::TcpStream::connect(address).expect("it listens"));
        let [first, second] = listeners;
        let asking = Arc::clone(&desk);
        let asker = runtime.spawn(async move {
            first.accept().await.expect("the test connects");
            for _ in 0..CALM_AFTER {
                asking.ask(0);
            }
            // The thread that waits for the sockets is the one that goes on here.
            first.accept().await.expect("the test connects once more");
            let here = std::thread::current().id();
            asking.ask(1);
            here
        });
        let (accepted, accepts) = mpsc::channel();
        runtime.spawn(async move { accepted.send(second.accept().await.is_ok()) });
        let _first = connect[0]();
        for _ in 0..CALM_AFTER {
            serving.recv().expect("it is served");
        }
        let _again = connect[0]();
        let served_on = serving.recv().expect("it is served");
        let _second = connect[1]();
        assert_eq!(accepts.recv_timeout(Duration::from_secs(60)), Ok(true), "the runtime stands still");
        go_on.send(()).expect("it waits");
        let here = runtime.block_on(asker).expect("it ends");
        assert_eq!(served_on, here, "it was served elsewhere");
        desk.close();
        thread.join().expect("it ends");
    }
}
