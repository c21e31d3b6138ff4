//! The machine's own upstream servers.

use std::net::{IpAddr, SocketAddr};

/// How many servers are asked at most, as the C library does.
const SERVERS_MAX: usize = 3;

/// Servers of a `resolv.conf(5)`, without those at `ours`: a server that asks itself never ends.
#[must_use]
pub(crate) fn servers(text: &str, ours: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if let Some(ip) = server.filter(|ip| !ours.contains(ip) && !ip.is_unspecified()) {
            found.push(SocketAddr::new(ip, 53));
        }
    }
    found.truncate(SERVERS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_itself() {
        let text = "# a\nnameserver 10.96.0.10\nnameserver  192.0.2.1\nsearch a b\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1 \nnameserver 192.0.2.2\nnameserver 192.0.2.3\n; nameserver 192.0.2.4";
        let found = servers(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]
        );
    }
}
