//! Addresses to which the gateway connects for nobody: at which clouds hand out credentials to whoever asks from within.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services that are not at a link-local address: of Alibaba Cloud, and of Oracle Cloud's first generation.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// Of AWS over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The first 96 bits of an IPv4 address behind NAT64 (RFC 6052, 2.1).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether it is link-local or a cloud's metadata service, in whatever form the address is written.
pub fn hands_out_credentials(address: IpAddr) -> bool {
    match without_wrapping(address) {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA_V6,
    }
}

/// The IPv4 address where one is mapped into IPv6, or translated on the way.
fn without_wrapping(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    if !v6.segments().starts_with(&NAT64) {
        return v6.into();
    }
    let [.., a, b, c, d] = v6.octets();
    Ipv4Addr::new(a, b, c, d).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hands_out_credentials_is_known_in_every_form() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:100.100.100.200",
            "::ffff:192.0.0.192",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b::192.0.0.192",
        ] {
            assert!(hands_out_credentials(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["127.0.0.1", "10.0.0.7", "100.100.100.201", "192.0.0.1", "::1", "fd00:ec2::253", "64:ff9b::10.0.0.7"]
        {
            assert!(!hands_out_credentials(address.parse().expect("an address")), "{address}");
        }
    }
}
