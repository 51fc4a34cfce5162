//! An instance with a capacity: so many requests at once, each of so long, and a queue for the others.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::oneshot};

/// A server whose every request takes a slot for a time. Its threads end with the test's process.
pub struct SlotOrigin {
    address: SocketAddr,
    crowd: Arc<Crowd>,
}

/// The requests that are there.
#[derive(Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A request that waits for a slot, or for its end in one.
type Job = oneshot::Sender<()>;

impl SlotOrigin {
    /// A thread for each slot, as a timer's ticks would be long beside the time that a slot is taken for.
    pub fn start(slots: usize, time: Duration) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..slots {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let next = || queue.lock().expect("no holder panics").recv().ok();
                while let Some(job) = next() {
                    thread::sleep(time);
                    // Who asked may have gone.
                    let _ = job.send(());
                }
            });
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("bound");
        let crowd = Arc::<Crowd>::default();
        let shared = Arc::clone(&crowd);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::from_std(listener).expect("made non-blocking above");
                // Running out of descriptors is the only way to fail, and fails the test by time-out.
                while let Ok((stream, _)) = listener.accept().await {
                    // On a socket that the peer has already closed; serving it will find that out.
                    let _ = stream.set_nodelay(true);
                    let (jobs, crowd) = (jobs.clone(), Arc::clone(&shared));
                    let service = service_fn(move |_| answer(jobs.clone(), Arc::clone(&crowd)));
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address, crowd }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most requests that were there at once, in a slot or waiting for one; counted anew from now.
    pub fn take_most(&self) -> usize {
        self.crowd.most.swap(0, Ordering::AcqRel)
    }
}

async fn answer(jobs: mpsc::Sender<Job>, crowd: Arc<Crowd>) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = crowd.now.fetch_add(1, Ordering::AcqRel) + 1;
    crowd.most.fetch_max(now, Ordering::AcqRel);
    let (job, done) = oneshot::channel();
    jobs.send(job).expect("the slots are there as long as the process");
    // Its end is the job's end, too.
    let _ = done.await;
    crowd.now.fetch_sub(1, Ordering::AcqRel);
    Ok(Response::new(Full::from("done\n")))
}
