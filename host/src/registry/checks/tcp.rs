//! A connection is accepted.

use tokio::net::TcpStream;

use super::reach;
use crate::registry::instance::CheckStatus;

pub async fn look(target: &str) -> (CheckStatus, String) {
    let connected = async { TcpStream::connect(reach::resolve(target).await?.as_slice()).await };
    match connected.await {
        Ok(_) => (CheckStatus::Passing, format!("TCP connect {target}: success")),
        Err(error) => (CheckStatus::Critical, format!("TCP connect {target}: {error}")),
    }
}
