//! Kinds of storage and of devices, as the API keeps them.

use anyhow::{Result, ensure};
use conformance::{Bed, holds, operations, pod, with_spec};
use proto_kube::object::{items, name, text, uid};
use serde_json::{Value, json};

/// All that the API lets one do with a kind.
pub(crate) async fn kept(bed: Bed, plural: &str, object: Value) -> Result<()> {
    operations(&bed, plural, |_| object.clone(), Value::Null).await
}

/// A kind of the cluster whose objects have a status.
pub(crate) fn attachment() -> Value {
    let source = json!({"persistentVolumeName": "none-such"});
    json!({"spec": {"attacher": "example.com", "nodeName": "none-such", "source": source}})
}

pub(crate) async fn attachment_status(bed: Bed) -> Result<()> {
    let (plural, one) = ("volumeattachments", bed.namespace.clone());
    let mut object = attachment();
    object["metadata"] = json!({"name": one});
    bed.create(plural, object).await?;
    let object = bed.patch(plural, &one, json!({"metadata": {"labels": {"case": one}}})).await?;
    ensure!(object["metadata"]["labels"]["case"] == one.as_str(), "{object:#}");
    let attached = |object: &Value| object["status"]["attached"].as_bool();
    ensure!(attached(&bed.get(plural, &one).await?) != Some(true), "attached from the start");
    let object = bed.patch(plural, &format!("{one}/status"), json!({"status": {"attached": true}})).await?;
    ensure!(attached(&object) == Some(true), "{object:#}");
    let object =
        bed.update_status(plural, &one, |object| object["status"]["attached"] = false.into()).await?;
    ensure!(attached(&object) == Some(false), "{object:#}");
    bed.delete(plural, &one).await?;
    bed.gone(plural, &one).await
}

/// A pod with a volume of a CSI driver that nobody has installed.
pub(crate) async fn csi_pod(bed: Bed) -> Result<()> {
    let csi = json!({"driver": "none-such.example.com", "readOnly": false, "fsType": "ext4", "volumeAttributes": {"a": "1"}});
    let mut object = with_spec(pod("p", "true"), json!({"volumes": [{"name": "v", "csi": csi}]}));
    object["metadata"]["labels"] = json!({"of": "csi"});
    bed.create("pods", object).await?;
    let object = bed.get("pods", "p").await?;
    ensure!(items(&object, &["spec", "volumes"]).any(|volume| volume["csi"] == csi), "{:#}", object["spec"]);
    ensure!(bed.list("pods", "of=csi").await?.len() == 1, "the pod is not listed");
    let object = bed.patch("pods", "p", json!({"metadata": {"labels": {"patched": "true"}}})).await?;
    ensure!(object["metadata"]["labels"]["patched"] == "true", "{:#}", object["metadata"]);
    bed.delete("pods", "p").await?;
    bed.gone("pods", "p").await
}

/// A volume and its claim, of a storage class of their own.
struct Pair {
    volume: String,
    claim: &'static str,
}

impl Pair {
    async fn create(bed: &Bed, number: usize) -> Result<Self> {
        let class = format!("{}-{number}", bed.namespace);
        let shared = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"]});
        let labels = json!({"case": bed.namespace});
        let volume = json!({
            "capacity": {"storage": "1Mi"}, "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "none-such.example.com", "volumeHandle": class},
        });
        let claim = json!({"resources": {"requests": {"storage": "1Mi"}}});
        let object = |name: &str, spec: Value| json!({"metadata": {"name": name, "labels": labels}, "spec": conformance::with(spec, "", shared.clone())});
        bed.create("persistentvolumes", object(&class, volume)).await?;
        bed.create("persistentvolumeclaims", object("claim", claim)).await?;
        Ok(Self { volume: class, claim: "claim" })
    }

    fn both(&self) -> [(&'static str, &str); 2] {
        [("persistentvolumeclaims", self.claim), ("persistentvolumes", &self.volume)]
    }
}

async fn found(bed: &Bed) -> Result<()> {
    let selector = format!("case={}", bed.namespace);
    ensure!(
        bed.list("persistentvolumes", &selector).await?.len() == 1,
        "the volume is not found by its label"
    );
    ensure!(bed.list("persistentvolumeclaims", "").await?.len() == 1, "the claim is not listed");
    Ok(())
}

pub(crate) async fn volume_and_claim(bed: Bed) -> Result<()> {
    let pair = Pair::create(&bed, 1).await?;
    found(&bed).await?;
    for (plural, one) in pair.both() {
        let label = json!({"metadata": {"labels": {"patched": "true"}}});
        let patched = bed.patch(plural, one, label.clone()).await?;
        let read = bed.get(plural, one).await?;
        ensure!(holds(&patched, &label) && uid(&read) == uid(&patched) && name(&read) == one, "{patched:#}");
    }
    for (plural, one) in pair.both() {
        bed.delete(plural, one).await?;
        bed.gone(plural, one).await?;
    }
    let pair = Pair::create(&bed, 2).await?;
    let selector = format!("case={}", bed.namespace);
    for (plural, one) in pair.both() {
        let object =
            bed.update(plural, one, |object| object["metadata"]["labels"]["updated"] = "true".into()).await?;
        ensure!(object["metadata"]["labels"]["updated"] == "true", "{object:#}");
        bed.delete_all(plural, &selector).await?;
        bed.until_all(plural, &selector, <[Value]>::is_empty).await?;
    }
    Ok(())
}

pub(crate) async fn volume_and_claim_status(bed: Bed) -> Result<()> {
    let pair = Pair::create(&bed, 1).await?;
    found(&bed).await?;
    for (plural, one) in pair.both() {
        let object = bed.get(plural, one).await?;
        let phase = text(&object, &["status", "phase"]);
        ensure!(["Pending", "Available", "Bound"].contains(&phase), "{plural}: {phase:?}");
    }
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "Said", "message": "by the case"});
    let [(claims, claim), (volumes, volume)] = pair.both();
    let said = |reason: &str| json!({"status": {"reason": reason, "message": "by the case"}});
    let patched = json!({"status": {"conditions": [condition("Patched")]}});
    ensure!(
        holds(&bed.patch(claims, &format!("{claim}/status"), patched.clone()).await?, &patched),
        "no condition"
    );
    ensure!(
        holds(&bed.patch(volumes, &format!("{volume}/status"), said("Patched")).await?, &said("Patched")),
        "no reason"
    );
    let updated = json!([condition("Updated")]);
    let object =
        bed.update_status(claims, claim, |object| object["status"]["conditions"] = updated.clone()).await?;
    ensure!(holds(&object["status"]["conditions"], &updated), "{object:#}");
    let object =
        bed.update_status(volumes, volume, |object| object["status"]["reason"] = "Updated".into()).await?;
    ensure!(holds(&object, &said("Updated")), "{object:#}");
    Ok(())
}
