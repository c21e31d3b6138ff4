//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may let which signer sign what.

use proto_kube::status::Result;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::scene::Scene;
use crate::{Effects, csr};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

pub(crate) fn validate_approval(scene: &Scene<'_>, _: &Value, _: &mut Effects) -> Result<()> {
    match scene.request.old {
        Some(old) if scene.is(GROUP, REQUESTS, "approval") => may(scene, old, "approve"),
        _ => Ok(()),
    }
}

pub(crate) fn validate_signing(scene: &Scene<'_>, request: &Value, _: &mut Effects) -> Result<()> {
    let changed = |old: &Value| {
        ["certificate", "conditions"]
            .iter()
            .any(|key| object::at(old, &["status", key]) != object::at(request, &["status", key]))
    };
    match scene.request.old {
        Some(old) if scene.is(GROUP, REQUESTS, "status") && changed(old) => may(scene, old, "sign"),
        _ => Ok(()),
    }
}

pub(crate) fn validate_subject(scene: &Scene<'_>, request: &Value, _: &mut Effects) -> Result<()> {
    let signer = object::text(request, &["spec", "signerName"]);
    if !scene.is(GROUP, REQUESTS, "") || signer != CLIENT {
        return Ok(());
    }
    let Some(subject) = csr::subject(object::text(request, &["spec", "request"])) else {
        return Err(scene.forbidden("failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"));
    };
    if subject.organizations.iter().any(|group| group == "system:masters") {
        return Err(
            scene.forbidden(format!("use of {CLIENT} signer with system:masters group is not allowed"))
        );
    }
    Ok(())
}

/// Whether the user may do this with the signer, or with all signers of its domain. The stored object says which signer:
/// the new one is the user's word.
fn may(scene: &Scene<'_>, old: &Value, verb: &str) -> Result<()> {
    let signer = object::text(old, &["spec", "signerName"]);
    let signers = GroupResource { group: GROUP, resource: "signers" };
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    if [signer, &domain].iter().any(|name| (scene.request.may)(verb, signers, "", name)) {
        return Ok(());
    }
    Err(scene.forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::request;
    use crate::tests::{Ask, Cluster};

    fn csr(signer: &str, request: &str) -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"signerName": signer, "request": request}})
    }

    #[test]
    fn approving_and_signing_need_permission() {
        let old = csr("example.com/a", "");
        let mut signed = old.clone();
        signed["status"] = json!({"certificate": "x"});
        for (subresource, new, verb) in [
            ("approval", &old, "approve"),
            ("status", &signed, "sign"),
            ("status", &old, ""),
            ("", &signed, ""),
        ] {
            let ask = |may| Ask { may, ..Ask::update(GROUP, REQUESTS, old.clone()).sub(subresource) };
            assert_eq!(ask(true).refusal(new, &Cluster::default()), "");
            let refusal = ask(false).refusal(new, &Cluster::default());
            let expected = format!(
                "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to {verb} requests with signerName \"example.com/a\""
            );
            assert_eq!(refusal, if verb.is_empty() { String::new() } else { expected });
        }
    }

    #[test]
    fn nobody_becomes_a_master_by_certificate() {
        let ask = Ask::create(GROUP, REQUESTS);
        for (signer, groups, allowed) in [
            (CLIENT, vec!["dev"], true),
            (CLIENT, vec!["dev", "system:masters"], false),
            ("example.com/a", vec!["system:masters"], true),
        ] {
            let refusal = ask.refusal(&csr(signer, &request("jane", &groups)), &Cluster::default());
            assert_eq!(refusal.is_empty(), allowed, "{refusal}");
        }
        assert!(ask.refusal(&csr(CLIENT, "bm8="), &Cluster::default()).contains("failed to parse CSR"));
    }
}
