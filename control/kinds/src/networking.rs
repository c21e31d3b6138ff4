//! The kinds of the group `networking.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

pub(crate) mod address;
mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;
#[cfg(test)]
mod tests;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "Ingress" => &ingress::Ingress,
        "IngressClass" => &ingress_class::IngressClass,
        "IPAddress" => &ip_address::IpAddress,
        "NetworkPolicy" => &network_policy::NetworkPolicy,
        "ServiceCIDR" => &service_cidr::ServiceCidr,
        _ => return None,
    })
}
