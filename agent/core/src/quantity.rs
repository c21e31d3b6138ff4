//! Quantities of resources, as typed objects carry them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use proto_kube::quantity::{Amount, NotAQuantity};

/// Of an API quantity; `None` when it is none.
#[must_use]
pub fn amount(quantity: &Quantity) -> Option<Amount> {
    Amount::parse(&quantity.0).ok()
}
