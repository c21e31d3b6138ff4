//! Webhooks and admission policies are kept and served but not run. Who relies on one must hear of it.

use proto_kube::status::Result;
use serde_json::Value;

use crate::Effects;
use crate::scene::Scene;

pub(crate) fn validate(scene: &Scene<'_>, _: &Value, effects: &mut Effects) -> Result<()> {
    let resource = scene.request.resource;
    if resource.group == "admissionregistration.k8s.io" && scene.request.subresource.is_empty() {
        effects.warnings.push(format!("this server keeps a {} but does not execute it", resource.kind));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tests::{Ask, Cluster};

    #[test]
    fn who_writes_a_webhook_is_warned() {
        let warnings = |group, resource| {
            let object = json!({"metadata": {"name": "a"}});
            Ask::create(group, resource).validate(&object, &Cluster::usual()).unwrap().warnings
        };
        assert_eq!(
            warnings("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            ["this server keeps a ValidatingWebhookConfiguration but does not execute it"]
        );
        assert!(warnings("", "namespaces").is_empty());
    }
}
