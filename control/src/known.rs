//! What controllers know through other crates: how a signing request is read by whoever signs it, how the API server
//! counts what a quota limits, and how a token signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controllers::{Asked, Facts};
use pki::Csr;

/// The facts that are the same in every cluster.
pub(crate) fn facts() -> Facts {
    let recount = admission::resource_quota::recount;
    Facts {
        read_request: Some(read),
        recount: Some(recount),
        sign: Some(pki::join::sign),
        ..Facts::default()
    }
}

fn read(request: &str) -> Option<Asked> {
    let csr = Csr::from_pem(&STANDARD.decode(request).ok()?).ok()?;
    Some(Asked {
        common_name: csr.common_name,
        organizations: csr.organizations,
        dns: csr.names.dns,
        ips: csr.names.ips,
        other_names: csr.other_names,
    })
}
