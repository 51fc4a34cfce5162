//! Host and port: RFC 3986 §3.2, as far as HTTP needs it.

use std::net::Ipv6Addr;

use super::bytes::{self, NAME};

/// RFC 1035 §2.3.4.
const HOST_LEN_MAX: usize = 255;

/// Whether it is a host, perhaps with a port, and nothing else. Empty is not: RFC 9110 §4.2.1.
pub fn is_authority(authority: &[u8]) -> bool {
    let host_len = match authority.first() {
        Some(b'[') => match authority.iter().position(|&byte| byte == b']') {
            Some(end) if is_ipv6(&authority[1..end]) => end + 1,
            _ => return false,
        },
        _ => bytes::span(authority, NAME),
    };
    (1..=HOST_LEN_MAX).contains(&host_len) && is_port(&authority[host_len..])
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a number that fits.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
        }
        _ => false,
    }
}
