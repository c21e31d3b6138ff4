//! Addresses and networks in the fields of objects. Old fields took numbers with leading zeros and IPv4 addresses in
//! IPv6 form; what is there stays, what is new must be in today's form.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proto_kube::field::Path;

use crate::check::Field;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_NETWORK: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address in today's form, or with leading zeros.
pub(crate) fn sloppy(text: &str) -> Option<IpAddr> {
    let zeros = || {
        let part = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u8>().ok()).flatten()
        };
        let parts: Option<Vec<u8>> = text.split('.').map(part).collect();
        let parts: [u8; 4] = parts?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(parts)))
    };
    text.parse().ok().or_else(zeros)
}

/// A network in today's form, or with leading zeros: an address and how many of its bits name the network.
fn sloppy_network(text: &str) -> Option<(IpAddr, IpNet)> {
    let (address, bits) = text.split_once('/')?;
    let bits = bits.bytes().all(|b| b.is_ascii_digit()).then(|| bits.parse::<u8>().ok()).flatten()?;
    let address = sloppy(address)?;
    IpNet::new(address, bits).ok().map(|network| (address, network))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn strict(text: &str) -> Result<IpAddr, &'static str> {
    let address = sloppy(text).ok_or(NO_ADDRESS)?;
    match text.parse::<IpAddr>() {
        Err(_) => Err("must not have leading 0s"),
        Ok(address) if is_mapped(address) => Err("must not be an IPv4-mapped IPv6 address"),
        Ok(_) => Ok(address),
    }
}

/// What keeps a text from being the one form that an address has.
pub(crate) fn canonical_fault(text: &str) -> Option<String> {
    match strict(text) {
        Err(why) => Some(why.to_owned()),
        Ok(address) if address.to_string() != text => {
            Some(format!("must be in canonical form ({:?})", address.to_string()))
        }
        Ok(_) => None,
    }
}

/// Rule: an address.
pub(crate) fn ip(at: &Field<'_>) {
    if let Err(why) = strict(at.text()) {
        at.invalid(why);
    }
}

fn network_fault(text: &str) -> Option<&'static str> {
    let Some((address, network)) = sloppy_network(text) else { return Some(NO_NETWORK) };
    let (head, bits) = text.split_once('/').unwrap_or((text, ""));
    let zeros = head.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0'));
    if zeros {
        Some("must not have leading 0s in IP or prefix length")
    } else if is_mapped(address) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else {
        (network.network() != address).then_some("must not have bits set beyond the prefix length")
    }
}

/// Rule: a network.
pub(crate) fn network(at: &Field<'_>) {
    if let Some(why) = network_fault(at.text()) {
        at.invalid(why);
    }
}

/// Rule: a network in the one form that it has.
pub(crate) fn canonical_network(at: &Field<'_>) {
    match (network_fault(at.text()), sloppy_network(at.text())) {
        (Some(why), _) => at.invalid(why),
        (None, Some((_, network))) if network.trunc().to_string() != at.text() => {
            at.invalid(format!("must be in canonical form ({:?})", network.trunc().to_string()));
        }
        _ => {}
    }
}

/// The network that a text names, whatever its form.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    sloppy_network(text).map(|(_, network)| network.trunc())
}

/// What to say of an address that is right, in a form that it should not have.
pub(crate) fn ip_warning(path: &Path, text: &str) -> Option<String> {
    let address = sloppy(text)?;
    let plain = text.parse::<IpAddr>().ok().filter(|address| !is_mapped(*address));
    match plain {
        None => Some(format!(
            "{path}: non-standard IP address {text:?} is invalid: use {:?}",
            address.to_canonical().to_string()
        )),
        Some(IpAddr::V6(v6)) if v6.to_string() != text => Some(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            v6.to_string()
        )),
        Some(_) => None,
    }
}

/// What to say of a network that is right, in a form that it should not have.
pub(crate) fn network_warnings(path: &Path, text: &str) -> Vec<String> {
    let Some((address, network)) = sloppy_network(text) else { return Vec::new() };
    let whole = network.trunc().to_string();
    let mut warnings = Vec::new();
    if network.network() != address {
        let single = format!("{address}/{}", network.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {whole:?} or {single:?}?)"
        ));
    }
    let fault = network_fault(text);
    if fault.is_some_and(|why| !why.starts_with("must not have bits")) {
        warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use {whole:?}"));
    }
    if warnings.is_empty() && address.is_ipv6() && network.to_string() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})",
            network.to_string()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, fault) in [
            ("10.0.0.1", None),
            ("2001:db8::1", None),
            ("2001:DB8::1", Some("must be in canonical form (\"2001:db8::1\")")),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.0.0", Some(NO_ADDRESS)),
            ("fe80::1%eth0", Some(NO_ADDRESS)),
        ] {
            assert_eq!(canonical_fault(text).as_deref(), fault, "{text}");
        }
    }

    #[test]
    fn networks() {
        for (text, fault) in [
            ("10.0.0.0/8", None),
            ("2001:db8::/32", None),
            ("10.0.0.1/8", Some("must not have bits set beyond the prefix length")),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.0/33", Some(NO_NETWORK)),
            ("10.0.0.0", Some(NO_NETWORK)),
        ] {
            assert_eq!(network_fault(text), fault, "{text}");
        }
        let path = Path::new("a");
        assert_eq!(network_warnings(&path, "10.0.0.0/8"), Vec::<String>::new());
        assert_eq!(
            network_warnings(&path, "10.0.0.1/8"),
            [
                "a: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert_eq!(
            ip_warning(&path, "01.2.3.4").as_deref(),
            Some("a: non-standard IP address \"01.2.3.4\" is invalid: use \"1.2.3.4\"")
        );
    }
}
