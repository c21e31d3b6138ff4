//! Manifest validation.
use k8s_openapi::api::core::v1::Pod;
/// x
pub fn static_pod(_pod: &Pod) -> Vec<String> {
    Vec::new()
}
