//! A port that nobody serves, and that no other test's socket takes meanwhile.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::wait::{DEADLINE, wait_for};

/// Bound, and not listened on: who connects is refused. Whoever sets `SO_REUSEADDR` and names the port, as servers do,
/// may listen on it all the same; who asks for any free port never gets it.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddr,
    _socket: Socket,
}

impl HeldPort {
    /// Any that is free.
    pub fn any() -> Self {
        Self::of(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// One that a server has left, for the one that comes after it.
    pub fn of(address: SocketAddr) -> Self {
        // A connection of somebody else's may have taken it for a moment.
        let socket = wait_for("the address to be free", DEADLINE, || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
            socket.set_reuse_address(true).ok()?;
            socket.bind(&address.into()).ok()?;
            Some(socket)
        });
        let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
        Self { address, _socket: socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
