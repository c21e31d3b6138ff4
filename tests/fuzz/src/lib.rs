//! What must hold whatever bytes a client sends or a disk gives back. `cargo test` tries each law on examples and
//! their mutations for a moment; cargo-fuzz (`libfuzzer`, beside this) does so for as long as one likes.
#![forbid(unsafe_code)]

mod examples;
mod laws;
pub mod mutate;

/// A law, and what it is tried on first.
#[derive(Clone, Copy)]
pub struct Law {
    /// As cargo-fuzz calls its target.
    pub name: &'static str,
    law: fn(&[u8]),
    examples: fn() -> Vec<Vec<u8>>,
}

impl Law {
    /// Tries it on any bytes.
    ///
    /// # Panics
    /// When the law is broken.
    pub fn try_on(&self, data: &[u8]) {
        (self.law)(data);
    }

    /// Bytes that lead deep into the code; more are found by changing them.
    #[must_use]
    pub fn examples(&self) -> Vec<Vec<u8>> {
        (self.examples)()
    }
}

/// All laws.
pub const LAWS: [Law; 15] = [
    Law { name: "json", law: proto_kube::fuzz::json, examples: examples::typed_json },
    Law { name: "yaml", law: proto_kube::fuzz::yaml, examples: examples::typed_yaml },
    Law { name: "wire", law: proto_kube::fuzz::wire, examples: examples::wire },
    Law { name: "round_trip", law: laws::round_trip, examples: examples::typed_json },
    Law { name: "selectors", law: laws::selectors, examples: examples::selectors },
    Law { name: "request", law: laws::request, examples: examples::requests },
    Law { name: "json_patch", law: patch::fuzz::json, examples: examples::json_patches },
    Law { name: "merge_patch", law: patch::fuzz::merge, examples: examples::two_documents },
    Law { name: "strategic", law: patch::fuzz::strategic, examples: examples::two_documents },
    Law { name: "apply", law: patch::fuzz::apply, examples: examples::two_documents },
    Law { name: "managed_fields", law: patch::fuzz::fields, examples: examples::managed_fields },
    Law { name: "kinds", law: laws::kinds, examples: examples::resources },
    Law { name: "update", law: laws::update, examples: examples::updates },
    Law { name: "dns", law: dns::fuzz::message, examples: examples::dns },
    Law { name: "recovery", law: store::fuzz::recovery, examples: examples::logs },
];

/// The law of a name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn law(name: &str) -> Law {
    LAWS.into_iter().find(|law| law.name == name).expect("a target has the name of a law")
}
